"""What is proposed where memory runs out keeps the samples of a step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.core.shortages import less_memory, ran_out_of_memory, smaller_batch


@given(st.integers(2, 5000), st.integers(1, 64))
def test_a_smaller_batch_keeps_the_samples_of_a_step(batch: int, accumulate: int) -> None:
    found = smaller_batch(batch, accumulate)
    assert found is not None
    assert found[0] * found[1] == batch * accumulate
    assert 1 <= found[0] < batch
    again = smaller_batch(*found)
    assert (again is None) == (found[0] == 1), "proposals lead down to a batch of 1"


def test_the_proposal_can_be_pasted() -> None:
    said = less_memory("2026-11-22_10-00-00", 32, 1)
    words = "`tsuzuku resume 2026-11-22_10-00-00 batch_size=16 accumulate_grad_batches=2`"
    assert said.startswith(words)
    assert "keeps 32 samples" in said
    assert "bf16" in less_memory("r", 1, 4)


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
