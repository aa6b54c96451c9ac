"""Older checkpoints made smaller, in place: the same file, whose parts are deflated.

`torch.load` opens it as before, and so does everybody who has torch; its sidecar tells that it is
compressed. Weights are noise to a compressor: see docs/checkpoints.md for what it gains.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CHUNK, CheckpointFile, temporary
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.unpacking import MOST_RATIO

LEVEL = 1
"""Of deflate: 9 takes twice as long for 0.3 % less."""
WORTHWHILE = 0.98
"""Compressed it is at most this part of its size, or it stays as it is."""


class GivenUp(Exception):
    """Somebody has more important things to do."""


def candidates(files: Sequence[CheckpointFile], after_n: int | None) -> list[CheckpointFile]:
    """Those (of files, oldest first) that a policy wants compressed and that are not, newest first.

    A file with another name (the best) shares its bytes with it: compressed, it would take more
    room instead of less. One in parts has its tensors in them.
    """
    if after_n is None:
        return []
    older = list(files[::-1])[after_n:]
    return [
        f
        for f in older
        if "compression" not in f.info and parts.KEY not in f.info and f.path.stat().st_nlink == 1
    ]


def compress(file: CheckpointFile, wanted: Callable[[], bool] = lambda: True) -> CheckpointFile:
    """Deflate a checkpoint's parts; the new state of it.

    Killed at any moment, it leaves the old or the new file, with a sidecar that is about it.
    Call it only with the run's lock held. Raises GivenUp as soon as it is not `wanted` any more,
    CorruptCheckpoint if the file is damaged, OSError for failures of the disk.
    """
    checkpoint_files.check(file)
    draft = temporary(file.path)
    try:
        _deflate(file.path, draft, wanted)
        size, before = draft.stat().st_size, int(file.info["size"])
        if not before / MOST_RATIO < size <= before * WORTHWHILE:
            draft.unlink()
            info = {**file.info, "compression": "none"}
            write_sidecar(file.path, info)
            return CheckpointFile(file.path, info)
        return checkpoint_files.exchange(
            file,
            size=size,
            sha256=checkpoint_files.sha256_of(draft),
            compression="deflate",
            uncompressed_size=before,
        )
    except zipfile.BadZipFile as error:
        raise CorruptCheckpoint(f"{file.name} is no archive as torch writes it: {error}.") from None
    finally:
        draft.unlink(missing_ok=True)


def _deflate(source: Path, draft: Path, wanted: Callable[[], bool]) -> None:
    with (
        zipfile.ZipFile(source) as old,
        draft.open("wb") as file,
    ):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as new:
            for part in old.infolist():
                entry = zipfile.ZipInfo(part.filename, part.date_time)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.file_size = part.file_size  # decides whether it may need 64-bit sizes
                with old.open(part) as reader, new.open(entry, "w") as writer:
                    while chunk := reader.read(CHUNK):
                        if not wanted():
                            raise GivenUp
                        writer.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(draft) as new:
        same = [(p.filename, p.file_size, p.CRC) for p in old.infolist()]
        if new.testzip() is not None or same != [
            (p.filename, p.file_size, p.CRC) for p in new.infolist()
        ]:
            raise OSError(f"{draft.name} reads back as something else")
