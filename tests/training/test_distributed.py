"""How fast a rank is by itself."""

from __future__ import annotations

import pytest

from tsuzuku.training import distributed
from tsuzuku.training.distributed import Pace


def test_what_a_rank_waits_for_others_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(distributed.time, "perf_counter", lambda: now)
    pace = Pace()
    assert pace.taken() == {}
    for _ in range(4):
        now += 0.010  # its own work
        with pace.waiting():
            now += 0.030
        pace.batch()
        with pace.waiting():  # for whether to stop, say
            now += 0.010
    taken = pace.taken()
    assert taken["batches_per_second"] == pytest.approx(20)
    assert taken["own_ms"] == pytest.approx(10)
    now += 1.0
    assert pace.taken() == {}  # what goes on for longer than a beat counts for the next
    now += 1.0
    pace.batch()
    assert pace.taken()["own_ms"] == pytest.approx(2000)
