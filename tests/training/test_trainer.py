"""The promise: whatever interrupts a training, it arrives at the same bits."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from attempts import (
    StopAfter,
    attempt,
    difference,
    last,
    new_run,
    resume,
    said,
    straight,
)

from tsuzuku.core.checkpoint_files import in_folder, read
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.worker.train import train

STEPS = 21
"""3 epochs of 56 samples in batches of 8."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def with_stops(workspace: Workspace, store: Store, stops: list[int], *words: str) -> RunDir:
    """A run that was stopped after each of the given numbers of steps of an attempt."""
    run = new_run(workspace, store, *words)
    for steps in stops:
        code = attempt(workspace, run, steps)
        assert code in (0, 143), said(run)
        if code == 0:
            return run
    assert attempt(workspace, run) == 0, said(run)
    return run


def test_a_stop_at_any_step_changes_nothing(workspace: Workspace, store: Store) -> None:
    calm = straight(workspace, store)
    assert read(last(calm)).global_step == STEPS
    stopped: list[tuple[int, int]] = []
    for asked in itertools.count():
        run = new_run(workspace, store)
        if attempt(workspace, run, asked) == 0:
            break  # it was over before it was to stop
        stopped.append(read(last(run)).position)
        assert attempt(workspace, run) == 0, said(run)
        assert difference(store, calm, run) is None, f"stopped at {stopped[-1]}"
    # after each step, within each validation (step 7 of epoch 0), and after each epoch but the last
    assert {step for step, _ in stopped} == set(range(1, STEPS + 1))
    assert {(7, 0), (7, 1), (14, 1), (14, 2), (21, 2)} <= set(stopped)


SCHEDULERS = ["none", "WarmupLR", "cosine", "onecycle", "step", "plateau"]
OPTIMIZERS = ["AdamW", "Adam", "SGD"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_many_stops_in_a_row_change_nothing(
    workspace: Workspace, store: Store, scheduler: str, optimizer: str
) -> None:
    words = [
        f"scheduler={scheduler}",
        f"optimizer={optimizer}",
        "warmup_steps=3",
        "scheduler_options.step_epochs=1",
        "scheduler_options.patience=0",
    ]
    dice = random.Random(f"{scheduler} {optimizer}")
    calm = straight(workspace, store, *words)
    run = with_stops(workspace, store, [dice.randrange(5) for _ in range(5)], *words)
    assert len(store.attempts(run.run_id)) >= 4
    assert difference(store, calm, run) is None


@pytest.mark.parametrize("accumulate", [2, 3, 7, 100])
def test_accumulation_is_stopped_only_at_its_boundaries(
    workspace: Workspace, store: Store, accumulate: int
) -> None:
    words = [f"accumulate_grad_batches={accumulate}", "scheduler=cosine"]
    calm = straight(workspace, store, *words)
    assert read(last(calm)).global_step == 3 * -(-7 // accumulate)
    run = with_stops(workspace, store, [0, 1, 0, 1], *words)
    assert difference(store, calm, run) is None


def test_a_batch_in_passes_is_the_same_step_and_resumes_exactly(
    workspace: Workspace, store: Store
) -> None:
    plain = ["model.dropout=0", "dataset.noise=0", "dataset.count=61"]
    whole = straight(workspace, store, *plain)
    words = [*plain, "device_batch_size=3"]
    calm = straight(workspace, store, *words)
    for key in ("loss", "train_loss", "val_loss", "accuracy", "grad_norm"):
        a, b = (store.raw_points(run.run_id, key) for run in (whole, calm))
        assert dict(a) == pytest.approx(dict(b), abs=1e-5), key
    run = with_stops(workspace, store, [3, 5, 1], *words, "num_workers=1")
    assert difference(store, calm, run) is None


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_mixed_precision_resumes_exactly(
    workspace: Workspace, store: Store, precision: str
) -> None:
    calm = straight(workspace, store, f"precision={precision}")
    run = with_stops(workspace, store, [3, 5, 1], f"precision={precision}")
    assert difference(store, calm, run) is None
    saved = torch.load(last(calm), weights_only=True)
    assert ("scaler_state_dict" in saved) == (precision == "16")


def test_loader_processes_change_nothing_even_from_attempt_to_attempt(
    workspace: Workspace, store: Store
) -> None:
    calm = straight(workspace, store)
    run = new_run(workspace, store)
    for workers, stop in ((2, 4), (0, 5), (2, None)):
        resume(workspace, store, run.run_id, f"num_workers={workers}")
        assert attempt(workspace, run, stop) == (0 if stop is None else 143), said(run)
    assert len(store.attempts(run.run_id)) == 3
    assert difference(store, calm, run) is None


def test_mid_epoch_saves_and_log_intervals_change_nothing(
    workspace: Workspace, store: Store
) -> None:
    calm = straight(workspace, store)
    run = straight(workspace, store, "checkpoint.every_steps=1", "checkpoint.keep_last_n=2")
    assert difference(store, calm, run) is None
    sparse = straight(workspace, store, "log_interval=10")
    assert {p[0] for p in store.raw_points(sparse.run_id, "loss")} == {10, 20}


def test_another_seed_gives_other_weights(workspace: Workspace, store: Store) -> None:
    calm = straight(workspace, store)
    other = straight(workspace, store, "seed=43")
    assert "differ" in str(difference(store, calm, other))


def test_early_stopping_counts_over_attempts(workspace: Workspace, store: Store) -> None:
    words = ["early_stopping.patience=2", "learning_rate=1e-9", "num_epochs=30"]
    calm = straight(workspace, store, *words)
    assert 2 < read(last(calm)).epoch < 30
    run = with_stops(workspace, store, [6, 6, 6], *words)
    assert difference(store, calm, run) is None
    # asked to go on, it sees that it had ended
    assert attempt(workspace, run) == 0
    assert difference(store, calm, run) is None


def test_more_epochs_continue_the_run_as_if_it_had_been_asked_for_them_at_once(
    workspace: Workspace, store: Store
) -> None:
    calm = straight(workspace, store, "num_epochs=5")
    run = straight(workspace, store, "num_epochs=2")
    assert resume(workspace, store, run.run_id, "num_epochs=5").run_id == run.run_id
    assert attempt(workspace, run) == 0
    assert read(last(run)).epoch == 5
    for a, b in zip(*(in_folder(r.checkpoints)[0] for r in (calm, run)), strict=True):
        assert (a.global_step, a.info["metrics"]) == (b.global_step, b.info["metrics"])
    a, b = (torch.load(last(r), weights_only=True)["model_state_dict"] for r in (calm, run))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_branch_leaves_the_old_run_as_it_was(workspace: Workspace, store: Store) -> None:
    run = straight(workspace, store)
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    branch = resume(workspace, store, "tiny-noise-epoch-1.pt", "learning_rate=0.5")
    assert branch.run_id != run.run_id
    assert attempt(workspace, branch) == 0, said(branch)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
    record = store.run(branch.run_id)
    assert record is not None
    assert record.parent == f"{run.run_id}/tiny-noise-epoch-1.pt"
    rates = {v for _, v in store.raw_points(branch.run_id, "learning_rate")}
    assert rates == {0.5}, "the new learning rate is not overwritten by the restored optimizer"
    steps = [s for s, _ in store.raw_points(branch.run_id, "loss")]
    assert steps == list(range(8, STEPS + 1))


def test_a_branch_without_changes_is_the_same_training(workspace: Workspace, store: Store) -> None:
    run = straight(workspace, store, "scheduler=cosine")
    branch = resume(workspace, store, f"{run.run_id}/tiny-noise-epoch-2.pt")
    assert branch.run_id != run.run_id
    assert attempt(workspace, branch) == 0
    a, b = (torch.load(last(r), weights_only=True) for r in (run, branch))
    assert all(
        torch.equal(a["model_state_dict"][k], b["model_state_dict"][k])
        for k in a["model_state_dict"]
    )


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_taken(
    workspace: Workspace, store: Store
) -> None:
    calm = straight(workspace, store)
    run = new_run(workspace, store)
    assert attempt(workspace, run, 16) == 143
    newest = last(run)
    newest.write_bytes(newest.read_bytes()[:-100])
    assert attempt(workspace, run) == 0
    assert newest.with_name(newest.name + ".corrupt").exists()
    assert difference(store, calm, run) is None
    assert any(
        e.payload["level"] == "warning" and newest.name in e.payload["message"]
        for e in store.events(run_id=run.run_id, types=["log"])
    )


def test_the_checkpoint_holds_what_the_contract_says(workspace: Workspace, store: Store) -> None:
    run = new_run(workspace, store)
    assert attempt(workspace, run, 11) == 143
    saved = torch.load(last(run), weights_only=True)
    assert last(run).name == "tiny-noise-epoch-1-step-10.pt"
    for key in [
        "epoch",
        "global_step",
        "model_state_dict",
        "optimizer_state_dict",
        "scheduler_state_dict",
        "metrics",
        "best_val_loss",
        "config",
        "sampler_state",
        "rng_state",
        "metadata",
    ]:
        assert key in saved
    assert (saved["epoch"], saved["global_step"]) == (1, 10)
    assert set(saved["metadata"]) >= {
        "timestamp",
        "hostname",
        "git_commit",
        "pytorch_version",
        "tsuzuku_version",
        "python_version",
        "device",
        "model_params",
        "training_time",
        "run_id",
        "attempt",
        "parent",
        "source_sha256",
        "dataset_fingerprint",
    }
    card = json.loads(last(run).with_name(last(run).name + ".json").read_text())
    assert card["size"] == last(run).stat().st_size
    assert card["sampler_state"]["batches"] == 3
    assert (run.checkpoints / "tiny-noise-latest.pt").resolve() == last(run)
    best = torch.load(run.checkpoints / "tiny-noise-best.pt", weights_only=True)
    assert best["epoch"] == 1


def test_the_best_outlives_the_file_it_came_from(workspace: Workspace, store: Store) -> None:
    words = [
        "learning_rate=3",
        "num_epochs=6",
        "checkpoint.keep_last_n=1",
        "checkpoint.keep_best_n=0",
    ]
    run = straight(workspace, store, *words)
    names = [c.name for c in in_folder(run.checkpoints)[0]]
    assert names == ["tiny-noise-epoch-6.pt"]
    best = torch.load(run.checkpoints / "tiny-noise-best.pt", weights_only=True)
    losses = [
        e.payload["val_loss"] for e in store.events(run_id=run.run_id, types=["validation_result"])
    ]
    assert best["metrics"]["val_loss"] == min(losses)


def test_events_come_in_the_order_of_the_seeds(workspace: Workspace, store: Store) -> None:
    run = straight(workspace, store, "num_epochs=1", "log_interval=7")
    kinds = [
        e.payload.get("status") or e.type
        for e in store.events(run_id=run.run_id)
        if e.type != "log"
        or e.payload["message"] in ("Preparing the training...", "Training started")
    ]
    assert kinds == [
        *("starting", "log", "log", "running", "progress"),
        *("validation_result", "checkpoint", "completed"),
    ]
    seqs = [e.seq for e in store.events()]
    assert seqs == list(range(1, len(seqs) + 1))


NAN = """
import torch
class Bad(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(6))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
    def forward(self, batch):
        self.seen += self.training
        loss = (batch["x"] @ self.w).square().mean()
        return loss * float({value!r}) if self.seen == {at} else loss
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    workspace: Workspace, store: Store, value: str
) -> None:
    source = NAN.format(value=value, at=10)
    (workspace.root / "models" / "tiny.py").write_text(source, encoding="utf-8")
    run = new_run(workspace, store)
    assert train(workspace, run.run_id, StopAfter(None)) == 1
    good, odd = in_folder(run.checkpoints)
    assert [c.name for c in good] == ["tiny-noise-epoch-1.pt"]
    assert not odd
    (error,) = store.events(run_id=run.run_id, types=["error"])
    assert error.payload["code"] == "non_finite"
    assert f"became {value} in epoch 2 at step 10" in error.payload["message"]
    record = store.run(run.run_id)
    assert record is not None
    assert record.status == "failed"


def test_weights_that_are_not_finite_are_never_saved(workspace: Workspace, store: Store) -> None:
    source = NAN.format(value="1", at=1).replace(
        "return loss",
        "self.w.data[0] = float('nan') if self.seen == 7 else 1.0\n        return loss",
    )
    (workspace.root / "models" / "tiny.py").write_text(source, encoding="utf-8")
    run = new_run(workspace, store, "validation_split=0", "grad_clip_thresh=null", "num_epochs=1")
    assert train(workspace, run.run_id, StopAfter(None)) == 1
    assert in_folder(run.checkpoints) == ([], [])


def test_every_validation_sample_counts_once(workspace: Workspace, store: Store) -> None:
    """A last batch that is smaller weighs less; pairs are added up on both sides."""
    run = straight(workspace, store, "validation_split=0.45", "batch_size=24", "num_epochs=1")
    (result,) = store.events(run_id=run.run_id, types=["validation_result"])
    accuracy = result.payload["accuracy"]
    held_out = round(64 * 0.45)
    assert accuracy * held_out == pytest.approx(round(accuracy * held_out))


def test_save_best_only_saves_improvements_and_the_end(workspace: Workspace, store: Store) -> None:
    run = straight(
        workspace, store, "checkpoint.save_best_only=true", "learning_rate=3", "num_epochs=6"
    )
    results = store.events(run_id=run.run_id, types=["validation_result"])
    best, expected = None, []
    for e in results:
        if best is None or e.payload["val_loss"] < best:
            best = e.payload["val_loss"]
            expected.append(e.payload["epoch"])
    names = [c.epoch for c in in_folder(run.checkpoints)[0]]
    assert names == sorted({*expected, 6})
    assert len(names) < 6, "this seed was chosen so that some epoch is no improvement"


def test_model_presets_and_names_of_files(workspace: Workspace, store: Store) -> None:
    words = [
        "checkpoint.filename=checkpoint_epoch_{epoch:03d}.pth",
        "checkpoint.filename_step=checkpoint_epoch_{epoch:03d}_step_{global_step}.pth",
        "checkpoint.latest=last_model.pth",
        "checkpoint.best=best_model.pth",
    ]
    run = new_run(workspace, store, *words)
    assert attempt(workspace, run, 11) == 143
    assert attempt(workspace, run) == 0
    names = {p.name for p in run.checkpoints.iterdir() if p.suffix == ".pth"}
    assert names == {
        "checkpoint_epoch_001.pth", "checkpoint_epoch_001_step_10.pth", "checkpoint_epoch_002.pth",
        "checkpoint_epoch_003.pth", "last_model.pth", "best_model.pth",
    }  # fmt: skip


def test_the_final_weights_open_with_safetensors(workspace: Workspace, store: Store) -> None:
    from safetensors.torch import load_file

    full = straight(workspace, store)
    half = straight(workspace, store, "save.compact=true")
    a, b = load_file(full.weights), load_file(half.weights)
    assert all(a[k].half().equal(b[k]) for k in a)
    assert {t.dtype for t in b.values()} == {torch.float16}


def test_tensorboard_shows_each_step_once_after_a_crash(workspace: Workspace, store: Store) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = new_run(workspace, store)
    assert attempt(workspace, run, 12) == 143
    # as after a SIGKILL: the newest checkpoint is older than what was reported
    for path in (last(run), Path(f"{last(run)}.json")):
        path.unlink()
    assert attempt(workspace, run) == 0
    board = EventAccumulator(str(run.logs))
    board.Reload()
    assert [e.step for e in board.Scalars("loss")] == list(range(1, STEPS + 1))


def test_the_order_of_stops_does_not_matter(workspace: Workspace, store: Store) -> None:
    """All ways to cut the first six steps into three attempts end alike."""
    calm = straight(workspace, store, "num_epochs=1")
    for first, second in itertools.product(range(3), repeat=2):
        run = with_stops(workspace, store, [first, second], "num_epochs=1")
        assert difference(store, calm, run) is None
