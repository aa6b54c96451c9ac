"""One file made of a checkpoint in parts: the same bits, safe at every moment."""

from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dying import crashes
from in_parts import cut, save_in_parts, state_of
from tsuzuku.core import checkpoint_files, compression, parts
from tsuzuku.core.errors import Busy, CorruptCheckpoint, DiskFull
from tsuzuku.core.workspace import RunDir
from tsuzuku.training import checkpoints, gathering
from tsuzuku.training.checkpoints import Save, write, written
from tsuzuku.training.gathering import gather
from tsuzuku.training.opening import load
from tsuzuku.training.part_files import opened
from tsuzuku.worker.check import describe, first_difference, verify


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def as_one(path: Path, state: dict[str, Any]) -> Path:
    """A gathered save of `state`."""
    path.parent.mkdir(exist_ok=True)
    info = {k: state[k] for k in ("epoch", "global_step", "metrics", "config", "metadata")}
    return write(Save(path, state, info)).path


KINDS = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]


@given(
    world=st.integers(1, 4),
    shapes=st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=4),
    kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=4),
    tied=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_what_a_gathered_save_would_have_been(
    tmp_path_factory: pytest.TempPathFactory,
    world: int,
    shapes: list[list[int]],
    kinds: list[torch.dtype],
    tied: bool,
) -> None:
    """For any number of ranks, lengths that they do not divide, empty ones, 0 dimensions, and
    weights that are tied."""
    folder = tmp_path_factory.mktemp("run")
    weights = {
        f"layer.{i}": torch.randint(0, 2, shape).to(kind)
        for i, (shape, kind) in enumerate(zip(shapes, kinds, strict=False))
    }
    if tied:
        weights["head"] = next(iter(weights.values()))
    state = state_of(**weights)
    file = save_in_parts(folder / "a.pt", state, world)
    assert first_difference(file.path, as_one(folder / "one" / "a.pt", state)) is None
    gathered = gather(file.path)
    assert names(folder) == {"a.pt", "a.pt.json", "one/a.pt", "one/a.pt.json"}
    alone = torch.load(file.path, weights_only=True)
    assert list(alone) == list(state)
    assert alone["optimizer_state_dict"]["param_groups"] == [{"betas": (0.9, 0.99)}]
    # not a bit of the file is another one
    assert file.path.read_bytes() == (folder / "one" / "a.pt").read_bytes()
    assert (
        gathered.info["tensors"] == checkpoint_files.read(folder / "one" / "a.pt").info["tensors"]
    )
    if tied and alone["model_state_dict"]["head"].numel():
        pair = alone["model_state_dict"]["head"], alone["model_state_dict"]["layer.0"]
        assert pair[0].data_ptr() == pair[1].data_ptr()


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_any_number_of_ranks_reads_its_pieces(
    tmp_path_factory: pytest.TempPathFactory, length: int, wrote: int, reads: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "a.pt"
    whole = torch.randn(length, 2)
    save_in_parts(path, state_of(w=whole), wrote)
    scattered = load(path, whole=False)["model_state_dict"]["w"]
    step = -(-length // reads)
    for rank in range(reads):
        begin = min(rank * step, length)
        size = min(step, length - begin)
        assert torch.equal(scattered.box((begin, 0), (size, 2)), whole[begin : begin + size])


def test_torchs_own_reader_opens_the_parts(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    state = state_of(w=torch.randn(5, 3), h=torch.randn(3).bfloat16())
    file = save_in_parts(tmp_path / "a.pt", state, 3)
    into = {
        "model_state_dict.w": torch.zeros(5, 3),
        "model_state_dict.h": torch.zeros(3).bfloat16(),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = str(parts.folder_of(file.path))
        dcp.load(into, storage_reader=HuggingFaceStorageReader(folder), no_dist=True)
    assert torch.equal(into["model_state_dict.w"], state["model_state_dict"]["w"])
    assert torch.equal(into["model_state_dict.h"], state["model_state_dict"]["h"])


def test_file_and_parts_are_plain_and_counted(tmp_path: Path) -> None:
    file = save_in_parts(tmp_path / "a.pt", state_of())
    folder = parts.folder_of(file.path)
    assert len(list(folder.iterdir())) == 2
    sizes = [p.stat().st_size for p in (file.path, *folder.iterdir())]
    assert file.info["size"] == describe(file.path)["size"] == sum(sizes)
    alone = torch.load(file.path, weights_only=True)
    assert alone["model_state_dict"]["w"] is None
    assert alone["global_step"] == 1
    assert verify(file.path) == "hash, structure and weights"
    assert compression.candidates([file], 0) == []


@pytest.mark.parametrize("how", ["missing", "cut", "altered", "folder"])
def test_a_part_that_is_not_what_was_saved_makes_it_corrupt(tmp_path: Path, how: str) -> None:
    file = save_in_parts(tmp_path / "a.pt", state_of())
    one, *_ = sorted(parts.folder_of(file.path).iterdir())
    content = one.read_bytes()
    if how == "missing":
        one.unlink()
    elif how == "cut":
        one.write_bytes(content[:-1])
    elif how == "altered":
        one.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        parts.remove(file.path)
    for use in (checkpoint_files.check, lambda f: verify(f.path), lambda f: gather(f.path)):
        with pytest.raises(CorruptCheckpoint, match=r"a\.pt"):
            use(file)
    aside = checkpoint_files.set_aside(file.path)
    assert aside.name == "a.pt.corrupt"
    assert not parts.folder_of(file.path).exists()
    assert parts.folder_of(aside).exists() == (how != "folder")
    assert checkpoint_files.sweep(RunDir(tmp_path)) == []


def test_without_its_parts_a_file_says_so(tmp_path: Path) -> None:
    file = save_in_parts(tmp_path / "a.pt", state_of())
    elsewhere = tmp_path / "elsewhere.pt"
    elsewhere.write_bytes(file.path.read_bytes())
    with pytest.raises(CorruptCheckpoint, match=r"has its tensors in parts, which are not all in"):
        load(elsewhere)


def test_tables_that_lie_are_refused(tmp_path: Path) -> None:
    file = save_in_parts(tmp_path / "a.pt", state_of())
    good = torch.load(file.path, weights_only=True)
    first = good["sharded_tensors"][0]
    lies: list[dict[str, Any]] = [
        {"sharded_tensors": [{**first, "shape": [1 << 40, 3]}]},
        {"sharded_tensors": [{**first, "shape": [-1]}]},
        {"sharded_tensors": [{**first, "dtype": "float64"}]},
        {"sharded_tensors": [{**first, "name": "nothing"}]},
        {"sharded_tensors": [{**first, "places": [["metrics", "w"]]}]},
        {"sharded_tensors": [{**first, "places": 5}]},
        {"sharded_tensors": 5},
        {"parts": [{**good["parts"][0], "name": "../a.pt"}]},
        {"parts": good["parts"][:1]},
        {"parts": good["parts"] * 2},
        {"parts": "all"},
    ]
    for lie in lies:
        torch.save({**good, **lie}, file.path)
        with pytest.raises(CorruptCheckpoint):
            load(file.path)


def test_a_crash_at_any_moment_leaves_a_whole_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "2026-11-21" / "19-20-14")
    path, best = run.checkpoints / "a.pt", run.checkpoints / "best.pt"
    state = state_of()
    one = as_one(tmp_path / "one" / "a.pt", state)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked child has no others
    seen: set[tuple[bool, bool]] = set()

    def anew() -> None:
        for each in (path, best):
            checkpoint_files.remove(each)
        file = save_in_parts(path, state)
        checkpoint_files.link_best(file, best.name)

    try:
        run.checkpoints.mkdir(parents=True)
        for _ in crashes(lambda: gather(path), anew):
            for each in (path, best):
                checkpoint_files.check(checkpoint_files.read(each))
                assert first_difference(each, one) is None, "before anything is swept"
            checkpoint_files.sweep(run)
            known = {"a.pt", "a.pt.json", "best.pt", "best.pt.json"}
            for each in (path, best):
                info = checkpoint_files.read(each).info
                assert checkpoint_files.NEXT not in info
                known |= {f"{each.name}.parts/{part.name}" for part in parts.listed(info)}
                checkpoint_files.check(checkpoint_files.read(each))
                assert first_difference(each, one) is None
            assert names(run.checkpoints) == known
            seen.add(tuple(parts.KEY in checkpoint_files.read(p).info for p in (path, best)))  # pyright: ignore[reportArgumentType]
    finally:
        torch.set_num_threads(threads)
    assert seen == {(True, True), (False, True), (False, False)}


def test_the_best_has_parts_of_its_own_and_follows(tmp_path: Path) -> None:
    first = save_in_parts(tmp_path / "a.pt", state_of(1, 1))
    checkpoint_files.link_best(first, "best.pt")
    second = save_in_parts(tmp_path / "b.pt", state_of(2, 2))
    checkpoint_files.link_best(second, "best.pt")
    best = tmp_path / "best.pt"
    assert first_difference(best, second.path) is None
    assert len(list(parts.folder_of(best).iterdir())) == 2, "the first one's are gone"
    assert checkpoint_files.bests(tmp_path) == [best]
    gathered = gather(best)
    assert gathered.path == best
    assert best.samefile(second.path)
    assert parts.KEY not in checkpoint_files.read(second.path).info
    # it outlives what it is a copy of
    checkpoint_files.link_best(first, "other-best.pt")
    checkpoint_files.remove(first.path)
    assert first_difference(gather(tmp_path / "other-best.pt").path, best) is not None
    assert names(tmp_path) == {
        *("b.pt", "b.pt.json", "best.pt", "best.pt.json"),
        *("other-best.pt", "other-best.pt.json"),
    }


def test_one_file_stays_as_it_is(tmp_path: Path) -> None:
    path = as_one(tmp_path / "a.pt", state_of())
    content = path.read_bytes()
    assert parts.KEY not in gather(path).info
    assert path.read_bytes() == content
    (tmp_path / "latest.pt").symlink_to("a.pt")
    assert gather(tmp_path / "latest.pt").name == "a.pt"


def _gathering(folder: Path, begun: Any, go_on: Any) -> None:
    original = checkpoints.written

    def waiting(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return original(*args)

    gathering.written = waiting
    gather(folder / "a.pt")


def test_beside_others(tmp_path: Path) -> None:
    """While a process gathers: another one does not, a start of the training sweeps nothing of it,
    readers go on with what they have opened, and pruning leaves it."""
    from tsuzuku.core.holding import is_held

    file = save_in_parts(tmp_path / "checkpoints" / "a.pt", state_of())
    context = multiprocessing.get_context("fork")
    begun, go_on = context.Event(), context.Event()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    process = context.Process(target=_gathering, args=(file.path.parent, begun, go_on))
    process.start()
    try:
        assert begun.wait(30)
        with pytest.raises(Busy, match="gathered by another process"):
            gather(file.path)
        assert is_held(file.path)
        opened_before = load(file.path, whole=False)["model_state_dict"]["w"]
        assert checkpoint_files.sweep(RunDir(tmp_path)) == []
    finally:
        go_on.set()
        process.join()
        torch.set_num_threads(threads)
    assert process.exitcode == 0
    now = checkpoint_files.read(file.path)
    assert parts.KEY not in now.info
    checkpoint_files.check(now)
    assert torch.equal(opened_before.whole(), load(file.path)["model_state_dict"]["w"])


@pytest.mark.parametrize("gone", [False, True])
def test_what_has_taken_its_name_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """A training has a new best one, say, or somebody deletes the checkpoint."""
    file = save_in_parts(tmp_path / "a.pt", state_of(1, 1))
    newer = save_in_parts(tmp_path / "b.pt", state_of(2, 2))
    checkpoint_files.link_best(file, "best.pt")
    checkpoint_files.remove(file.path)
    best = tmp_path / "best.pt"

    def slow(state: Any, draft: Path) -> Any:
        made = written(state, draft)
        if gone:
            checkpoint_files.remove(best)
        else:
            checkpoint_files.link_best(newer, best.name)
        return made

    monkeypatch.setattr(gathering, "written", slow)
    with pytest.raises(Busy, match="was replaced, moved or deleted"):
        gather(best)
    assert best.exists() != gone
    if not gone:
        assert first_difference(best, newer.path) is None
        checkpoint_files.check(checkpoint_files.read(best))


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_in_parts(tmp_path / "a.pt", state_of())
    before = names(tmp_path)

    def full(state: Any, draft: Path) -> Any:
        written(state, draft)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gathering, "written", full)
    with pytest.raises(DiskFull, match=r"a\.pt could not be written"):
        gather(file.path)
    assert names(tmp_path) == before
    checkpoint_files.check(file)


def test_a_part_that_goes_while_it_is_opened_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path, ["nothing.safetensors"], {})
    assert cut(state_of(), 0, 1)["pieces"]
