"""Checkpoints that are compressed in place: the same content, safe at every moment."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from dying import crashes
from tsuzuku.core import checkpoint_files, compression
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.compression import GivenUp, candidates, compress
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.checkpoints import Save, write
from tsuzuku.training.opening import load
from tsuzuku.worker.check import verify


def saved(folder: Path, epoch: int = 1, weights: torch.Tensor | None = None) -> CheckpointFile:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(epoch)
    w = torch.randn(20_000, generator=generator) if weights is None else weights
    info = {"epoch": epoch, "global_step": epoch, "metrics": {}, "config": {}, "metadata": {}}
    state = {**info, "model_state_dict": {"w": w, "i": torch.arange(5)}, "nested": [1, (2, "x")]}
    return write(Save(folder / f"c-{epoch}.pt", state, info))


def same(one: Path, other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(t, other[k]) for k, t in load(one)["model_state_dict"].items())


def test_it_is_smaller_and_the_same_for_everybody(tmp_path: Path) -> None:
    file = saved(tmp_path)
    before, weights = file.path.stat().st_size, load(file.path)["model_state_dict"]
    smaller = compress(file)
    assert smaller.info["size"] == smaller.path.stat().st_size < before
    assert smaller.info["uncompressed_size"] == before
    assert smaller.info["compression"] == "deflate"
    assert checkpoint_files.read(file.path).info == {**smaller.info, "format": 2}
    assert same(file.path, weights)
    assert torch.load(file.path, weights_only=True)["nested"] == [1, (2, "x")]
    assert verify(file.path) == "hash, structure and weights"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c-1.pt", "c-1.pt.json"]


def test_what_gains_nothing_stays_and_is_not_tried_again(tmp_path: Path) -> None:
    noise = torch.frombuffer(bytearray(os.urandom(400_000)), dtype=torch.uint8)
    file = saved(tmp_path, weights=noise)
    content = file.path.read_bytes()
    assert compress(file).info["compression"] == "none"
    assert file.path.read_bytes() == content
    assert candidates([checkpoint_files.read(file.path)], 0) == []


def test_what_would_look_like_a_bomb_stays(tmp_path: Path) -> None:
    file = saved(tmp_path, weights=torch.zeros(1_000_000))
    assert compress(file).info["compression"] == "none"
    assert load(file.path)


def test_which_ones(tmp_path: Path) -> None:
    files = [saved(tmp_path, epoch) for epoch in (1, 2, 3, 4)]
    checkpoint_files.link_best(files[1], "best.pt")
    assert [f.name for f in candidates(files, 1)] == ["c-3.pt", "c-1.pt"]
    assert candidates(files, None) == []
    assert candidates(files, 4) == []
    compress(files[0])
    again = [checkpoint_files.read(f.path) for f in files]
    assert [f.name for f in candidates(again, 0)] == ["c-4.pt", "c-3.pt"]


def test_it_can_be_given_up_and_leaves_nothing(tmp_path: Path) -> None:
    file = saved(tmp_path)
    content = file.path.read_bytes()
    with pytest.raises(GivenUp):
        compress(file, wanted=lambda: False)
    assert file.path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c-1.pt", "c-1.pt.json"]


def test_a_damaged_one_is_not_made_good(tmp_path: Path) -> None:
    file = saved(tmp_path)
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="altered"):
        compress(file)
    assert file.path.read_bytes() == content


def test_a_crash_at_any_moment_leaves_a_whole_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    file = saved(run.checkpoints)
    weights = load(file.path)["model_state_dict"]
    seen: set[str] = set()

    def anew() -> None:
        for path in run.checkpoints.iterdir():
            path.unlink()
        saved(run.checkpoints)

    for _ in crashes(lambda: compress(file), anew):
        assert verify(file.path), "before anything is swept"
        checkpoint_files.sweep(run)
        mended = checkpoint_files.read(file.path)
        assert checkpoint_files.NEXT not in mended.info
        checkpoint_files.check(mended)
        assert same(file.path, weights)
        seen.add(str(mended.info.get("compression")))
        left = sorted(p.name for p in run.checkpoints.iterdir())
        assert left == ["c-1.pt", "c-1.pt.json"]
    assert seen == {"None", "deflate"}


def test_a_reader_that_knows_the_old_sidecar_takes_the_new_file(tmp_path: Path) -> None:
    file = saved(tmp_path)
    compress(file)
    checkpoint_files.check(file)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path)
    file.path.write_bytes(b"x" * 100)
    info = {**file.info, "size": 100, "sha256": checkpoint_files.sha256_of(file.path)}
    write_sidecar(file.path, info)
    with pytest.raises(CorruptCheckpoint, match="no archive"):
        compress(checkpoint_files.read(file.path))


def test_parts_keep_their_names_and_order(tmp_path: Path) -> None:
    file = saved(tmp_path)
    before = zipfile.ZipFile(file.path).namelist()
    compress(file)
    parts = zipfile.ZipFile(file.path).infolist()
    assert [p.filename for p in parts] == before
    assert {p.compress_type for p in parts} == {zipfile.ZIP_DEFLATED}
    assert compression.LEVEL == 1
