"""Runs that begin from files of other programs."""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from attempts import attempt, difference, last, said
from safetensors.torch import save_file

from tsuzuku.core import launch
from tsuzuku.core.checkpoint_files import in_folder
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.resume import plan_resume, plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.foreign import read_beginning

MINE = ("net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias")


class Other(torch.nn.Module):
    """The network of the tests' model, as another program has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(8, 3)
        )


def trained(optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW) -> tuple[Any, Any]:
    """A model and its optimizer after three steps of a loop written by hand."""
    torch.manual_seed(1)
    model = Other()
    moving = optimizer(model.parameters(), lr=0.02)  # pyright: ignore[reportCallIssue]
    for _ in range(3):
        moving.zero_grad()
        model.net(torch.randn(5, 6)).square().mean().backward()
        moving.step()
    return model, moving


def seed_file(path: Path, **more: Any) -> dict[str, Any]:
    """A checkpoint as the seeds write it."""
    model, moving = trained()
    saved: dict[str, Any] = {
        "epoch": 1,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": moving.state_dict(),
        "loss": 0.25,
        "config": {"model_name": "tiny", "dataset_name": "noise"},
        **more,
    }
    torch.save(saved, path)
    return saved


def begun(workspace: Workspace, store: Store, file: Path, *words: str) -> RunDir:
    overrides = parse_overrides(list(words), "tiny", "noise")
    plan = plan_training(workspace, store, "tiny", "noise", overrides, checkpoint=str(file))
    return launch.prepare(workspace, store, plan).run


def killed(workspace: Workspace, run: RunDir, checkpoints: int) -> None:
    """Let a worker process go until there are so many checkpoints, and kill it at once."""
    process = launch.spawn(workspace, run)
    end = time.monotonic() + 60
    marks = ("from the file", "Training started")
    while process.poll() is None and time.monotonic() < end:
        if checkpoints and len(in_folder(run.checkpoints)[0]) >= checkpoints:
            break
        text = run.journal.read_text() if run.journal.exists() else ""
        if not checkpoints and all(mark in text for mark in marks):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_weights_and_moments_are_the_files_bit_for_bit(tmp_path: Path) -> None:
    saved = seed_file(tmp_path / "checkpoint_epoch_001.pth")
    model = Other()
    got = read_beginning(
        tmp_path / "checkpoint_epoch_001.pth", model, "AdamW", epoch=1, partial=False
    )
    assert [got.lost, got.left, got.unused, got.converted] == [[], [], [], []]
    for name, tensor in saved["model_state_dict"].items():
        assert torch.equal(got.saved["model_state_dict"][name], tensor)
    theirs = saved["optimizer_state_dict"]["state"]
    mine = got.saved["optimizer_state_dict"]["state"]
    assert mine.keys() == theirs.keys()
    for number, kept in theirs.items():
        assert mine[number].keys() == kept.keys()
        assert all(torch.equal(mine[number][key], value) for key, value in kept.items())
    for kind in ("Adam", "SGD"):  # another optimizer's moments mean something else
        path = tmp_path / "checkpoint_epoch_001.pth"
        assert read_beginning(path, model, kind, epoch=1, partial=False).lost == ["optimizer"]


def test_a_run_from_a_file_is_exact_through_kills(workspace: Workspace, store: Store) -> None:
    """Killed before its first checkpoint and after it, while the file is gone and altered."""
    file = workspace.root / "theirs.pth"
    seed_file(file)
    words = ("num_epochs=4", "scheduler=cosine", "dataset.count=600")
    calm = begun(workspace, store, file, *words)
    stormy = begun(workspace, store, file, *words)
    assert attempt(workspace, calm) == 0, said(calm)
    file.unlink()
    killed(workspace, stormy, checkpoints=0)
    assert not in_folder(stormy.checkpoints)[0], "it was killed too late to show anything"
    other = plan_resume(workspace, store, stormy.run_id, ["learning_rate=0.5"])
    assert (other.mode, other.origin) == ("branch", "imports/theirs.pth")
    file.write_bytes(b"something else")
    killed(workspace, stormy, checkpoints=1)
    reached = in_folder(stormy.checkpoints)[0]
    assert reached
    assert reached[-1].epoch < 4
    assert attempt(workspace, stormy) == 0, said(stormy)
    assert difference(store, calm, stormy) is None
    opened = torch.load(last(calm), weights_only=True)
    origin = opened["metadata"]["origin"]
    assert (origin["name"], origin["format"]) == ("theirs.pth", "checkpoint")
    copy = calm.imports / "theirs.pth"
    assert origin["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert opened["epoch"] == 4
    record = store.run(calm.run_id)
    assert record is not None
    assert record.parent == "imports/theirs.pth"


def test_the_first_step_goes_on_from_the_files_weights_and_moments(
    workspace: Workspace, store: Store
) -> None:
    """A learning rate of nearly nothing leaves them where they were."""
    saved = seed_file(workspace.root / "theirs.pth", global_step=500)
    words = ("num_epochs=2", "learning_rate=1e-30")
    run = begun(workspace, store, workspace.root / "theirs.pth", *words)
    assert attempt(workspace, run) == 0, said(run)
    opened = torch.load(last(run), weights_only=True)
    for name, tensor in saved["model_state_dict"].items():
        assert torch.equal(opened["model_state_dict"][name], tensor)
    steps = opened["global_step"] - 500
    assert steps > 0
    states = opened["optimizer_state_dict"]["state"].values()
    assert [float(one["step"]) for one in states] == [3 + steps] * 4


def test_names_of_wrappers_and_lightning_are_understood(tmp_path: Path) -> None:
    model, moving = trained()
    state = model.state_dict()
    files: dict[str, Any] = {
        "plain.pt": state,
        "wrapped.pth": {"model": state},
        "parallel.pt": {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        "compiled.pt": {f"_orig_mod.{k}": v for k, v in state.items()},
        "lightning.ckpt": {
            "epoch": 4,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {f"model.{k}": v for k, v in state.items()},
            "optimizer_states": [moving.state_dict()],
            "hyper_parameters": argparse.Namespace(lr=0.1),
        },
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    save_file(state, tmp_path / "weights.safetensors")
    own = Other()
    for name in (*files, "weights.safetensors"):
        got = read_beginning(tmp_path / name, own, "AdamW", epoch=0, partial=False)
        assert all(torch.equal(got.saved["model_state_dict"][k], state[k]) for k in MINE), name
        assert got.lost == ([] if name == "lightning.ckpt" else ["optimizer"])


def test_what_does_not_fit_is_refused_unless_a_part_is_wanted(tmp_path: Path) -> None:
    model, _ = trained()
    state = {k: v for k, v in model.state_dict().items() if k != "net.3.bias"}
    state |= {"head.weight": torch.ones(2), "net.3.weight": state["net.3.weight"].half()}
    torch.save(state, tmp_path / "other.pt")
    own = Other()
    before = own.net[3].bias.clone()
    with pytest.raises(TsuzukuError, match=r"1 weights are missing \('net.3.bias'\) and 1 are"):
        read_beginning(tmp_path / "other.pt", own, "AdamW", epoch=0, partial=False)
    got = read_beginning(tmp_path / "other.pt", own, "AdamW", epoch=0, partial=True)
    assert (got.left, got.unused) == (["net.3.bias"], ["head.weight"])
    assert got.converted == ["net.3.weight"]
    assert torch.equal(got.saved["model_state_dict"]["net.3.bias"], before)
    for name, tensor, why in (
        ("shape", torch.ones(4, 6), r"float32 \[4, 6\] there and float32 \[8, 6\] here"),
        ("type", torch.ones(8, 6, dtype=torch.int64), "int64"),
        ("nan", torch.full((8, 6), torch.nan), "not finite"),
    ):
        torch.save({**model.state_dict(), "net.0.weight": tensor}, tmp_path / f"{name}.pt")
        with pytest.raises(TsuzukuError, match=why):
            read_beginning(tmp_path / f"{name}.pt", own, "AdamW", epoch=0, partial=False)


def test_moments_in_another_order_are_lost(tmp_path: Path) -> None:
    """Nobody can tell which parameter they are of."""
    model, moving = trained()
    swapped = dict(reversed(model.state_dict().items()))
    torch.save({"epoch": 1, "model": swapped, "optimizer": moving.state_dict()}, tmp_path / "a.pt")
    got = read_beginning(tmp_path / "a.pt", Other(), "AdamW", epoch=1, partial=False)
    assert got.lost == ["optimizer"]
    assert torch.equal(got.saved["model_state_dict"]["net.0.bias"], model.net[0].bias)


def test_the_command_line_begins_from_a_file(workspace: Workspace) -> None:
    """By the names in the file; what is lost is said before and then."""
    seed_file(workspace.root / "theirs.pth")

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tsuzuku", "-w", str(workspace.root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    file = str(workspace.root / "theirs.pth")
    asked = ran("resume", file, "--preview")
    assert asked.returncode == 0, asked.stderr
    assert "data order" in asked.stdout
    save_file(Other().state_dict(), workspace.root / "bare.safetensors")
    inspected = ran("inspect", str(workspace.root / "bare.safetensors"))
    assert "net.3.bias" in inspected.stdout
    unknown = ran("resume", file, "--model", "nobody", "--preview")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 2)
    (workspace.root / "cut.pth").write_bytes((workspace.root / "theirs.pth").read_bytes()[:-9])
    refused = ran("train", "tiny", "noise", "--resume", str(workspace.root / "cut.pth"))
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert len(list(workspace.run_dirs())) == 0
    done = ran("resume", file, "num_epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imports/theirs.pth" in done.stdout
    with Store(workspace.db) as store:
        again = plan_resume(workspace, store, store.runs()[0].run_id, [])
    assert again.mode == "finished"
