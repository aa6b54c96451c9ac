"""Telling a machine that lacks something from a file that is bad."""

from __future__ import annotations

import errno

NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What CUDA, torch's allocator for the CPU and the operating system say."""

LACKING = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EINTR}
)
"""Errors of opening and reading that a good file meets as well."""


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether that is what `error` came from; one that explains another counts as well."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, RuntimeError | OSError) and any(w in text for w in NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def smaller_batch(batch_size: int, accumulate: int) -> tuple[int, int] | None:
    """A batch and an accumulation that take less memory for a step of the same samples.

    None for a batch that cannot be divided.
    """
    divisor = next((d for d in range(2, batch_size + 1) if batch_size % d == 0), None)
    return (batch_size // divisor, accumulate * divisor) if divisor else None


def less_memory(run_id: str, batch_size: int, accumulate: int) -> str:
    """What to do about a training that ran out of memory."""
    smaller = smaller_batch(batch_size, accumulate)
    if smaller is None:
        return (
            "A batch of 1 is the smallest: try training.precision=bf16, a smaller model or shorter "
            "samples."
        )
    batch, times = smaller
    return (
        f"`tsuzuku resume {run_id} batch_size={batch} accumulate_grad_batches={times}` needs less "
        f"memory and keeps {batch_size * accumulate} samples a step."
    )


def says_nothing_of_the_file(error: BaseException) -> bool:
    """Whether a good file could have met this error, too: memory, rights or handles lack."""
    return ran_out_of_memory(error) or (isinstance(error, OSError) and error.errno in LACKING)
