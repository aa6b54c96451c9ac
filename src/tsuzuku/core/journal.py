"""A run's journal, `logs/events.jsonl`: its events, from which the database can be made again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir

_line = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def write(run: RunDir, events: Sequence[Event], *, mend: bool = False) -> None:
    """Append events as `Store.append` numbered them; with `mend`, first end a line that a crash
    has cut short.

    Raises OSError.
    """
    lines = [_line(dict(event)) for event in events]
    with run.journal.open("a", encoding="utf-8") as journal:
        if mend:
            journal.write("\n" * _is_torn(run.journal))
        journal.write("\n".join(lines) + "\n")


def tell(
    store: Store, run: RunDir, events: Sequence[Event], *, unless_ended: bool = False
) -> list[Event]:
    """Store events of a run for good, in its journal too; the same numbered.

    With `unless_ended`, nothing and an empty list if the run has a final status already.
    """
    ended = run.run_id if unless_ended else None
    numbered = store.append(events, durable=True, unless_ended=ended)
    if numbered:
        with contextlib.suppress(OSError):  # the folder may have been deleted by hand
            write(run, numbered, mend=True)
    return numbered


def _is_torn(path: Path) -> bool:
    """Whether a crash cut the last line of a file short."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
