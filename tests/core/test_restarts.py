"""When a run that ended badly is started again: a pure function of its attempts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.core.restarts import LONGEST_DELAY, POINTLESS, GivenUp, Restart, next_restart
from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RestartSettings


def attempts(*starts: int, last: str = "crashed") -> list[Attempt]:
    """Attempts that began at these steps; the newest ended as `last`."""
    given: dict[str, Any] = {"run_id": "r", "pid": 1, "hostname": "h", "started_at": 0.0}
    statuses = ["crashed"] * (len(starts) - 1) + [last]
    return [
        Attempt(attempt=number, start_step=start, status=status, **given)
        for number, (start, status) in enumerate(zip(starts, statuses, strict=True), 1)
    ]


def policy(max_attempts: int = 3, delay: float = 2.0) -> RestartSettings:
    return RestartSettings(policy="on_failure", max_attempts=max_attempts, delay=delay)


@pytest.mark.parametrize(
    ("starts", "tip", "expected"),
    [
        ((0,), 0, Restart(2.0, 1)),  # it died before its first checkpoint
        ((0,), 50, Restart(2.0, 1)),
        ((0, 50), 50, Restart(4.0, 2)),  # one restart in vain
        ((0, 50), 60, Restart(2.0, 1)),  # it got on
        ((0, 50, 50), 50, Restart(8.0, 3)),
        ((0, 50, 50, 50), 50, GivenUp(3)),
        ((0, 50, 50, 50), 51, Restart(2.0, 1)),
        ((0, 50, 60, 60), 60, Restart(8.0, 3)),  # the second got on, the last did not
        ((0, 0, 0), 0, Restart(8.0, 3)),
        ((0, 0, 0, 0), 0, GivenUp(3)),
        ((0, 50, 0, 0), 50, Restart(16.0, 4)),  # two died before they knew where they began
    ],
)
def test_restarts_in_vain_are_counted(
    starts: tuple[int, ...], tip: int, expected: Restart | GivenUp
) -> None:
    allowed = 3 if isinstance(expected, GivenUp) else 9
    assert next_restart(attempts(*starts), tip, policy(allowed)) == expected


@given(st.integers(1, 12), st.floats(0, 1000), st.integers(1, 60))
def test_a_crash_loop_ends(bound: int, delay: float, every: int) -> None:
    """Whatever the policy: at most `bound` restarts, with delays that never shrink."""
    starts = [0]
    delays: list[float] = []
    while isinstance(
        found := next_restart(attempts(*starts), every, policy(bound, delay)), Restart
    ):
        delays.append(found.delay)
        assert found.count == len(delays)
        starts.append(every)
        assert len(starts) <= bound + 1
    assert found == GivenUp(bound)
    assert delays == sorted(delays)
    assert delays[0] == delay
    assert max(delays) <= max(LONGEST_DELAY, delay)


@given(st.integers(1, 40))
def test_a_training_that_gets_on_is_restarted_for_ever(count: int) -> None:
    starts = [step * 10 for step in range(count)]
    found = next_restart(attempts(*starts), count * 10, policy(1))
    assert found == Restart(2.0, 1)


def test_a_count_so_large_that_the_delay_would_overflow() -> None:
    found = next_restart(attempts(*[0] * 5000), 0, policy(10_000))
    assert found == Restart(LONGEST_DELAY, 5000)


def test_what_would_only_fail_again_is_left() -> None:
    for code in POINTLESS:
        assert next_restart(attempts(0, last="failed"), 0, policy(), code) is None
        # an old error says nothing of a crash
        assert next_restart(attempts(0), 0, policy(), code) == Restart(2.0, 1)
    assert next_restart(attempts(0, last="failed"), 0, policy(), "disk_full") == Restart(2.0, 1)
    assert next_restart(attempts(0), 0, RestartSettings()) is None
    assert next_restart([], 0, policy()) is None
