"""Whether a training was stopped because somebody wanted it, or because its machine went down.

A machine that is shut down sends every process SIGTERM, as does who wants a training to stop. The
latter leave a mark first; and only the former is followed by another boot of the machine.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.workspace import RunDir

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux only; where there is none, a stop counts as wanted."""


def boot_id() -> str:
    """The boot under which this process runs; empty if nobody knows."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def ask(run: RunDir) -> None:
    """Mark that the stop which is about to be sent is wanted."""
    with contextlib.suppress(OSError):  # a full disk: then the machine's next boot goes on with it
        run.stop_mark.touch()


def begin(run: RunDir) -> None:
    """Let no earlier stop be taken for one of this attempt."""
    run.stop_mark.unlink(missing_ok=True)


def interrupted_under(run: RunDir, number: int) -> str:
    """The boot under which a signal that nobody here asked for ends an attempt; else empty."""
    unasked = number == signal.SIGTERM and not run.stop_mark.exists()
    return boot_id() if unasked else ""


def machine_went_down(run: RunDir) -> bool:
    """Whether the last attempt was ended by its machine, which has been started again since."""
    try:
        under = run.read_identity().get("interrupted_under")
    except WrongInput:
        return False
    now = boot_id()
    return bool(under) and bool(now) and under != now
