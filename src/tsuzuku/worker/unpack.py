"""Unpacking archives that somebody else made: nothing leaves its folder, nothing is unbounded."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.workspace import sync_folder
from tsuzuku.worker.downloads import DownloadFile

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive; `open` gives the content of a file."""

    name: str
    is_folder: bool
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, file: DownloadFile, target: Path) -> None:
    """Unpacks into `target / file.folder`, all or nothing, and deletes the archive.

    Raises TsuzukuError (`bad_archive`) if a member would leave that folder, is absolute, a link
    or a device, is there twice, if they are too many or too large, or if the archive is broken.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{file.name}.", suffix=".tmp", dir=target))
    try:
        with archive.open("rb") as stream:
            packed = _zip_members if archive.suffix == ".zip" else _tar_members
            _extract(packed(stream), file, temporary)
        # Whoever sees this mark sees the complete folder: it is renamed as a whole.
        (temporary / ".archive").write_text(file.checksum)
        temporary.chmod(0o755)
        os.sync()  # thousands of small files: one sync beats an fsync for each
        folder = target / file.folder
        if folder.exists():
            folder.replace(
                Path(tempfile.mkdtemp(prefix=f".{file.name}.", suffix=".tmp", dir=target))
            )
        temporary.replace(folder)
        sync_folder(target)
        archive.unlink()
    except (*ARCHIVE_ERRORS, MemberError) as error:
        detail = f"{archive.name} cannot be unpacked: {error}."
        raise TsuzukuError(detail, "Tell who maintains it.", code="bad_archive") from error
    finally:
        for rest in target.glob(f".{file.name}.*.tmp"):  # of a process that was killed, too
            shutil.rmtree(rest, ignore_errors=True)


ARCHIVE_ERRORS = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
)


class MemberError(Exception):
    """An archive has something in it that no data set needs."""


def _extract(members: Iterator[Member], file: DownloadFile, folder: Path) -> None:
    total = 0
    for number, member in enumerate(members, start=1):
        if number > file.max_members:
            raise MemberError(f"it has more than {file.max_members} members")
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or re.search(r"[\\\0]", member.name):
            raise MemberError(f"the path {member.name!r} is not safe")
        total += member.size
        if total > file.unpacked_size:
            raise MemberError(f"it unpacks to more than {file.unpacked_size:,} bytes")
        path = folder / name
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            source = member.open()
            left = member.size
            while source and (chunk := source.read(min(COPY_BYTES, left))):
                out.write(chunk)
                left -= len(chunk)
        if left:
            raise MemberError(f"{member.name!r} does not have its declared size")


def _tar_members(stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=stream, mode="r:*") as archive:
        for info in archive:
            if not (info.isreg() or info.isdir()):
                raise MemberError(f"{info.name!r} is a link or a device")
            yield Member(info.name, info.isdir(), info.size, partial(archive.extractfile, info))


def _zip_members(stream: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise MemberError(f"{info.filename!r} is a link or a device")
            if info.flag_bits & 1:
                raise MemberError(f"{info.filename!r} is encrypted")
            opened = partial(archive.open, info)
            yield Member(info.filename, info.is_dir(), info.file_size, opened)
