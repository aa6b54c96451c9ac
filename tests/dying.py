"""Crashes: a forked child performs an operation and dies without warning just before, or just
after, its n-th call to the operating system; n grows until the operation gets through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

CALLS = ("replace", "rename", "unlink", "link", "symlink", "fsync", "open", "mkdir")


def dying(operation: Callable[[], object], nth: int, after: bool) -> bool:
    """Run `operation` in a child that ends at its nth call; whether it got to the end."""
    child = os.fork()
    if child == 0:
        count = 0

        def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == nth and not after:
                    os._exit(9)
                try:
                    return call(*args, **kwargs)
                finally:
                    if count == nth:
                        os._exit(9)

            return counting

        try:
            for name in CALLS:
                setattr(os, name, wrapped(getattr(os, name)))
            operation()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the operation itself failed"
    return status == 0


def crashes(operation: Callable[[], object], prepare: Callable[[], object]) -> Iterator[int]:
    """Prepare and crash at every call in turn, before and after it; yields the number of each."""
    for after in (False, True):
        for nth in range(1, 100):
            prepare()
            done = dying(operation, nth, after)
            yield nth
            if done:
                assert nth > 1
                break
        else:
            raise AssertionError("it never got through")
