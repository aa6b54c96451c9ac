"""Writing checkpoints: whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_states import INFO, save_of, state_of

from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.training.checkpoints import (
    CheckpointWriter,
    NonFiniteWeights,
    Save,
    bytes_needed,
    require_room,
    write,
)
from tsuzuku.training.opening import load


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_checkpoint_is_opened_by_plain_torch_and_matches_its_sidecar(tmp_path: Path) -> None:
    found = write(save_of(tmp_path))
    assert names(tmp_path) == {"a.pt", "a.pt.json"}
    plain = torch.load(tmp_path / "a.pt", weights_only=True)
    assert plain["model_state_dict"]["w"].tolist() == list(map(float, range(100)))
    checkpoint_files.check(found)
    read = checkpoint_files.read(tmp_path / "a.pt")
    checkpoint_files.check(read)
    assert read.info["tensors"] == {"w": ["float32", [100]], "b": ["int64", [3]]}
    assert read.info["size"] == (tmp_path / "a.pt").stat().st_size
    card = json.loads((tmp_path / "a.pt.json").read_text(encoding="utf-8"))
    assert card.pop("checksum")
    assert card == dict(read.info)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = write(save_of(tmp_path, "a.pt")), write(save_of(tmp_path, "b.pt"))
    assert one.info["sha256"] == two.info["sha256"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, bad: float, dtype: torch.dtype
) -> None:
    weights = {"fine": torch.ones(3), "net.w": torch.tensor([1.0, bad, 2.0], dtype=dtype)}
    with pytest.raises(NonFiniteWeights, match=r"'net\.w'"):
        write(Save(tmp_path / "a.pt", state_of() | {"model_state_dict": weights}, INFO))
    assert names(tmp_path) == set()


def test_large_but_finite_weights_are_no_reason_to_refuse(tmp_path: Path) -> None:
    weights = {
        "sum overflows": torch.full((100,), 3e38),
        "half": torch.full((100,), 6e4, dtype=torch.float16),
        "cancels": torch.tensor([3e38, 3e38, -3e38, -3e38]),
        "whole": torch.tensor([2**62, 2**62]),
        "empty": torch.empty(0),
        "complex": torch.ones(2, dtype=torch.complex64),
    }
    write(Save(tmp_path / "a.pt", state_of() | {"model_state_dict": weights}, INFO))
    assert load(tmp_path / "a.pt")["model_state_dict"].keys() == weights.keys()


def test_complex_weights_that_are_not_finite_are_refused_too(tmp_path: Path) -> None:
    weights = {"c": torch.tensor([complex(1, float("nan"))])}
    with pytest.raises(NonFiniteWeights):
        write(Save(tmp_path / "a.pt", state_of() | {"model_state_dict": weights}, INFO))


def test_what_could_not_be_opened_again_is_not_saved(tmp_path: Path) -> None:
    """A model's extra state may hold anything; a checkpoint that load refuses is worth nothing."""
    for extra in (threading.Lock(), lambda: 0, Path("x"), object()):
        with pytest.raises(TsuzukuError):
            write(Save(tmp_path / "a.pt", state_of(extra=extra), INFO))
        assert names(tmp_path) == set()


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TsuzukuError, match=r"a\.pt could not be written: No such file"):
        write(save_of(tmp_path / "nowhere"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_after_a_failure_of_the_disk_nothing_is_left(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(save_of(tmp_path, "old.pt"))

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(TsuzukuError, match="Input/output error") as caught:
            write(save_of(tmp_path))
    assert caught.value.code == "write_failed"
    assert names(tmp_path) == {"old.pt", "old.pt.json"}
    write(save_of(tmp_path))
    checkpoint_files.check(checkpoint_files.read(tmp_path / "a.pt"))


class Reluctant(io.FileIO):
    """A file that takes at most 1,000 bytes at a time, as a pipe or a network's disk may."""

    def write(self, data: Any, /) -> int:
        return super().write(memoryview(data).cast("B")[:1000])


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(save_of(tmp_path, "whole.pt"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, *_, **__: Reluctant(path, "wb"))
        patched.setattr(checkpoint_files, "write_sidecar", lambda *_: None)
        write(save_of(tmp_path), try_to_open=False)
    assert (tmp_path / "a.pt").stat().st_size == whole.info["size"]
    assert load(tmp_path / "a.pt")["epoch"] == load(whole.path)["epoch"]


# A disk that is really full


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 1 MiB. Only root can mount one; CI must."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        if os.environ.get("CI") == "true" and os.geteuid() == 0:
            pytest.fail("a small disk could not be mounted")
        pytest.skip("NOT TESTED: a full disk (needs root, to mount a small one)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_checkpoints_and_nothing_else(small_disk: Path) -> None:
    write(save_of(small_disk, "old.pt"))
    with pytest.raises(DiskFull, match=r"a\.pt"):
        write(save_of(small_disk, size=500_000))
    assert names(small_disk) == {"old.pt", "old.pt.json"}
    checkpoint_files.check(checkpoint_files.read(small_disk / "old.pt"))
    write(save_of(small_disk, "after.pt"))
    load(small_disk / "after.pt")


def test_a_disk_that_gets_full_at_any_moment_of_a_save_leaves_no_rubbish(small_disk: Path) -> None:
    """From no room at all to enough, page by page: also for the sidecar alone."""
    filler = small_disk / "filler"
    outcomes = set()
    for pages in range(12):
        for path in small_disk.iterdir():
            path.unlink()
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free - 4096 * pages)
        try:
            write(save_of(small_disk, size=5000))
            outcomes.add("saved")
            assert names(small_disk) == {"filler", "a.pt", "a.pt.json"}
            checkpoint_files.check(checkpoint_files.read(small_disk / "a.pt"))
        except DiskFull:
            outcomes.add("refused")
            assert names(small_disk) == {"filler"}, f"with {pages} pages left"
    assert outcomes == {"saved", "refused"}


def test_room_is_required_before_a_save(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="MiB"):
        require_room(small_disk, 1)
    require_room(tmp_path, 1)
    state = state_of(size=100_000)
    written = write(Save(tmp_path / "a.pt", state, INFO))
    assert written.info["size"] <= bytes_needed(state)


# Beside the training


def test_the_writer_saves_what_was_there_when_it_was_asked(tmp_path: Path) -> None:
    saved: list[Any] = []
    writer = CheckpointWriter(lambda: None, saved.append)
    state = state_of(size=200_000)
    for number in range(4):
        state["model_state_dict"]["w"].fill_(number)
        writer.start(Save(tmp_path / f"{number}.pt", state, INFO))
        state["model_state_dict"]["w"].fill_(-1)
    writer.wait()
    assert [f.name for f in saved] == [f"{n}.pt" for n in range(4)]
    for number in range(4):
        weights = load(tmp_path / f"{number}.pt")["model_state_dict"]["w"]
        assert weights.unique().tolist() == [number]


def test_a_save_that_failed_is_told_once_and_the_next_one_works(tmp_path: Path) -> None:
    saved: list[Any] = []
    writer = CheckpointWriter(lambda: None, saved.append)
    writer.start(save_of(tmp_path / "nowhere"))
    with pytest.raises(TsuzukuError, match="could not be written"):
        writer.wait()
    writer.wait()
    assert not writer.failed
    writer.start(save_of(tmp_path / "nowhere"))
    with pytest.raises(TsuzukuError):
        writer.start(save_of(tmp_path))
    assert saved == []
    writer.start(save_of(tmp_path))
    writer.wait()
    assert len(saved) == 1


def test_what_fails_after_the_save_is_told_too(tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise DiskFull("no room for the index")

    writer = CheckpointWriter(lambda: None, fail)
    writer.start(save_of(tmp_path))
    with pytest.raises(DiskFull, match="index"):
        writer.wait()
    assert not writer.busy


def test_before_a_checkpoint_has_its_name_what_happened_until_then_is_on_record(
    tmp_path: Path,
) -> None:
    seen: list[set[str]] = []
    write(save_of(tmp_path), lambda: seen.append(names(tmp_path)))
    assert "a.pt" not in seen[0]
    assert "a.pt" in names(tmp_path)


def test_if_the_record_cannot_be_written_there_is_no_checkpoint_and_no_rubbish(
    tmp_path: Path,
) -> None:
    def fail() -> None:
        raise DiskFull("no room for the events")

    with pytest.raises(DiskFull, match="events"):
        write(save_of(tmp_path), fail)
    assert names(tmp_path) == set()
