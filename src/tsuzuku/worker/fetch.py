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
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from tsuzuku import __version__
from tsuzuku.core.errors import Busy, DiskFull, SettingsError, TsuzukuError
from tsuzuku.core.workspace import sync_folder
from tsuzuku.worker.downloads import Download, DownloadFile
from tsuzuku.worker.unpack import unpack

MIRROR_VARIABLE = "TSUZUKU_MIRROR"
TIMEOUT = httpx.Timeout(30, connect=10)
"""Seconds without a byte (or, to connect, without an answer) until a mirror counts as silent."""
TRIES = 5
"""How often one mirror is asked for one file."""
BACK_OFF = 0.5
"""Seconds before the second try; doubled for each further one."""
SPARE_BYTES = 16 << 20
"""Room that a download leaves on the disk."""


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
