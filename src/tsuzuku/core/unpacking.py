"""What an archive declares, looked at before anybody unpacks it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tsuzuku.core.errors import CorruptCheckpoint

MOST_RATIO = 16
"""How many times its own size a file may unpack to: weights are far from it, bombs beyond."""
ALWAYS = 64 << 20
"""Bytes that any file may unpack to."""


def require_bounded(path: Path) -> None:
    """Raise CorruptCheckpoint if a zip file at `path` would unpack to far more than it is, or if
    nobody can tell.

    Files of other kinds pass. Raises OSError if it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
        try:
            with zipfile.ZipFile(file) as archive:
                declared = sum(part.file_size for part in archive.infolist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            # torch's reader may be less strict, and what it would unpack is not known
            raise CorruptCheckpoint(f"{path.name} cannot be opened: {error}.") from None
    if declared > max(ALWAYS, MOST_RATIO * path.stat().st_size):
        raise CorruptCheckpoint(
            f"{path.name} was refused: it would unpack to {declared:,} bytes, more than "
            f"{MOST_RATIO} times its size."
        )
