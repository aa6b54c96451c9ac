"""Saves of which every rank writes a part: all of it is there under its name, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dying import crashes
from in_parts import Table, Threads, cut, save_in_parts, state_of
from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.core.holding import Hold
from tsuzuku.core.pruning import prune, survey
from tsuzuku.core.settings import CheckpointSettings
from tsuzuku.core.sidecars import sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir
from tsuzuku.training import part_writer
from tsuzuku.training.checkpoints import NonFiniteWeights, Save
from tsuzuku.training.opening import load
from tsuzuku.training.part_writer import PartWriter
from tsuzuku.worker.check import first_difference


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def saving(folder: Path, state: dict[str, Any], world: int = 2) -> list[BaseException | None]:
    """What becomes of a save on each rank."""
    table = Table(world)
    told: list[CheckpointFile] = []
    writers = [
        PartWriter(Threads(r, world, table=table), lambda: None, told.append) for r in range(world)
    ]
    for rank, writer in enumerate(writers):
        writer.start(Save(folder / "a.pt", cut(state, rank, world), {}))
        assert writer.together
    ends: list[BaseException | None] = []
    for writer in writers:
        try:
            writer.wait()
            ends.append(None)
        except BaseException as error:
            ends.append(error)
    assert bool(told) == (ends == [None] * world)
    return ends


@pytest.mark.parametrize("rank", [0, 1])
def test_what_is_not_finite_on_one_rank_is_saved_by_none(tmp_path: Path, rank: int) -> None:
    w = torch.ones(4, 2)
    w[2 * rank] = float("nan")
    ends = saving(tmp_path, state_of(w=w))
    assert all(isinstance(end, NonFiniteWeights) and "'w'" in end.detail for end in ends)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            OSError(28, "No space left on device"),
            DiskFull,
            "The disk is full: part 2 of a.pt could not",
        ),
        (OSError(5, "Input/output error"), TsuzukuError, "Input/output error"),
        (RuntimeError("odd"), TsuzukuError, "Rank 1 could not save its part: RuntimeError: odd."),
    ],
)
def test_what_fails_on_one_rank_is_told_on_all_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[TsuzukuError],
    words: str,
) -> None:
    original = part_writer.write_part

    def failing(file: Any, pieces: Any, offsets: Any) -> None:
        if offsets["model_state_dict.w"][0]:
            raise error
        original(file, pieces, offsets)

    monkeypatch.setattr(part_writer, "write_part", failing)
    first, second = saving(tmp_path, state_of(w=torch.ones(4, 2)))
    assert isinstance(first, kind)
    assert words in str(first)
    assert isinstance(second, kind) or second is error
    assert names(tmp_path) == set()


def test_what_fails_when_it_is_published_is_told_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskFull("The disk is full.")

    monkeypatch.setattr(part_writer, "write", full)
    assert [type(end) for end in saving(tmp_path, state_of())] == [DiskFull, DiskFull]
    assert names(tmp_path) == set()


def test_a_crash_at_any_moment_leaves_a_checkpoint_or_nothing(tmp_path: Path) -> None:
    """The second time over one of the same name, as a run has it that lost its newest."""
    run = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    path = run.checkpoints / "a.pt"
    old, new = state_of(1, 1), state_of(1, 2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked child has no others
    seen: set[Any] = set()

    def anew() -> None:
        for each in run.checkpoints.glob("*"):
            if each.is_file():
                each.unlink()
        checkpoint_files.sweep(run)
        assert names(run.checkpoints) == set()
        if over:
            save_in_parts(path, old)

    try:
        run.checkpoints.mkdir(parents=True)
        for over in (False, True):
            for _ in crashes(lambda: save_in_parts(path, new), anew):
                checkpoint_files.sweep(run)
                there = path.exists()
                step = load(path)["global_step"] if there else None
                seen.add((over, step))
                assert parts.folder_of(path).exists() == there
                assert sidecar(path).exists() == there
                if there:
                    checkpoint_files.check(checkpoint_files.read(path))
    finally:
        torch.set_num_threads(threads)
    assert seen == {(False, None), (False, 2), (True, 1), (True, 2)}


def test_parts_go_with_their_checkpoint(tmp_path: Path) -> None:
    """Pruned, held, and counted as a whole."""
    run = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    files = [save_in_parts(run.checkpoints / f"e-{n}.pt", state_of(n, n)) for n in (1, 2, 3)]
    policy = CheckpointSettings(keep_last_n=1, keep_best_n=0, milestones=[])
    records = survey(files, policy).records
    on_disk = sum(p.stat().st_size for p in parts.folder_of(files[2].path).iterdir())
    assert records[0].size == on_disk + files[2].path.stat().st_size
    hold = Hold(files[0].path)
    with Store(tmp_path / "t.db") as store:
        assert prune(run, policy, store).removed == ["e-2.pt"]
        hold.release()
        assert not parts.folder_of(files[1].path).exists()
        assert first_difference(files[0].path, files[0].path) is None
        assert prune(run, policy, store).removed == ["e-1.pt"]
        one, *_ = parts.folder_of(files[2].path).iterdir()
        save_in_parts(run.checkpoints / "e-0.pt", state_of(0, 0))
        one.unlink()
        with pytest.raises(TsuzukuError, match="lacks its part"):  # before anything is deleted
            prune(run, policy, store)
    assert (run.checkpoints / "e-0.pt").exists()
