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


def less_memory(run_id: str, batch_size: int, ranks: int, at_once: int | None) -> str:
    """What to do about a training that ran out of memory.

    `at_once` is its `device_batch_size`. What is proposed leads to the same steps of the same
    samples, in the same run.
    """
    part = -(-batch_size // ranks)
    now = min(part, at_once or part)
    if now == 1:
        return (
            "A batch of 1 is the smallest: try training.precision=bf16, a smaller model or shorter "
            "samples."
        )
    return (
        f"`tsuzuku resume {run_id} device_batch_size={-(-now // 2)}` needs less memory: "
        f"it computes the same batches of {batch_size} samples in more passes."
    )


def says_nothing_of_the_file(error: BaseException) -> bool:
    """Whether a good file could have met this error, too: memory, rights or handles lack."""
    return ran_out_of_memory(error) or (isinstance(error, OSError) and error.errno in LACKING)
