"""Checkpoint files on disk, and what a crash at any moment leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dying import crashes
from tsuzuku.core import checkpoint_files as files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.sidecars import sidecar, write_sidecar
from tsuzuku.core.workspace import RunDir

LATEST, BEST = "m-d-latest.pt", "m-d-best.pt"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    found = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    found.checkpoints.mkdir(parents=True)
    return found


def content_of(epoch: int) -> bytes:
    return bytes([epoch]) * (1000 + epoch)


def info_of(epoch: int, content: bytes, **more: Any) -> dict[str, Any]:
    return {
        "name": f"m-d-epoch-{epoch}.pt",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "epoch": epoch,
        "global_step": epoch * 10,
        "metrics": {},
        "metadata": {"run_id": "2026-11-21_19-20-14"},
        "role": "checkpoint",
        **more,
    }


def save(run: RunDir, epoch: int, content: bytes | None = None) -> CheckpointFile:
    """What the writer does: a durable temporary file, then its name."""
    path = run.checkpoints / f"m-d-epoch-{epoch}.pt"
    content = content_of(epoch) if content is None else content
    with files.temporary(path).open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    return files.publish(path, info_of(epoch, content))


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def assert_all_is_well(run: RunDir) -> None:
    """Every checkpoint under its final name is whole; links can be used; nothing is left over."""
    good, odd = files.in_folder(run.checkpoints)
    assert odd == []
    for found in good:
        files.check(found)
    for name in (LATEST, BEST):
        link = run.checkpoints / name
        if os.path.lexists(link):
            target = run.checkpoints / link.readlink() if link.is_symlink() else link
            files.check(files.read(target))
    found = names(run.checkpoints)
    assert not {n for n in found if n.startswith(".")}
    assert not {n for n in found if n.endswith(".json") and n[:-5] not in found}
    assert not {p.name for p in run.path.iterdir() if p.name.startswith(".") and p != run.lock}


def fresh(run: RunDir) -> Callable[[], None]:
    def prepare() -> None:
        for path in run.checkpoints.iterdir():
            path.unlink()
        one = save(run, 1)
        files.link_latest(one.path, LATEST)
        files.link_best(one, BEST)
        two = save(run, 2)
        files.link_latest(two.path, LATEST)

    return prepare


def test_a_crash_while_a_checkpoint_is_saved_leaves_the_old_or_the_new_state(run: RunDir) -> None:
    before, after = {1, 2}, {1, 2, 3}
    seen = []
    for _ in crashes(lambda: save(run, 3), fresh(run)):
        files.sweep(run)
        assert_all_is_well(run)
        good, _odd = files.in_folder(run.checkpoints)
        assert {c.epoch for c in good} in (before, after)
        seen.append(len(good))
        assert (run.checkpoints / LATEST).exists()
        assert (run.checkpoints / BEST).read_bytes() == content_of(1)
    assert {2, 3} == set(seen)
    assert len(seen) > 8


def test_a_crash_while_latest_moves_leaves_it_on_the_old_or_the_new_one(run: RunDir) -> None:
    seen = set()
    prepare = fresh(run)
    for _ in crashes(
        lambda: files.link_latest(run.checkpoints / "m-d-epoch-1.pt", LATEST), prepare
    ):
        files.sweep(run)
        assert_all_is_well(run)
        seen.add((run.checkpoints / LATEST).readlink().name)
    assert seen == {"m-d-epoch-1.pt", "m-d-epoch-2.pt"}


def test_a_crash_while_best_moves_leaves_the_old_or_the_new_one(run: RunDir) -> None:
    seen = set()

    def move() -> None:
        files.link_best(files.read(run.checkpoints / "m-d-epoch-2.pt"), BEST)

    for _ in crashes(move, fresh(run)):
        files.sweep(run)
        assert_all_is_well(run)
        best = files.read(run.checkpoints / BEST)
        assert best.info["role"] == "best"
        seen.add((best.epoch, best.info["copy_of"]))
    assert seen == {(1, "m-d-epoch-1.pt"), (2, "m-d-epoch-2.pt")}


def test_a_crash_while_best_is_made_for_the_first_time_leaves_none_or_a_good_one(
    run: RunDir,
) -> None:
    def prepare() -> None:
        for path in run.checkpoints.iterdir():
            path.unlink()
        save(run, 1)

    seen = set()
    for _ in crashes(
        lambda: files.link_best(files.read(run.checkpoints / "m-d-epoch-1.pt"), BEST), prepare
    ):
        files.sweep(run)
        assert_all_is_well(run)
        seen.add((run.checkpoints / BEST).exists())
    assert seen == {False, True}


def test_a_crash_while_a_checkpoint_is_removed_leaves_all_of_it_or_nothing(run: RunDir) -> None:
    seen = set()
    for _ in crashes(lambda: files.remove(run.checkpoints / "m-d-epoch-1.pt"), fresh(run)):
        files.sweep(run)
        assert_all_is_well(run)
        seen.add(len(files.in_folder(run.checkpoints)[0]))
        assert (run.checkpoints / BEST).read_bytes() == content_of(1)
    assert seen == {1, 2}


def test_a_crash_during_the_sweep_itself_is_mended_by_the_next(run: RunDir) -> None:
    prepare = fresh(run)

    def damaged() -> None:
        prepare()
        two = files.read(run.checkpoints / "m-d-epoch-2.pt")
        # as if killed between the sidecar and the name of a new best
        os.link(two.path, files.temporary(run.checkpoints / BEST))
        best = files.read(run.checkpoints / BEST)
        card = {**two.info, "role": "best", "copy_of": two.name}
        following = {"inode": two.path.stat().st_ino, "info": card}
        write_sidecar(best.path, {**best.info, files.NEXT: following})
        (run.checkpoints / ".m-d-epoch-3.pt.tmp").write_bytes(b"half")
        (run.checkpoints / ".m-d-epoch-3.pt.json.77.tmp").write_bytes(b"{")
        sidecar(run.checkpoints / "m-d-epoch-3.pt").write_text("{}", encoding="utf-8")
        (run.path / ".model.safetensors.tmp").write_bytes(b"half")

    for _ in crashes(lambda: files.sweep(run), damaged):
        files.sweep(run)
        assert_all_is_well(run)
        assert (run.checkpoints / BEST).read_bytes() == content_of(1)


def test_a_crash_while_a_name_is_used_again_leaves_a_whole_checkpoint(run: RunDir) -> None:
    """A checkpoint that is there is whole, also when one of its name was there before."""
    for _ in crashes(lambda: save(run, 2, b"second try"), fresh(run)):
        files.sweep(run)
        assert_all_is_well(run)


def test_a_crash_while_a_bad_checkpoint_is_set_aside_does_not_lose_it(run: RunDir) -> None:
    for _ in crashes(lambda: files.set_aside(run.checkpoints / "m-d-epoch-1.pt"), fresh(run)):
        assert content_of(1) in {
            p.read_bytes() for p in run.checkpoints.glob("m-d-epoch-1.pt*") if p.is_file()
        }
        good, odd = files.in_folder(run.checkpoints)
        assert {c.epoch for c in good} >= {2}
        assert len(good) + len(odd) <= 2


# Single operations


def test_a_saved_checkpoint_is_read_back_in_the_order_of_training(run: RunDir) -> None:
    for epoch in (10, 2, 9):
        save(run, epoch)
    good, odd = files.in_folder(run.checkpoints)
    assert [c.epoch for c in good] == [2, 9, 10]
    assert odd == []
    assert good[0].run_id == "2026-11-21_19-20-14"


def test_links_copies_and_files_of_other_kinds_are_no_checkpoints_of_their_own(run: RunDir) -> None:
    one = save(run, 1)
    files.link_latest(one.path, LATEST)
    files.link_best(one, BEST)
    (run.checkpoints / "notes.txt").write_text("x", encoding="utf-8")
    (run.checkpoints / ".m-d-epoch-9.pt.tmp").write_bytes(b"half")
    (run.checkpoints / "foreign.pth").write_bytes(b"whatever")
    good, odd = files.in_folder(run.checkpoints)
    assert [c.name for c in good] == ["m-d-epoch-1.pt"]
    assert [p.name for p in odd] == ["foreign.pth"]
    assert files.in_folder(run.path / "nowhere") == ([], [])


@pytest.mark.parametrize("key", ["epoch", "global_step", "size", "sha256", "metadata"])
def test_a_sidecar_that_lacks_something_is_refused_by_name(run: RunDir, key: str) -> None:
    path = save(run, 1).path
    card = json.loads(sidecar(path).read_text(encoding="utf-8"))
    for broken in ({k: v for k, v in card.items() if k != key}, card | {key: None}):
        sidecar(path).write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(CorruptCheckpoint, match=key):
            files.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'"x"'])
def test_a_sidecar_that_is_none_is_refused(run: RunDir, content: bytes) -> None:
    path = save(run, 1).path
    sidecar(path).write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=r"\.json"):
        files.read(path)
    assert files.in_folder(run.checkpoints) == ([], [path])


def test_an_altered_or_cut_file_does_not_pass_the_check(run: RunDir) -> None:
    found = save(run, 1)
    files.check(found)
    content = bytearray(found.path.read_bytes())
    content[len(content) // 2] ^= 1
    found.path.write_bytes(bytes(content))
    with pytest.raises(CorruptCheckpoint, match="SHA-256"):
        files.check(found)
    found.path.write_bytes(bytes(content)[:-1])
    with pytest.raises(CorruptCheckpoint, match="bytes"):
        files.check(found)
    found.path.unlink()
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        files.check(found)


def test_best_outlives_the_file_that_it_came_from(run: RunDir) -> None:
    one = save(run, 1)
    files.link_best(one, BEST)
    files.remove(one.path)
    best = files.read(run.checkpoints / BEST)
    files.check(best)
    assert best.info["copy_of"] == "m-d-epoch-1.pt"
    assert best.path.read_bytes() == content_of(1)


def test_best_is_a_copy_where_there_are_no_hard_links(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    one = save(run, 1)
    files.link_best(one, BEST)
    files.check(files.read(run.checkpoints / BEST))
    assert (run.checkpoints / BEST).stat().st_ino != one.path.stat().st_ino
    assert_all_is_well(run)


def test_latest_is_a_relative_link_that_survives_a_move_of_the_folder(run: RunDir) -> None:
    files.link_latest(save(run, 1).path, LATEST)
    moved = run.path.rename(run.path.with_name("moved"))
    assert (moved / "checkpoints" / LATEST).read_bytes() == content_of(1)


def test_two_bad_files_of_one_name_are_both_kept(run: RunDir) -> None:
    for content in (b"first", b"second", b"third"):
        found = save(run, 1, content)
        files.set_aside(found.path)
    kept = {
        n: (run.checkpoints / n).read_bytes() for n in names(run.checkpoints) if "json" not in n
    }
    assert kept == {
        "m-d-epoch-1.pt.corrupt": b"first",
        "m-d-epoch-1.pt.corrupt-2": b"second",
        "m-d-epoch-1.pt.corrupt-3": b"third",
    }
    assert files.in_folder(run.checkpoints) == ([], [])
    files.sweep(run)
    assert len(names(run.checkpoints)) == 6, "what was set aside stays, with its sidecar"


def test_a_sidecar_is_json_for_every_reader_even_with_values_that_are_not_finite(
    run: RunDir,
) -> None:
    path = run.checkpoints / "m-d-epoch-1.pt"
    files.temporary(path).write_bytes(b"x")
    files.publish(path, info_of(1, b"x", metrics={"val_loss": float("nan"), "x": float("inf")}))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads(sidecar(path).read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_sweep_of_a_clean_folder_touches_nothing(run: RunDir) -> None:
    fresh(run)()
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in run.checkpoints.iterdir()}
    assert files.sweep(run) == []
    after = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in run.checkpoints.iterdir()}
    assert after == before
    assert files.sweep(RunDir(run.path.with_name("none"))) == []
