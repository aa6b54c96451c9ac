"""What a resume would keep, change and lose, said before anything is loaded."""

from __future__ import annotations

import importlib.metadata
import json
import os
from typing import Any

import pytest

from made_runs import begin, checkpoint
from plain_plugins import TINY
from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.preview import preview
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.resume import plan_resume
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

TORCH = importlib.metadata.version("torch").split("+")[0]


@pytest.fixture
def run(workspace: Workspace, store: Store) -> RunDir:
    """At epoch 2 of 3, saved on this machine with this torch."""
    made = begin(workspace, store)
    for epoch in (1, 2):
        here = {"hostname": os.uname().nodename, "device": "cpu", "pytorch_version": TORCH}
        came_from(checkpoint(made, epoch), **here)
    return made


def came_from(file: CheckpointFile, **metadata: Any) -> None:
    changed = {**file.info, "metadata": {**file.info["metadata"], **metadata}}
    write_sidecar(file.path, changed)


def of(workspace: Workspace, store: Store, target: str, *words: str) -> Preview:
    return preview(plan_resume(workspace, store, target, list(words)))


def verdicts(found: Preview) -> dict[str, str]:
    assert all(part.why for part in found.components)
    return {part.name: part.verdict for part in found.components}


def test_to_go_on_is_exact_in_every_part(workspace: Workspace, store: Store, run: RunDir) -> None:
    found = of(workspace, store, run.run_id, "num_epochs=9", "num_workers=2")
    assert (found.mode, found.run_id, found.epoch) == ("continue", run.run_id, 2)
    assert found.checkpoint == f"{run.run_id}/tiny-noise-epoch-2.pt"
    assert (found.global_step, found.total_epochs) == (20, 9)
    assert set(verdicts(found).values()) == {"exact"}, found.components
    assert {d.key for d in found.differences} == {"training.num_epochs", "training.num_workers"}
    assert not any(d.changes_result for d in found.differences)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("learning_rate=0.5", {"optimizer": "approximate", "scheduler": "approximate"}),
        ("optimizer=SGD", {"optimizer": "lost"}),
        ("batch_size=4", {"data order": "lost", "randomness": "lost"}),
        ("seed=1", {"data order": "lost", "randomness": "lost", "random state": "lost"}),
        ("precision=bf16", {"precision": "approximate"}),
        ("accumulate_grad_batches=2", {"accumulation": "approximate"}),
        ("model.hidden=9", {"weights": "approximate"}),
        ("dataset.count=40",
         {"data order": "lost", "randomness": "lost", "data set": "approximate"}),
        ("scheduler=cosine", {"scheduler": "approximate"}),
    ],
)  # fmt: skip
def test_what_a_branch_changes(
    workspace: Workspace, store: Store, run: RunDir, word: str, expected: dict[str, str]
) -> None:
    found = of(workspace, store, run.run_id, word)
    assert found.mode == "branch"
    assert {k: v for k, v in verdicts(found).items() if v != "exact"} == expected
    assert any(d.changes_result for d in found.differences)


def test_an_older_checkpoint_is_branched_from_exactly(
    workspace: Workspace, store: Store, run: RunDir
) -> None:
    found = of(workspace, store, f"{run.run_id}/tiny-noise-epoch-1.pt")
    assert (found.mode, found.epoch) == ("branch", 1)
    assert set(verdicts(found).values()) == {"exact"}


def test_another_place_another_torch_and_other_source(
    workspace: Workspace, store: Store, run: RunDir
) -> None:
    newest = checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt")
    came_from(newest, hostname="elsewhere", pytorch_version="2.0.1")
    (workspace.root / "models" / "tiny.py").write_text(TINY + "\n# another line\n")
    found = of(workspace, store, run.run_id)
    changed = {k: v for k, v in verdicts(found).items() if v != "exact"}
    parts = ("optimizer", "source code", "libraries", "device")
    assert changed == dict.fromkeys(parts, "approximate")
    (source,) = found.sources
    assert source.file == "models/tiny.py"
    assert source.diff.splitlines()[-1] == "+# another line"
    assert source.old_sha256 != source.new_sha256
    libraries = next(part.why for part in found.components if part.name == "libraries")
    assert "2.0.1" in libraries
    assert TORCH in libraries


TWO = ("distributed.launcher=torchrun", "distributed.devices=2")


@pytest.mark.parametrize(
    ("saved", "words", "why"),
    [
        ({}, ("distributed.launcher=torchrun",), "One, as before."),
        ({"ranks": 1}, ("distributed.launcher=ray",), "One, as before."),
        ({"ranks": 2}, TWO, "2, as before."),
        ({"ranks": 2}, ("distributed.launcher=ray", "distributed.nodes=2"), "2, as before."),
        ({"ranks": "many"}, (), "One, as before."),
    ],
)
def test_as_many_ranks_are_exact_whatever_starts_them(
    workspace: Workspace, store: Store, run: RunDir, saved: Any, words: Any, why: str
) -> None:
    came_from(checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt"), **saved)
    found = of(workspace, store, run.run_id, *words)
    assert found.mode == "continue"
    assert set(verdicts(found).values()) == {"exact"}
    assert next(part.why for part in found.components if part.name == "ranks") == why


@pytest.mark.parametrize(
    ("saved", "words", "count"),
    [(1, TWO, "2 in the place of 1"), (4, TWO, "2 in the place of 4"),
     (2, (), "1 in the place of 2")],
)  # fmt: skip
def test_another_number_of_ranks_goes_on_in_the_same_order(
    workspace: Workspace, store: Store, run: RunDir, saved: int, words: Any, count: str
) -> None:
    came_from(checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt"), ranks=saved)
    found = of(workspace, store, run.run_id, *words)
    assert found.mode == "continue"
    changed = {k: v for k, v in verdicts(found).items() if v != "exact"}
    assert changed == dict.fromkeys(("randomness", "ranks"), "approximate")
    why = next(part.why for part in found.components if part.name == "ranks")
    assert why.startswith(count)
    assert "order of the samples stays" in why


def test_another_strategy_adds_in_another_order(
    workspace: Workspace, store: Store, run: RunDir
) -> None:
    came_from(checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt"), ranks=2)
    found = of(workspace, store, run.run_id, *TWO, "distributed.strategy=fsdp")
    assert found.mode == "continue"
    assert {k for k, v in verdicts(found).items() if v != "exact"} == {"ranks"}
    why = next(part.why for part in found.components if part.name == "ranks")
    assert why == "With fsdp in the place of ddp, sums are made in another order."


def test_of_a_device_only_its_kind_counts(workspace: Workspace, store: Store, run: RunDir) -> None:
    for device, verdict in (("cuda", "exact"), ("cuda:1", "exact"), ("cpu", "approximate")):
        came_from(checkpoint_files.read(run.checkpoints / "tiny-noise-epoch-2.pt"), device=device)
        identity = run.read_identity()
        identity["requested"]["training"]["device"] = "cuda"
        run.identity.write_text(json.dumps(identity))
        assert verdicts(of(workspace, store, run.run_id))["device"] == verdict


def test_nothing_left_and_nothing_to_go_on_from(
    workspace: Workspace, store: Store, run: RunDir
) -> None:
    run.weights.write_bytes(b"done")
    found = of(workspace, store, run.run_id, "num_epochs=2")
    assert (found.mode, found.components) == ("finished", [])
    empty = begin(workspace, store)
    found = of(workspace, store, empty.run_id)
    assert (found.checkpoint, found.components, found.epoch) == (None, [], 0)
