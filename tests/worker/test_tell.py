"""Downloads that tell the store: real workers, a real server with the layouts of real archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import signal
import subprocess
import tarfile
import time
import wave
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mirrors import Server, mirrors
from tsuzuku.core.launch import worker_environment
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.datasets.mnist import MNIST, Config
from worker_process import command


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with mirrors() as start:
        yield start


def ljspeech(clips: int = 3, samples: int = 2000) -> bytes:
    """LJSpeech-1.1.tar.bz2: everything in one folder, as its maker packed it."""
    noise = np.random.default_rng(0)
    files: dict[str, bytes] = {"README": b"-----\nThe LJ Speech Dataset\n"}
    names = [f"LJ{1 + i // 100:03}-{1 + i % 100:04}" for i in range(clips)]
    files["metadata.csv"] = "".join(f"{n}|No. {n}, 5%|Number, five\n" for n in names).encode()
    for name in names:
        sound = io.BytesIO()
        with wave.open(sound, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(22050)
            out.writeframes(noise.integers(-3000, 3000, samples).astype("<i2").tobytes())
        files[f"wavs/{name}.wav"] = sound.getvalue()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in ("LJSpeech-1.1", "LJSpeech-1.1/wavs"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode, info.uid = tarfile.DIRTYPE, 0o755, 501
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(f"LJSpeech-1.1/{name}")
            info.size, info.mode, info.uid = len(content), 0o644, 501
            archive.addfile(info, io.BytesIO(content))
    return bz2.compress(packed.getvalue())


def mnist_files(count: int = 20) -> dict[str, bytes]:
    """The four files of MNIST, with few images."""
    pixels = np.random.default_rng(1).integers(0, 255, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)

    def idx(values: Any) -> bytes:
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
        return gzip.compress(head + values.tobytes())

    return {
        f"{part}-{kind}-ubyte.gz": idx(values)
        for part in ("train", "t10k")
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels))
    }


def spec(server: Server, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """What a plug-in's DOWNLOADS would say of these files, which `server` has from now on."""
    server.files |= {f"/set/{name}": content for name, content in files.items()}
    described = [
        {"name": n, "size": len(c), "sha256": hashlib.sha256(c).hexdigest(), **more}
        for n, c in files.items()
    ]
    return {"path": "data/set", "files": described, "mirrors": [f"{server.url}/set/"]}


def start(workspace: Workspace, name: str, described: dict[str, Any]) -> subprocess.Popen[bytes]:
    words = ("fetch", "--name", name, "--spec", json.dumps(described), "--tell")
    environment = {k: v for k, v in worker_environment().items() if k != "TSUZUKU_MIRROR"}
    return subprocess.Popen(
        command(workspace.root, *words, "--target", workspace.data / name),
        cwd=workspace.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**environment, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip


def finished(process: subprocess.Popen[bytes], code: int = 0) -> None:
    """It has to end with `code`, silent: nobody may be there to read what it prints."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err.decode()
    assert out == b""
    assert b"Traceback" not in err


def events(workspace: Workspace) -> list[Event]:
    with Store(workspace.db) as store:
        found = store.events()
    assert all(event.run_id is None for event in found)
    return found


def wait_for_bytes(workspace: Workspace, process: subprocess.Popen[bytes]) -> Event:
    """The first event that tells of some bytes, and not yet of all."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        for event in events(workspace) if workspace.db.exists() else []:
            if 0 < event.payload.get("done_bytes", 0) < event.payload["total_bytes"]:
                return event
        time.sleep(0.05)
    raise AssertionError("no progress was told")


def test_mnist_is_fetched_told_and_readable(
    workspace: Workspace, serve: Callable[..., Server]
) -> None:
    server, files = serve(), mnist_files()
    finished(start(workspace, "mnist", spec(server, files)))
    told = events(workspace)
    assert {e.type for e in told} == {"log"}
    assert all(e.payload["dataset"] == "mnist" for e in told)
    last = told[-1].payload
    size = sum(map(len, files.values()))
    assert (last["done"], last["done_bytes"], last["total_bytes"]) == (True, size, size)
    assert last["message"] == f"Data set mnist is in {workspace.data / 'mnist'}"
    assert [e for e in told[:-1] if "done" in e.payload] == []
    data = MNIST(Config(path=str(workspace.data / "mnist")), "validation")
    assert len(data) == 20


def test_ljspeech_is_stopped_in_the_middle_and_goes_on_there(
    workspace: Workspace, serve: Callable[..., Server]
) -> None:
    config = workspace.config_path
    config.write_text(config.read_text("utf-8").replace("language: en", "language: ja"), "utf-8")
    archive = ljspeech(40)
    name = "LJSpeech-1.1.tar.bz2"
    server = serve(stall_after=len(archive) // 2)
    described = spec(server, {name: archive}, unpack=True, unpacked_size=10**7)
    process = start(workspace, "ljspeech", described)
    told = wait_for_bytes(workspace, process)
    assert (told.payload["file"], told.payload["total_bytes"]) == (name, len(archive))
    assert "ダウンロードしています" in told.payload["message"]
    process.send_signal(signal.SIGTERM)
    finished(process, 143)
    ended = events(workspace)[-1]
    assert (ended.type, ended.payload["code"]) == ("error", "stopped")
    assert ended.payload["dataset"] == "ljspeech"
    part = workspace.data / "ljspeech" / f"{name}.part"
    there = part.stat().st_size
    assert 0 < there < len(archive)
    assert archive.startswith(part.read_bytes())
    server.go_on.set()
    finished(start(workspace, "ljspeech", described))
    assert server.seen[-1][1] == f"bytes={there}-"
    assert events(workspace)[-1].payload["done"] is True
    inside = workspace.data / "ljspeech" / "LJSpeech-1.1" / "LJSpeech-1.1"
    assert len((inside / "metadata.csv").read_text("utf-8").splitlines()) == 40
    with wave.open(str(inside / "wavs" / "LJ001-0040.wav")) as clip:
        assert (clip.getframerate(), clip.getnframes()) == (22050, 2000)
    assert not part.exists()


def test_a_killed_download_goes_on_and_two_at_once_do_not(
    workspace: Workspace, serve: Callable[..., Server]
) -> None:
    files = mnist_files(2000)
    server = serve(stall_after=400_000)
    described = spec(server, files)
    process = start(workspace, "mnist", described)
    wait_for_bytes(workspace, process)
    finished(start(workspace, "mnist", described), 1)
    assert events(workspace)[-1].payload["code"] == "busy"
    process.kill()
    process.communicate()
    assert (workspace.data / "mnist" / "train-images-idx3-ubyte.gz.part").stat().st_size > 0
    server.go_on.set()
    finished(start(workspace, "mnist", described))
    assert server.seen[1][1] is not None  # with a range: it went on
    assert len(MNIST(Config(path=str(workspace.data / "mnist")), "train")) == 2000


def test_it_outlives_who_started_it_and_who_read_it(
    workspace: Workspace, serve: Callable[..., Server]
) -> None:
    server = serve(stall_after=1000)
    process = start(workspace, "mnist", spec(server, mnist_files()))
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    wait_for_bytes(workspace, process)
    server.go_on.set()
    assert process.wait(60) == 0
    assert events(workspace)[-1].payload["done"] is True


def bomb(name: str, size: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:bz2") as archive:
        info = tarfile.TarInfo(name)
        info.size = size
        archive.addfile(info, io.BytesIO(bytes(size)))
    return packed.getvalue()


def linked(target: str) -> bytes:
    """An archive whose folder for the sound is a link to somewhere else."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:bz2") as archive:
        info = tarfile.TarInfo("LJSpeech-1.1/wavs")
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
        info = tarfile.TarInfo("LJSpeech-1.1/wavs/LJ001-0001.wav")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("archive", "code", "said"),
    [
        (bomb("LJSpeech-1.1/wavs/zeros.wav", 10**7), "bad_archive", "more than 1,000,000 bytes"),
        (bomb("LJSpeech-1.1/../../../evil", 10), "bad_archive", "not safe"),
        (linked("/etc"), "bad_archive", "link or a device"),
        (ljspeech()[:-200], "bad_archive", "cannot be unpacked"),
    ],
)
def test_hostile_archives_end_with_an_error_event(
    workspace: Workspace, serve: Callable[..., Server], archive: bytes, code: str, said: str
) -> None:
    name = "LJSpeech-1.1.tar.bz2"
    described = spec(serve(), {name: archive}, unpack=True, unpacked_size=10**6)
    finished(start(workspace, "ljspeech", described), 1)
    last = events(workspace)[-1]
    assert (last.type, last.payload["code"], last.payload["dataset"]) == ("error", code, "ljspeech")
    assert said in last.payload["message"]
    assert [p.name for p in workspace.data.iterdir()] == ["ljspeech"]
    assert [p.name for p in (workspace.data / "ljspeech").iterdir()] == [name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "wrong checksum"),
        ({"size": 10}, "instead of 10"),
    ],
)
def test_wrong_files_end_with_an_error_event(
    workspace: Workspace, serve: Callable[..., Server], change: dict[str, Any], said: str
) -> None:
    described = spec(serve(), mnist_files())
    described["files"][0] |= change
    finished(start(workspace, "mnist", described), 1)
    warning, last = events(workspace)[-2:]
    assert (last.type, last.payload["code"]) == ("error", "download_failed")
    assert said in last.payload["message"]
    assert warning.payload["level"] == "warning"
    assert said in warning.payload["message"]
    assert not (workspace.data / "mnist" / described["files"][0]["name"]).exists()
