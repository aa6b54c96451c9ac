"""Downloads the files of a data set: resumable, checksum-verified, safely unpacked.

Where they come from is described by an entry of a plug-in's `DOWNLOADS`, see `Download`. Sites
without a way to the internet set `TSUZUKU_MIRROR` to the base URL of a server of their own; it
is asked first, for `<base>/<data set>/<file>`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as validated

from tsuzuku import __version__
from tsuzuku.core.errors import Busy, DiskFull, SettingsError, TsuzukuError
from tsuzuku.core.workspace import sync_folder

MIRROR_VARIABLE = "TSUZUKU_MIRROR"
TIMEOUT = httpx.Timeout(30, connect=10)
"""Seconds without a byte (or, to connect, without an answer) until a mirror counts as silent."""
TRIES = 5
"""How often one mirror is asked for one file."""
BACK_OFF = 0.5
"""Seconds before the second try; doubled for each further one."""
SPARE_BYTES = 16 << 20
"""Room that a download leaves on the disk."""
COPY_BYTES = 1 << 20

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+")]


class DownloadFile(BaseModel):
    """One file: its exact size in bytes and its SHA-256, or its MD5 where that is all we have."""

    model_config = ConfigDict(extra="forbid")

    name: FileName
    size: int = Field(gt=0)
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")] | None = None
    urls: list[Url] = []
    """Complete addresses, asked before the `mirrors`."""
    unpack: bool = False
    """The archive (zip, or tar, however compressed) becomes a folder named after it."""
    unpacked_size: int = Field(default=0, ge=0)
    """The most bytes that it may unpack to."""
    max_members: int = Field(default=200_000, gt=0)

    @validated(mode="after")
    def _is_checkable(self) -> Self:
        if not (self.sha256 or self.md5):
            raise ValueError("needs sha256 or md5")
        if self.unpack and not self.unpacked_size:
            raise ValueError("needs unpacked_size to be unpacked")
        if self.name.endswith((".part", ".from")):
            raise ValueError("must not end with .part or .from")
        return self

    @property
    def checksum(self) -> str:
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"

    @property
    def folder(self) -> str:
        """The folder that the archive is unpacked to: its name without endings."""
        stem = re.sub(r"(\.tar)?\.(gz|bz2|xz|tgz|tar|zip)$", "", self.name)
        return stem if stem != self.name else f"{stem}.unpacked"


class Download(BaseModel):
    """An entry of `DOWNLOADS`: a folder in the workspace, the files, and who has them all."""

    model_config = ConfigDict(extra="forbid")

    path: str
    files: list[DownloadFile] = Field(min_length=1)
    mirrors: list[Url] = []
    """Base addresses, asked in this order for `<base>/<file>`."""

    @validated(mode="after")
    def _names_differ(self) -> Self:
        names = [f.name for f in self.files] + [f.folder for f in self.files if f.unpack]
        if len(set(names)) < len(names):
            raise ValueError("two files, or the folders they unpack to, have the same name")
        return self


@dataclass(frozen=True)
class FetchProgress:
    """How far the download of one file is; `message` says what happens to it."""

    file: str
    done_bytes: int
    total_bytes: int
    message: str


Report = Callable[[FetchProgress], None]


class MirrorError(Exception):
    """A mirror does not deliver. With `again`, asking it once more may help."""

    def __init__(self, answer: str, *, again: bool = False) -> None:
        super().__init__(answer)
        self.again = again


def fetch(name: str, spec: Mapping[str, Any], target: Path, report: Report) -> None:
    """Brings every file of the data set `name` into the folder `target`.

    `spec` is an entry of `DOWNLOADS`. Files that are there and intact are left alone; a download
    that was cut, by whatever, goes on where it stopped. A file has its name only once its
    checksum was right. Raises SettingsError for a wrong `spec`, Busy while somebody else
    downloads to `target`, DiskFull, and TsuzukuError (`download_failed`, `bad_archive`).
    """
    download = _checked(name, spec)
    own = os.environ.get(MIRROR_VARIABLE, "").strip()
    if own and not re.match(r"https?://[^\s/]+", own):
        raise SettingsError([f"{own!r} is not the URL of an http server."], MIRROR_VARIABLE)
    bases = [f"{own.rstrip('/')}/{name}"] if own else []
    headers = {"Accept-Encoding": "identity", "User-Agent": f"tsuzuku/{__version__}"}
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (
            _locked(target),
            httpx.Client(timeout=TIMEOUT, follow_redirects=True, headers=headers) as client,
        ):
            missing = [file for file in download.files if not _is_there(file, target, report)]
            _require_space(missing, target)
            for file in missing:
                urls = [f"{base}/{file.name}" for base in bases] + file.urls
                urls += [f"{base.rstrip('/')}/{file.name}" for base in download.mirrors]
                if not _is_intact(target / file.name, file):
                    _fetch_file(client, file, urls, target, report)
                if file.unpack:
                    report(FetchProgress(file.name, file.size, file.size, "unpacking"))
                    unpack(target / file.name, file, target)
                report(FetchProgress(file.name, file.size, file.size, "complete"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"The disk of {target} is full.", "Make room and try again.") from error
        raise TsuzukuError(f"{target} cannot be written: {error}.") from error


def _checked(name: str, spec: Mapping[str, Any]) -> Download:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise SettingsError([f"{name!r} is not a name for a data set."], "DOWNLOADS")
    try:
        return Download.model_validate(spec)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(problems, f"DOWNLOADS[{name!r}]") from error


@contextmanager
def _locked(target: Path) -> Generator[None]:
    """Two downloads into one folder would write into each other's partial files."""
    folder = os.open(target, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "Wait until it is done."
            raise Busy(f"Somebody else is downloading to {target}.", hint) from error
        except OSError:
            pass  # network file systems may know no locks on folders
        yield
    finally:
        os.close(folder)


def _is_there(file: DownloadFile, target: Path, report: Report) -> bool:
    if file.unpack:
        mark = target / file.folder / ".archive"
        there = mark.is_file() and mark.read_text() == file.checksum
    else:
        there = _is_intact(target / file.name, file)
    if there:
        report(FetchProgress(file.name, file.size, file.size, "already there"))
    return there


def _is_intact(path: Path, file: DownloadFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        if file.sha256:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
        return digest.hexdigest() == file.md5


def _require_space(missing: list[DownloadFile], target: Path) -> None:
    needed = SPARE_BYTES if missing else 0
    for file in missing:
        needed += file.size + (file.unpacked_size if file.unpack else 0)
        needed -= min(file.size, _size(target / f"{file.name}.part"))
    free = shutil.disk_usage(target).free
    if needed > free:
        detail = f"The download needs {needed:,} bytes in {target}, where {free:,} are free."
        raise DiskFull(detail, "Make room and try again.")


def _fetch_file(
    client: httpx.Client, file: DownloadFile, urls: list[str], target: Path, report: Report
) -> None:
    """Asks one mirror after the other. Raises TsuzukuError with what each of them answered."""
    part = target / f"{file.name}.part"
    if _size(part) > file.size:
        part.unlink()
    answers: list[str] = []
    for url in urls:
        answer = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(BACK_OFF * 2 ** (attempt - 1))
            try:
                start = _stream(client, url, file, part, report)
                _finish(part, file, start)
                return
            except MirrorError as failure:
                answer = str(failure)
                if not failure.again:
                    break
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                answer = f"failed: {str(error) or type(error).__name__}"
                if not isinstance(error, httpx.TransportError | httpx.DecodingError):
                    break
        answers.append(f"{urlsplit(url).netloc.rpartition('@')[2]} {answer}")
        report(FetchProgress(file.name, _size(part), file.size, answers[-1]))
    raise TsuzukuError(
        f"{file.name} could not be downloaded: {'; '.join(answers) or 'no mirror is known'}.",
        f"Try again later (it goes on where it stopped), put the file into {target} yourself, "
        f"or set {MIRROR_VARIABLE} to a server that has it.",
        code="download_failed",
    )


def _stream(client: httpx.Client, url: str, file: DownloadFile, part: Path, report: Report) -> int:
    """Appends to `part` what is missing of it; returns how much of it was there before."""
    start = _size(part)
    if start == file.size:
        return start
    origin = part.with_suffix(".from")
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and origin.is_file():
        # Only who sent the first bytes can say whether they are still the same. Another mirror
        # is asked without a condition, and the checksum decides.
        source, _, validator = origin.read_text().partition("\n")
        if source == url and validator:
            headers["If-Range"] = validator
    with client.stream("GET", url, headers=headers) as response:
        start = _accepted_start(response, start, file, part)
        if not start:
            tag = response.headers.get("ETag", "")
            weak = not tag or tag.startswith("W/")  # RFC 9110: If-Range takes strong ones only
            validator = response.headers.get("Last-Modified", "") if weak else tag
            origin.write_text(f"{url}\n{validator}")
        with part.open("r+b" if start else "wb") as out:
            out.seek(start)
            done = _write(response, out, start, file, report)
    if done < file.size:
        raise MirrorError(f"sent only {done:,} of {file.size:,} bytes", again=True)
    return start


def _accepted_start(response: httpx.Response, start: int, file: DownloadFile, part: Path) -> int:
    """Where the body of the response belongs in the file. Raises MirrorError if nowhere."""
    status = response.status_code
    if status == 200:
        declared = response.headers.get("Content-Length", str(file.size))
        if declared != str(file.size):
            raise MirrorError(f"has a file of {declared} bytes instead of {file.size}")
        return 0
    if status == 206 and start:
        answer = response.headers.get("Content-Range", "")
        if re.fullmatch(rf"bytes {start}-\d+/({file.size}|\*)", answer):
            return start
        part.unlink()
        raise MirrorError(f"answered with the wrong range {answer!r}", again=True)
    if status == 416 and start:
        part.unlink()  # its file is shorter than what we have: begin anew
        raise MirrorError(f"answered {status}", again=True)
    temporary = status in (408, 429) or status >= 500
    raise MirrorError(f"answered {status}", again=temporary)


def _write(
    response: httpx.Response, out: IO[bytes], done: int, file: DownloadFile, report: Report
) -> int:
    """Writes the body, never a byte beyond the declared size; returns the size reached."""
    reported = -1
    for chunk in response.iter_raw():
        if done + len(chunk) > file.size:
            out.truncate(0)
            raise MirrorError(f"sent more than the declared {file.size:,} bytes")
        out.write(chunk)
        done += len(chunk)
        if done * 100 // file.size > reported:
            reported = done * 100 // file.size
            report(FetchProgress(file.name, done, file.size, "downloading"))
    return done


def _finish(part: Path, file: DownloadFile, start: int) -> None:
    """Gives a file with the right checksum its name, and drops one with a wrong checksum.

    If its first `start` bytes were from an earlier download, they may have been the wrong ones:
    then the same mirror deserves another try.
    """
    try:
        with part.open("rb") as written:
            os.fsync(written.fileno())
    except OSError:
        part.unlink()  # a failed fsync cannot be repeated: the kernel takes the pages for written
        raise
    if not _is_intact(part, file):
        part.unlink()
        raise MirrorError("sent a file with a wrong checksum", again=start > 0)
    part.with_suffix(".from").unlink(missing_ok=True)
    part.replace(part.with_suffix(""))
    sync_folder(part.parent)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


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
