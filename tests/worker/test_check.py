"""Every flipped bit is found; whatever a hostile file holds, nothing of it runs or fills memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.sidecars import sidecar, write_sidecar
from tsuzuku.training.checkpoints import Save, write
from tsuzuku.training.opening import load
from tsuzuku.worker.check import verify


def saved(folder: Path, epoch: int = 1) -> CheckpointFile:
    info = {"epoch": epoch, "global_step": epoch, "metrics": {"val_loss": 0.25, "wer": 1e-05}}
    info |= {"config": {"model_name": "m"}, "metadata": {"run_id": "r", "timestamp": 10.0}}
    state = {**info, "model_state_dict": {"w": torch.arange(40.0), "b": torch.zeros(3)}}
    return write(Save(folder / f"c-{epoch}.pt", state, info))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One bit flipped, or the end cut off."""
    if chance.random() < 0.1:
        return content[: chance.randrange(len(content))]
    found = bytearray(content)
    found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def test_ten_thousand_flips_and_cuts_are_all_found(tmp_path: Path) -> None:
    file = saved(tmp_path)
    card = sidecar(file.path)
    whole = {path: path.read_bytes() for path in (file.path, card)}
    chance = random.Random(6)
    for _ in range(10_000):
        path = chance.choice([file.path, card])
        path.write_bytes(damaged(whole[path], chance))
        with pytest.raises(CorruptCheckpoint):
            verify(file.path)
        path.write_bytes(whole[path])
    assert verify(file.path) == "hash, structure and weights"


def test_every_bit_of_a_sidecar_counts(tmp_path: Path) -> None:
    file = saved(tmp_path)
    card = sidecar(file.path)
    whole = card.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            found = bytearray(whole)
            found[place] ^= 1 << bit
            card.write_bytes(found)
            with pytest.raises(CorruptCheckpoint):
                checkpoint_files.read(file.path)


def test_weights_of_other_shapes_than_the_model_s_are_found(tmp_path: Path) -> None:
    file = saved(tmp_path)
    tensors = {**file.info["tensors"], "w": ["float32", [8, 5]]}
    write_sidecar(file.path, {**file.info, "tensors": tensors})
    with pytest.raises(CorruptCheckpoint, match=r"the weights 'w' are not of the type and shape"):
        verify(file.path)


MARK = "tsuzuku-was-here"


class Runs:
    """Does something when it is unpickled."""

    def __init__(self, how: Callable[..., Any], *words: Any) -> None:
        self.how, self.words = how, words

    def __reduce__(self) -> Any:
        return self.how, self.words


def archive(path: Path, pickled: bytes, **parts: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/version", "3\n")
        file.writestr("a/byteorder", "little")
        for name, content in parts.items():
            file.writestr(f"a/data/{name.removeprefix('part')}", content)


def checkpoint_with(value: Any) -> dict[str, Any]:
    return {"epoch": 1, "config": {}, "model_state_dict": {"w": torch.ones(2)}, "x": value}


def reducers(folder: Path) -> None:
    mark = str(folder / MARK)
    for n, evil in enumerate(
        [
            Runs(os.system, f"touch {mark}"),
            Runs(eval, f"open({mark!r}, 'w')"),
            Runs(exec, f"open({mark!r}, 'w')"),
            Runs(subprocess.Popen, ["touch", mark]),
            Runs(getattr, "x", "upper"),
            Runs(__import__, "antigravity"),
            Runs(io.FileIO, mark, "w"),
            Runs(torch.load, mark),
            Runs(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/x"),
        ]
    ):
        torch.save(checkpoint_with(evil), folder / f"reducer-{n}.pt")
        torch.save(
            checkpoint_with(evil),
            folder / f"old-reducer-{n}.pt",
            _use_new_zipfile_serialization=False,
        )
        (folder / f"bare-reducer-{n}.pt").write_bytes(pickle.dumps(checkpoint_with(evil)))


def archives(folder: Path) -> None:
    whole = io.BytesIO()
    torch.save(checkpoint_with(1), whole)
    with (
        zipfile.ZipFile(whole) as good,
        zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for part in good.infolist():
            content = good.read(part)
            bomb.writestr(
                part.filename, content if "data/" not in part.filename else bytes(1 << 28)
            )
    with zipfile.ZipFile(folder / "escape.pt", "w") as escape:
        escape.writestr(f"../{MARK}", "x")
        escape.writestr(f"/tmp/{MARK}", "x")
    archive(folder / "nothing.pt", b"")
    archive(folder / "endless.pt", b"\x80\x02" + b"]" * 200_000)
    laughs: Any = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    torch.save(checkpoint_with(laughs), folder / "laughs.pt")
    deep: Any = None
    for _ in range(200):
        deep = [deep]
    torch.save(checkpoint_with(deep), folder / "deep.pt")


def tensors(folder: Path) -> None:
    wide = torch.ones(1).expand(1 << 20, 1 << 20)
    torch.save(checkpoint_with(1) | {"model_state_dict": {"w": wide}}, folder / "wide.pt")
    meta = torch.empty(1 << 40, device="meta")
    torch.save(checkpoint_with(1) | {"model_state_dict": {"w": meta}}, folder / "meta.pt")
    sparse = torch.zeros(4, 4).to_sparse()
    torch.save(checkpoint_with(1) | {"model_state_dict": {"w": sparse}}, folder / "sparse.pt")
    # a storage that claims more than the archive has
    buffer = io.BytesIO()
    torch.save(checkpoint_with(1), buffer)
    with zipfile.ZipFile(buffer) as good:
        for name, size in (
            ("huge", b"\x8a\x05\x00\x00\x00\x00\x10"),
            ("negative", b"J\xff\xff\xff\xff"),
        ):
            pickled = good.read("archive/data.pkl").replace(b"K\x02tq", size + b"tq", 1)
            assert pickled != good.read("archive/data.pkl")
            with zipfile.ZipFile(folder / f"{name}.pt", "w") as file:
                for part in good.namelist():
                    content = pickled if part.endswith("data.pkl") else good.read(part)
                    file.writestr(part, content)


LOOK = """
import json, resource, sys
from pathlib import Path
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.worker.check import verify
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = {}
for path in sorted(Path(sys.argv[1]).glob("*.pt")):
    try:
        said[path.name] = [True, verify(path)]
    except TsuzukuError as error:
        said[path.name] = [False, error.detail]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"said": said, "grown": grown}))
"""


def test_a_corpus_of_hostile_files_is_refused_and_memory_bounded(tmp_path: Path) -> None:
    for make in (reducers, archives, tensors):
        make(tmp_path)
    count = len(list(tmp_path.glob("*.pt")))
    assert count >= 35
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert [name for name, (fine, _) in answer["said"].items() if fine] == []
    assert len(answer["said"]) == count
    assert all(name in said for name, (_, said) in answer["said"].items())
    assert answer["grown"] < 600_000, f"{answer['grown']} KiB more"
    assert not (tmp_path / MARK).exists()
    assert not Path(f"/tmp/{MARK}").exists()
    assert not (tmp_path.parent / MARK).exists()


def test_what_is_as_large_as_it_says_is_opened(tmp_path: Path) -> None:
    """The bounds are for what is not there, not for what is large or shared."""
    shared = torch.arange(100_000.0)
    state = {"a": shared, "b": shared, "part": shared[10:20]}
    info = {"epoch": 1, "global_step": 1, "metrics": {}, "config": {}, "metadata": {}}
    torch.save({**info, "model_state_dict": state, "list": list(range(50_000))}, tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")["model_state_dict"]["part"].shape == (10,)
    assert resource.getpagesize()
