"""Files of other programs, looked into without torch; torch only writes them here."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from made_runs import begin
from tsuzuku.core.errors import CorruptCheckpoint, NotFound, TsuzukuError
from tsuzuku.core.foreign import look
from tsuzuku.core.importing import find_import, listed
from tsuzuku.core.name_fit import fit
from tsuzuku.core.pickle_outline import NoOutline, outline
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


TRAP = "/tmp/tsuzuku-was-here"


class Trap:
    """Makes a file where a pickle is simply loaded."""

    def __reduce__(self) -> Any:
        return (shutil.copyfile, ("/dev/null", TRAP))


def test_what_the_seeds_write_is_recognized(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    moving = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    moving.step()
    content = {
        "epoch": 25,
        "global_step": 900,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": moving.state_dict(),
        "scheduler_state_dict": {"last_epoch": 25},
        "metrics": {"loss": 0.5},
        "config": {"model_name": "koemorph", "dataset_name": "arkit"},
    }
    found = look(saved(tmp_path / "checkpoint_epoch_025.pth", content))
    assert (found.format, found.epoch, found.global_step) == ("checkpoint", 25, 900)
    assert {k: (v.dtype, v.shape) for k, v in found.weights.items()} == {
        "weight": ("float32", (2, 3)),
        "bias": ("float32", (2,)),
    }
    assert (found.model_name, found.dataset_name) == ("koemorph", "arkit")
    assert found.scheduler
    assert found.optimizer is not None
    assert (found.optimizer.kind, found.optimizer.count) == ("AdamW", 2)


@pytest.mark.parametrize(
    ("version", "said", "loops", "epoch", "midway"),
    [
        ("1.5.10", 5, None, 5, False),  # counted the completed ones
        ("2.4.0", 4, None, 5, False),  # the number of the current one, from 0, at its end
        ("2.4.0", 4, (5, 5, False), 5, False),  # in the hooks at an epoch's end
        ("2.4.0", 4, (5, 4, True), 5, False),  # while validating after its last batch
        ("2.4.0", 4, (5, 4, False), 4, True),  # in its middle
        ("2.4.0", 5, (5, 5, True), 5, False),  # after the whole fit
    ],
)
def test_completed_epochs_of_lightning(
    tmp_path: Path,
    version: str,
    said: int,
    loops: tuple[int, int, bool] | None,
    epoch: int,
    midway: bool,
) -> None:
    content: dict[str, Any] = {
        "epoch": said,
        "pytorch-lightning_version": version,
        "state_dict": WEIGHTS,
    }
    if loops:
        ready, processed, last = loops
        current = {"ready": ready, "started": ready, "processed": processed, "completed": said}
        batches = {"current": {"ready": 3, "processed": 3}, "is_last_batch": last}
        content["loops"] = {
            "fit_loop": {
                "epoch_progress": {"current": current},
                "epoch_loop.batch_progress": batches,
            }
        }
    found = look(saved(tmp_path / "theirs.ckpt", content))
    assert (found.format, found.epoch, found.midway) == ("lightning", epoch, midway)


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    """What is beside the weights is left out; a trap in place of them is refused by its name."""
    trap = Path(TRAP)
    trap.unlink(missing_ok=True)
    beside = {"state_dict": WEIGHTS, "hyper_parameters": argparse.Namespace(a=1), "x": Trap()}
    found = look(saved(tmp_path / "beside.ckpt", beside))
    assert found.unopened == ("argparse.Namespace", "shutil.copyfile")
    for name, content, word in (
        ("whole.pt", torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ("trap.pt", Trap(), "shutil.copyfile"),
        ("inside.pt", {"state_dict": {**WEIGHTS, "b": Trap()}}, "shutil.copyfile"),
    ):
        with pytest.raises(CorruptCheckpoint, match=word) as refused:
            look(saved(tmp_path / name, content))
        assert "torch.save(" in refused.value.hint or "detach" in refused.value.hint
    assert not trap.exists()


def hostile(folder: Path) -> list[Path]:
    good = saved(folder / "good.pt", {"epoch": 1, "model": WEIGHTS}).read_bytes()
    files = {
        "empty.pt": b"",
        "random.pt": random.Random(1).randbytes(5000),
        "zip.pt": b"PK\x03\x04" + random.Random(2).randbytes(5000),
        "cut.pt": good[: len(good) // 2],
        "bare.pt": pickle.dumps({"a": 1}),
        "header.safetensors": (1 << 60).to_bytes(8, "little") + b"{}",
        "short.safetensors": b"\x05",
        "row.safetensors": (60).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(60),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    saved(folder / "list.pt", [1, 2])
    saved(folder / "none.pt", {"a": 1})
    saved(folder / "large.pt", {"a": torch.ones(1).expand(1 << 40)})
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(200 << 20))
    (folder / "good.pt").unlink()
    return sorted(folder.iterdir())


def test_hostile_files_are_refused_in_a_sentence_at_once(tmp_path: Path) -> None:
    for path in hostile(tmp_path):
        began = time.monotonic()
        with pytest.raises(CorruptCheckpoint) as refused:
            look(path)
        assert time.monotonic() - began < 2, path.name
        assert path.name in refused.value.detail
        assert refused.value.detail.endswith(".")
        assert "\n" not in str(refused.value)


@given(some.binary(max_size=200))
def test_any_bytes_have_an_outline_or_none(pickled: bytes) -> None:
    with contextlib.suppress(NoOutline):
        outline(pickled)


def test_keys_that_take_forever_are_left_out() -> None:
    """A tuple of tuples of tuples: to hash it would take 2^60 steps."""
    doubled = b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(60))
    assert outline(b"\x80\x04)\x94" + doubled + b"}h\x3cK\x01s.") == {}


def test_names_fit_without_wrappers_and_prefixes() -> None:
    own = ["net.a", "net.b"]
    for theirs in (
        ["net.a", "net.b"],
        ["module.net.a", "module.net.b"],
        ["_orig_mod.module.net.b", "_orig_mod.module.net.a"],
        ["net._orig_mod.a", "net._orig_mod.b"],
        ["model.net.a", "model.net.b"],
        ["a", "b"],
    ):
        assert fit(theirs, own).whole, theirs
    partly = fit(["model.net.b", "loss.weight"], own)
    assert (partly.names, partly.missing) == ({"net.b": "model.net.b"}, ["net.a"])
    assert partly.unexpected == ["loss.weight"]


def test_the_folder_of_imports(workspace: Workspace, tmp_path: Path) -> None:
    """Only plain files of it, by plain names."""
    assert listed(workspace) == []
    workspace.imports.mkdir()
    saved(workspace.imports / "a.pt", {"epoch": 2, "model_state_dict": WEIGHTS})
    (workspace.imports / "b.ckpt").write_bytes(b"nothing")
    (workspace.imports / "notes.txt").write_text("not a checkpoint")
    outside = saved(tmp_path / "outside.pt", WEIGHTS)
    (workspace.imports / "link.pt").symlink_to(outside)
    found = {one.name: one for one in listed(workspace)}
    assert list(found) == ["imports/a.pt", "imports/b.ckpt", "imports/link.pt"]
    assert (found["imports/a.pt"].epoch, found["imports/a.pt"].has) == (2, ["weights", "epoch"])
    assert found["imports/b.ckpt"].problem.endswith("no file of torch.")
    assert "link" in found["imports/link.pt"].problem
    long = f"imports/{'a' * 290}.pt"
    for name in (
        long,
        "imports/link.pt",
        "imports/../config.yaml",
        "imports/../a.pt",
        "imports/c.pt",
    ):
        with pytest.raises(NotFound):
            find_import(workspace, name, paths=False)
    assert find_import(workspace, str(outside), paths=False) is None
    assert find_import(workspace, str(outside), paths=True) is not None


def test_looking_loads_no_torch(tmp_path: Path) -> None:
    """The server does it."""
    path = saved(tmp_path / "a.pt", WEIGHTS)
    code = "import sys; from pathlib import Path; from tsuzuku.core.foreign import look; "
    code += "look(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_run_s_own_checkpoint_by_its_path_is_no_import(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    own = saved(run.checkpoints / "own.pt", {"model": WEIGHTS})
    assert find_import(workspace, str(own), paths=True) is None
    copy = workspace.root / "copy.pt"
    shutil.copyfile(own, copy)
    assert find_import(workspace, str(copy), paths=True) is not None
    with pytest.raises(TsuzukuError):
        look(workspace.root / "gone.pt")
