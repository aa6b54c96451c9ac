"""What is proposed where memory runs out keeps the samples of a step."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.core.shortages import less_memory, ran_out_of_memory


@given(st.integers(1, 5000), st.integers(1, 64), st.none() | st.integers(1, 5000))
def test_proposals_lead_down_to_one_sample(batch: int, ranks: int, at_once: int | None) -> None:
    part = min(-(-batch // ranks), at_once or batch)
    for _ in range(14):
        found = re.search(r"device_batch_size=(\d+)`", less_memory("r", batch, ranks, at_once))
        if found is None:
            assert part == 1
            return
        at_once = int(found[1])
        assert 1 <= at_once < part
        part = at_once
    raise AssertionError("it never ends")


def test_the_proposal_can_be_pasted() -> None:
    said = less_memory("2026-11-22_10-00-00", 32, 1, None)
    assert said.startswith("`tsuzuku resume 2026-11-22_10-00-00 device_batch_size=16`")
    assert "same batches of 32 samples" in said
    assert "bf16" in less_memory("r", 1, 1, None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_known(error: Exception) -> None:
    wrapped = ValueError("a plug-in's own words")
    wrapped.__cause__ = error
    assert ran_out_of_memory(error)
    assert ran_out_of_memory(wrapped)
    assert not ran_out_of_memory(ValueError("out of ideas"))
