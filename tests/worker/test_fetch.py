"""Downloads, against real HTTP servers on this machine: honest, broken and hostile ones."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirrors import Server, mirrors
from tsuzuku.core.errors import Busy, DiskFull, SettingsError, TsuzukuError
from tsuzuku.datasets import mnist
from tsuzuku.worker import fetch as module
from tsuzuku.worker.fetch import Download, FetchProgress, fetch

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with mirrors() as start:

        def with_data(**faults: Any) -> Server:
            server = start(**faults)
            server.files["/set/a.bin"] = DATA
            return server

        yield with_data


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACK_OFF", 0.001)
    monkeypatch.delenv("TSUZUKU_MIRROR", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def spec(*servers: Server, data: bytes = DATA, name: str = "a.bin", **more: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    file = {"name": name, "size": len(data), "sha256": digest} | more
    return {"path": "data/set", "files": [file], "mirrors": [f"{s.url}/set/" for s in servers]}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(described: dict[str, Any], target: Path) -> list[FetchProgress]:
    reports: list[FetchProgress] = []
    fetch("set", described, target, reports.append)
    return reports


def failure(described: dict[str, Any], target: Path) -> str:
    with pytest.raises(TsuzukuError) as caught:
        run(described, target)
    assert caught.value.code == "download_failed"
    assert caught.value.hint
    assert not (target / "a.bin").exists()
    return caught.value.detail


def test_fetches_once_and_reports(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server, target = serve(), tmp_path / "deep/set"
    reports = run(spec(server), target)
    assert (target / "a.bin").read_bytes() == DATA
    assert listing(target) == ["a.bin"]
    done = [r.done_bytes for r in reports]
    assert done == sorted(done)
    assert len(done) > 2
    assert reports[-1] == FetchProgress("a.bin", len(DATA), len(DATA), "complete")
    assert server.seen == [("/set/a.bin", None, None)]
    assert [r.message for r in run(spec(server), target)] == ["already there"]
    assert len(server.seen) == 1
    (target / "a.bin").write_bytes(DATA[:-1] + b"?")  # altered since: fetched again
    run(spec(server), target)
    assert (target / "a.bin").read_bytes() == DATA


def test_md5_serves_where_no_sha256_is_known(tmp_path: Path, serve: Callable[..., Server]) -> None:
    server = serve()
    run(spec(server, sha256=None, md5=hashlib.md5(DATA).hexdigest()), tmp_path / "good")
    assert (tmp_path / "good/a.bin").read_bytes() == DATA
    assert "wrong checksum" in failure(spec(server, sha256=None, md5="0" * 32), tmp_path / "bad")


@pytest.mark.parametrize("faults", [{}, {"no_length": True}])
def test_a_cut_connection_is_resumed(
    tmp_path: Path, serve: Callable[..., Server], faults: dict[str, Any]
) -> None:
    server = serve(cut_after=100_000, cuts=2, **faults)
    run(spec(server), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    tag = '"' + hashlib.md5(DATA).hexdigest() + '"'
    assert server.seen == [
        ("/set/a.bin", None, None),
        ("/set/a.bin", "bytes=100000-", tag),
        ("/set/a.bin", "bytes=200000-", tag),
    ]


def test_a_later_download_goes_on_at_another_mirror(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    broken = serve(cut_after=50_000, cuts=10**6)
    broken.faults["no_ranges"] = True
    assert "peer closed" in failure(spec(broken), tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size == 50_000
    assert len(broken.seen) == module.TRIES
    good = serve()
    run(spec(good), tmp_path)
    assert good.seen == [("/set/a.bin", "bytes=50000-", None)]
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert listing(tmp_path) == ["a.bin"]


def test_a_file_that_changed_at_the_server_is_begun_anew(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(cut_after=60_000)
    old = DATA[::-1]
    server.files["/set/a.bin"] = old
    failure(spec(server, data=old, name="a.bin", size=len(old) + 1), tmp_path / "x")
    failure(spec(server), tmp_path)  # wrong bytes, cut short each time, resumed each time
    server.faults.clear()
    server.files["/set/a.bin"] = DATA
    server.seen.clear()
    run(spec(server), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    "faults", [{"no_ranges": True}, {"always_416": True}, {"wrong_start": 7}, {}]
)
@pytest.mark.parametrize("part", [DATA[:1000], b"?" * 1000, b"?" * 300_000, DATA, DATA + b"?"])
def test_whatever_the_part_and_the_server_the_file_is_right(
    tmp_path: Path, serve: Callable[..., Server], faults: dict[str, Any], part: bytes
) -> None:
    server = serve(**faults)
    (tmp_path / "a.bin.part").write_bytes(part)
    run(spec(server), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert listing(tmp_path) == ["a.bin"]
    assert bool(server.seen) == (part != DATA)


def test_wrong_bytes_are_dropped_and_the_next_mirror_asked(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    wrong, good = serve(), serve()
    wrong.files["/set/a.bin"] = DATA[::-1]
    reports = run(spec(wrong, good), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert len(wrong.seen) == 1
    assert any("wrong checksum" in r.message for r in reports)
    assert "127.0.0.1" in failure(spec(wrong), tmp_path / "other")
    assert listing(tmp_path / "other") == ["a.bin.from"]


def test_never_writes_more_than_declared(tmp_path: Path, serve: Callable[..., Server]) -> None:
    for faults in ({}, {"no_length": True}):
        server = serve(**faults)
        server.files["/set/a.bin"] = DATA + b"and more" * 100_000
        target = tmp_path / str(len(faults))
        largest = 0

        def watch(_: FetchProgress, target: Path = target) -> None:
            nonlocal largest
            largest = max(largest, module._size(target / "a.bin.part"))

        with pytest.raises(TsuzukuError, match=r"sent more than|bytes instead of 300000"):
            fetch("set", spec(server), target, watch)
        assert largest <= len(DATA)
        assert len(server.seen) == 1  # asking again would not help
        assert module._size(target / "a.bin.part") == 0


def test_errors_name_every_mirror(tmp_path: Path, serve: Callable[..., Server]) -> None:
    gone, busy, wrong = serve(), serve(busy_first=99), serve()
    gone.files.clear()
    wrong.files["/set/a.bin"] = b"short"
    closed = serve()
    closed.shutdown()
    closed.server_close()
    detail = failure(spec(gone, busy, wrong, closed), tmp_path)
    host = "127.0.0.1"
    assert f"{host}:{gone.server_port} answered 404" in detail
    assert f"{host}:{busy.server_port} answered 503" in detail
    assert f"{host}:{wrong.server_port} has a file of 5 bytes instead of 300000" in detail
    assert re.search(f"{host}:{closed.server_port} failed: .*refused", detail)
    assert (len(gone.seen), len(busy.seen)) == (1, module.TRIES)
    assert "no mirror is known" in failure(spec(), tmp_path)


def test_a_busy_server_and_a_redirect_are_followed_up(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    run(spec(serve(redirect=serve(busy_first=3).url)), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    detail = failure(spec(serve(redirect="file:///etc")), tmp_path / "x")
    assert "unsupported" in detail.lower()


def test_own_mirror_is_asked_first(
    tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, public = serve(), serve()
    monkeypatch.setenv("TSUZUKU_MIRROR", own.url + "/")
    run(spec(public), tmp_path / "a")
    assert [s[0] for s in own.seen] == ["/set/a.bin"]
    assert public.seen == []
    own.files.clear()
    run(spec(public), tmp_path / "b")
    assert len(public.seen) == 1
    monkeypatch.setenv("TSUZUKU_MIRROR", "/srv/mirror")
    with pytest.raises(SettingsError, match="TSUZUKU_MIRROR: '/srv/mirror' is not the URL"):
        run(spec(public), tmp_path / "c")


def test_no_room_and_no_second_download_at_once(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve()
    with pytest.raises(DiskFull, match="needs 1,000,000,000,0"):
        run(spec(server, size=10**18), tmp_path)
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(Busy, match="Somebody else is downloading"):
        run(spec(server), tmp_path)
    os.close(other)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TsuzukuError, match="cannot be written"):
        run(spec(server), tmp_path / "file")
    assert server.seen == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "../a"}, "files.0.name"),
        ({"name": "a/b"}, "files.0.name"),
        ({"name": ".."}, "files.0.name"),
        ({"name": "a.part"}, "must not end"),
        ({"name": "a\n"}, "files.0.name"),
        ({"size": 0}, "files.0.size"),
        ({"sha256": None}, "needs sha256 or md5"),
        ({"sha256": "abc"}, "files.0.sha256"),
        ({"urls": ["ftp://x/a"]}, "files.0.urls.0"),
        ({"urls": ["file:///etc/passwd"]}, "files.0.urls.0"),
        ({"unpack": True}, "needs unpacked_size"),
        ({"sice": 3}, "files.0.sice"),
    ],
)
def test_wrong_descriptions_are_refused(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem):
        run(spec(**change), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_wrong_names_and_mirrors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not a name for a data set"):
        fetch("../set", spec(), tmp_path, print)
    with pytest.raises(SettingsError, match=r"mirrors\.0"):
        run(spec() | {"mirrors": ["gopher://x"]}, tmp_path)
    with pytest.raises(SettingsError, match="have the same name"):
        run(spec() | {"files": spec()["files"] * 2}, tmp_path)


def test_the_built_in_descriptions_are_right() -> None:
    for entry in mnist.DOWNLOADS.values():
        assert len(Download.model_validate(entry).mirrors) == 2


def tar_of(members: list[tuple[str, bytes | tarfile.TarInfo]], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            data = b"" if isinstance(content, tarfile.TarInfo) else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(members: list[tuple[str, bytes]], mode: int = 0o100644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, link
    return info


def packed(server: Server, name: str, archive: bytes, **more: Any) -> dict[str, Any]:
    server.files[f"/set/{name}"] = archive
    return spec(server, data=archive, name=name, unpack=True, **({"unpacked_size": 100} | more))


INSIDE = [("wavs/1.wav", b"one"), ("wavs/2.wav", b"two"), ("index.csv", b"1|2")]


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("set-1.0.tar.gz", tar_of(INSIDE)),
        ("set-1.0.tar.bz2", tar_of(INSIDE, "w:bz2")),
        ("set-1.0.tgz", tar_of([("wavs", special(tarfile.DIRTYPE)), *INSIDE])),
        ("set-1.0.zip", zip_of(INSIDE)),
    ],
)
def test_archives_become_folders(
    tmp_path: Path, serve: Callable[..., Server], name: str, archive: bytes
) -> None:
    server = serve()
    described = packed(server, name, archive)
    run(described, tmp_path)
    assert listing(tmp_path) == ["set-1.0"]
    folder = tmp_path / "set-1.0"
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*v")} == dict(
        INSIDE
    )
    assert [r.message for r in run(described, tmp_path)] == ["already there"]
    assert len(server.seen) == 1
    newer = packed(server, name, (tar_of if "t" in name[7:] else zip_of)([("new.csv", b"3")]))
    run(newer, tmp_path)
    assert listing(folder) == [".archive", "new.csv"]
    assert listing(tmp_path) == ["set-1.0"]


@pytest.mark.parametrize(
    ("name", "archive", "problem"),
    [
        ("a.tar.gz", tar_of([("../evil", b"x")]), "not safe"),
        ("a.tar.gz", tar_of([("ok/../../evil", b"x")]), "not safe"),
        ("a.tar.gz", tar_of([("/tmp/evil", b"x")]), "not safe"),
        ("a.tar.gz", tar_of([("link", special(tarfile.SYMTYPE, "/etc"))]), "link or a device"),
        ("a.tar.gz", tar_of([("link", special(tarfile.LNKTYPE, "x"))]), "link or a device"),
        ("a.tar.gz", tar_of([("dev", special(tarfile.CHRTYPE))]), "link or a device"),
        ("a.tar.gz", tar_of([("fifo", special(tarfile.FIFOTYPE))]), "link or a device"),
        ("a.tar.gz", tar_of([("a", b"x"), ("a", b"y")]), "File exists"),
        ("a.tar.gz", tar_of([("a", b"x"), ("a/b", b"y")]), "a"),
        ("a.tar.gz", tar_of([("a", b"0" * 101)]), "more than 100 bytes"),
        ("a.tar.gz", tar_of([(str(i), b"") for i in range(6)]), "more than 5 members"),
        ("a.tar.gz", tar_of(INSIDE)[:-20], "cannot be unpacked"),
        ("a.tar.gz", b"no archive at all", "cannot be unpacked"),
        ("a.zip", zip_of([("../evil", b"x")]), "not safe"),
        ("a.zip", zip_of([("/tmp/evil", b"x")]), "not safe"),
        ("a.zip", zip_of([("..\\evil", b"x")]), "not safe"),
        ("a.zip", zip_of([("link", b"/etc")], 0o120777), "link or a device"),
        ("a.zip", zip_of([("a", b"0" * 10**7)]), "more than 100 bytes"),
        ("a.zip", zip_of([("a", b"x"), ("b", b"y")])[:-30], "cannot be unpacked"),
    ],
    ids=lambda part: "archive" if isinstance(part, bytes) else part,  # its bytes have the time
)
def test_hostile_and_broken_archives_leave_nothing(
    tmp_path: Path, serve: Callable[..., Server], name: str, archive: bytes, problem: str
) -> None:
    target = tmp_path / "in" / "set"
    with pytest.raises(TsuzukuError, match=problem) as caught:
        run(packed(serve(), name, archive, max_members=5), target)
    assert caught.value.code == "bad_archive"
    assert listing(target) == [name]  # the archive itself, and nothing of what is in it
    assert listing(tmp_path) == ["in"]
    assert listing(tmp_path / "in") == ["set"]


@pytest.mark.parametrize("claimed", [50, 5000])
def test_a_zip_that_lies_about_its_sizes_is_refused(
    tmp_path: Path, serve: Callable[..., Server], claimed: int
) -> None:
    honest = zip_of([("a", b"0" * 1000)])
    lying = honest.replace((1000).to_bytes(4, "little"), claimed.to_bytes(4, "little"))
    assert lying != honest
    with pytest.raises(TsuzukuError, match="cannot be unpacked"):
        run(packed(serve(), "a.zip", lying, unpacked_size=10_000), tmp_path)
    assert listing(tmp_path) == ["a.zip"]
