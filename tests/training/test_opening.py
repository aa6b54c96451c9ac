"""Opening checkpoints: never somebody's code, and never a file that is damaged."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from small_states import save_of, state_of

from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import CorruptCheckpoint, TsuzukuError
from tsuzuku.training.checkpoints import write
from tsuzuku.training.opening import check_weights, load


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write(save_of(tmp_path, rng=torch.get_rng_state(), nested={"a": [1, (2.5, None, "x")]}))
    return tmp_path / "a.pt"


def legacy(path: Path) -> Path:
    """The same checkpoint in the format from before torch 1.6, as old files still are."""
    old = path.with_name("legacy.pt")
    torch.save(torch.load(path, weights_only=True), old, _use_new_zipfile_serialization=False)
    return old


def test_old_files_are_opened_too(good: Path) -> None:
    assert load(legacy(good))["nested"] == {"a": [1, (2.5, None, "x")]}


@pytest.mark.parametrize("old", [False, True])
def test_a_file_cut_at_any_length_is_refused(good: Path, old: bool) -> None:
    path = legacy(good) if old else good
    content = path.read_bytes()
    lengths = {*range(0, len(content), max(len(content) // 150, 1)), *range(20), len(content) - 1}
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptCheckpoint, match=path.name):
            load(path)


@pytest.mark.parametrize("old", [False, True])
def test_flipped_bits_are_refused_or_harmless_but_never_a_crash(good: Path, old: bool) -> None:
    path = legacy(good) if old else good
    content = path.read_bytes()
    chance = random.Random(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 8])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            load(path)
        except CorruptCheckpoint:
            refused += 1
    assert refused > 20


def test_every_flipped_bit_is_found_by_the_hash(good: Path) -> None:
    found = checkpoint_files.read(good)
    content = good.read_bytes()
    for place in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[place] ^= 1
        good.write_bytes(bytes(damaged))
        with pytest.raises(CorruptCheckpoint, match="altered"):
            checkpoint_files.check(found)


class Hostile:
    def __init__(self, folder: Path, how: int) -> None:
        self.folder, self.how = folder, how

    def __reduce__(self) -> Any:
        mark = str(self.folder / "executed")
        return [
            (os.mkdir, (mark,)),
            (eval, (f"__import__('os').mkdir({mark!r})",)),
            (exec, (f"import os; os.mkdir({mark!r})",)),
            (os.system, (f"mkdir {mark}",)),
            (subprocess.check_call, (["mkdir", mark],)),
        ][self.how]


@pytest.mark.parametrize("how", range(5))
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "in the weights"])
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, how: int, form: str
) -> None:
    evil, path = Hostile(tmp_path, how), tmp_path / "evil.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(state_of(evil=evil)))
    elif form == "in the weights":
        torch.save(state_of() | {"model_state_dict": {"w": evil}}, path)
    else:
        torch.save(state_of(evil=evil), path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CorruptCheckpoint, match=r"evil\.pt was refused") as caught:
        load(path)
    assert caught.value.code == "unsafe_checkpoint"
    assert not (tmp_path / "executed").exists()


def test_objects_that_would_do_no_harm_are_refused_as_well(tmp_path: Path) -> None:
    torch.save(state_of(model=torch.nn.Linear(1, 1)), tmp_path / "a.pt")
    with pytest.raises(CorruptCheckpoint, match="run its code"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("key", ["model_state_dict", "epoch", "config"])
def test_a_checkpoint_that_lacks_a_part_is_refused_by_its_name(tmp_path: Path, key: str) -> None:
    state = state_of()
    del state[key]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CorruptCheckpoint, match=f"lacks {key}"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [[1], torch.ones(2), "text", 5, None])
def test_files_that_hold_something_else_are_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(CorruptCheckpoint, match="not a checkpoint"):
        load(tmp_path / "a.pt")


@pytest.mark.parametrize("weights", [{}, [], None, torch.ones(1), "x"])
def test_a_checkpoint_without_weights_is_refused(tmp_path: Path, weights: Any) -> None:
    torch.save(state_of() | {"model_state_dict": weights}, tmp_path / "a.pt")
    with pytest.raises(CorruptCheckpoint, match="no weights"):
        load(tmp_path / "a.pt")


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    for content in (b"", b"hello", b"\x80\x02", b"PK\x03\x04", bytes(1000), buffer.getvalue()):
        path.write_bytes(content)
        with pytest.raises(CorruptCheckpoint, match=r"a\.pt"):
            load(path)
    with pytest.raises(CorruptCheckpoint, match="does not exist"):
        load(tmp_path / "none.pt")
    with pytest.raises(CorruptCheckpoint):
        load(tmp_path)


def test_weights_of_another_model_are_refused_by_the_first_that_differs() -> None:
    model = torch.nn.Linear(3, 2)
    weights = dict(model.state_dict())
    check_weights(model, weights, "a.pt")
    for changed, said in (
        ({"weight": torch.ones(2, 4)}, r"'weight' has the shape \[2, 4\] there and \[2, 3\] here"),
        ({"bias": None}, "'bias' has the shape of no tensor"),
        ({"more": torch.ones(1)}, "'more' is not in this one"),
    ):
        with pytest.raises(CorruptCheckpoint, match=said):
            check_weights(model, weights | changed, "a.pt")
    with pytest.raises(CorruptCheckpoint, match="it has no 'bias'"):
        check_weights(model, {"weight": weights["weight"]}, "a.pt")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate"
                     " memory: you tried to allocate 8 bytes."),
        OSError(errno.EMFILE, "Too many open files"),
    ],
)  # fmt: skip
def test_a_machine_that_lacks_something_does_not_make_a_checkpoint_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Else a worker short of memory would set a good checkpoint aside."""
    path = tmp_path / "good.pt"
    torch.save({"epoch": 1, "config": {}, "model_state_dict": {"w": torch.zeros(1)}}, path)

    def short(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(TsuzukuError) as caught:
        load(path)
    assert not isinstance(caught.value, CorruptCheckpoint)
