"""Sidecars: `NAME.pt.json` says what is in `NAME.pt`, so that nobody need open that to know."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsuzuku.core.schemas import jsonable
from tsuzuku.core.trees import is_tree
from tsuzuku.core.workspace import write_atomically

FORMAT = 2
"""1 had no checksum of its own."""
REMEMBERED = 200
"""Sidecars."""
SETTLED_NS = 100_000_000
"""What is older than this had no other content at its time of change."""

_text = json.JSONEncoder(ensure_ascii=False).encode
_known: dict[Path, tuple[tuple[int, int, int], tuple[Any, bool]]] = {}


def sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def read_sidecar(path: Path, *, remembered: bool = False) -> tuple[Any, bool]:
    """What is in the sidecar of the checkpoint at `path`, and whether it was altered since it was
    written.

    With `remembered` one that nobody has changed is not read again: every save looks at all of a
    run's, beside the training. Raises OSError, and ValueError for what is no JSON.
    """
    if not remembered:
        return _read(sidecar(path))
    now, status = time.time_ns(), sidecar(path).stat()
    found = (status.st_ino, status.st_size, status.st_mtime_ns)
    known = _known.get(path)
    if known is not None and known[0] == found:
        return known[1]
    card = _read(sidecar(path))
    _known.pop(path, None)
    # another file of the same moment, as file systems measure it, could not be told from this one
    if now - status.st_mtime_ns > SETTLED_NS:
        while len(_known) >= REMEMBERED:
            _known.pop(next(iter(_known)), None)
        _known[path] = found, card
    return card


def _read(card: Path) -> tuple[Any, bool]:
    text = card.read_bytes()
    info = json.loads(text)
    # the first version had no checksum
    altered = not is_tree(info) or (
        info.get("format") != 1 and _checksum(text[:-TAIL]) != text[-TAIL:]
    )
    return info, altered


def write_sidecar(path: Path, info: Mapping[str, Any]) -> None:
    """Replace the sidecar of the checkpoint at `path`."""
    plain = jsonable({**info, "format": FORMAT})
    # one line each: json's own indentation is made in Python, which takes ten times as long
    lines = [f" {_text(key)}: {_text(value)}" for key, value in plain.items()]
    head = ("{\n" + ",\n".join(lines)).encode()
    write_atomically(sidecar(path), (head + _checksum(head)).decode(), sync=False)


def _checksum(head: bytes) -> bytes:
    """The last lines of a sidecar that begins with `head`: every bit of it is accounted for."""
    return b',\n "checksum": "%b"\n}' % hashlib.sha256(head).hexdigest().encode()


TAIL = len(_checksum(b""))
