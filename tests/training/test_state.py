"""A training that is captured and restored goes on to the same weights, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.settings import RunSettings, TrainingSettings
from tsuzuku.training.checkpoints import Save, write
from tsuzuku.training.opening import load
from tsuzuku.training.optim import make_optimizer, make_scheduler
from tsuzuku.training.randomness import seed_all
from tsuzuku.training.state import TrainingState, section

CPU = torch.device("cpu")
STEPS = 4
"""Optimizer steps an epoch."""


def state_of(
    training: dict[str, Any] | None = None, *, seed: int = 0, **fields: Any
) -> TrainingState:
    settings = RunSettings(
        model_name="m",
        dataset_name="d",
        dataset={"path": "x"},
        training=TrainingSettings.model_validate({"num_epochs": 6, **(training or {})}),
    )
    settings = settings.model_copy(update=fields)
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
    )
    optimizer = make_optimizer(model, settings.training)
    return TrainingState(
        settings=settings,
        device=CPU,
        model=model,
        optimizer=optimizer,
        scheduler=make_scheduler(optimizer, settings.training, STEPS),
        scaler=torch.amp.GradScaler("cpu") if settings.training.precision == "16" else None,
        identity={"run_id": "r", "attempt": 1},
    )


def work(state: TrainingState, steps: int) -> list[float]:
    """Some steps as the trainer makes them; the losses."""
    losses: list[float] = []
    for _ in range(steps):
        seed_all(state.global_step)
        x = torch.randn(6, 5)
        loss = (state.model(x).squeeze(1) - x.sum(1)).square().mean()
        if state.scaler is not None:
            state.scaler.scale(loss).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
        else:
            loss.backward()
            state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.global_step += 1
        state.batches += 1
        state.loss_sum += loss.item()
        losses.append(loss.item())
        if isinstance(state.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if state.global_step % STEPS == 0:
                state.scheduler.step(loss.item())
        elif state.scheduler is not None:
            state.scheduler.step()
    return losses


def through_a_file(state: TrainingState, folder: Path) -> dict[str, Any]:
    write(Save(folder / "a.pt", state.capture({"val_loss": 0.5}), {}))
    return load(folder / "a.pt")


def bits(state: TrainingState) -> dict[str, Any]:
    """Everything that decides how it goes on."""
    return {
        "model": {k: v.clone() for k, v in state.model.state_dict().items()},
        "optimizer": state.optimizer.state_dict(),
        "scheduler": state.scheduler.state_dict() if state.scheduler else None,
        "scaler": state.scaler.state_dict() if state.scaler else None,
        "rest": [state.epoch, state.batches, state.global_step, state.loss_sum, state.best],
        "more": [state.metrics, state.bad_validations],
    }


def assert_same(a: Any, b: Any, path: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}.{i}")
    else:
        assert a == b, path


@pytest.mark.parametrize("precision", ["32", "16"])
@pytest.mark.parametrize("scheduler", ["none", "WarmupLR", "cosine", "onecycle", "step", "plateau"])
@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "SGD"])
def test_a_restored_training_goes_on_bit_for_bit(
    tmp_path: Path, optimizer: str, scheduler: str, precision: str
) -> None:
    training = {
        "optimizer": optimizer,
        "scheduler": scheduler,
        "precision": precision,
        "warmup_steps": 3,
        "scheduler_options": {"step_epochs": 1, "gamma": 0.5, "patience": 0},
    }
    straight = state_of(training)
    straight.best, straight.bad_validations, straight.metrics = 0.25, 2, {"val_loss": 0.5}
    work(straight, 7)
    saved = through_a_file(straight, tmp_path)
    restored = state_of(training, seed=99)
    work(restored, 3)  # whatever was there before must not show
    restored.restore(saved, "a.pt", same_run=True)
    assert_same(bits(restored), bits(straight))
    assert work(restored, 9) == work(straight, 9)
    assert_same(bits(restored), bits(straight))


def test_capture_has_the_keys_of_the_contract_and_nothing_but_plain_values() -> None:
    state = state_of({"precision": "16"})
    captured = state.capture({"val_loss": 1.0, "wer": 0.5})
    assert captured.keys() >= {
        *("epoch", "global_step", "model_state_dict", "optimizer_state_dict"),
        *("scheduler_state_dict", "scaler_state_dict", "metrics", "best_val_loss", "config"),
        *("sampler_state", "rng_state", "metadata"),
    }
    assert captured["metadata"].keys() >= {
        *("timestamp", "hostname", "pytorch_version", "tsuzuku_version", "python_version"),
        *("device", "model_params", "training_time", "run_id", "attempt"),
    }
    assert captured["metrics"] == {"val_loss": 1.0, "wer": 0.5}
    assert captured["metadata"]["model_params"] == sum(p.numel() for p in state.model.parameters())
    assert captured["config"] == state.settings.model_dump(mode="json")
    assert "scaler_state_dict" not in state_of().capture({})


def test_the_generators_come_back(tmp_path: Path) -> None:
    state = state_of()
    seed_all(5)
    saved = through_a_file(state, tmp_path)
    expected = torch.rand(3)
    seed_all(9)
    state_of().restore(saved, "a.pt", same_run=True)
    assert torch.equal(torch.rand(3), expected)


def test_training_time_adds_up_over_attempts(tmp_path: Path) -> None:
    state = state_of()
    state.time_before = 1000.0
    saved = through_a_file(state, tmp_path)
    again = state_of()
    again.restore(saved, "a.pt", same_run=True)
    assert 1000 <= again.time_before <= again.training_time < 2000


def test_the_number_of_threads_comes_back_with_the_run(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        saved = through_a_file(state_of(), tmp_path)
        torch.set_num_threads(1)
        state_of().restore(saved, "a.pt", same_run=True)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        state_of().restore(saved, "a.pt", same_run=False)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


# Branches


def branched(
    tmp_path: Path, old: dict[str, Any], new: dict[str, Any], **fields: Any
) -> TrainingState:
    parent = state_of(old)
    parent.best, parent.bad_validations = 0.25, 2
    work(parent, 6)
    parent.epoch, parent.batches = 1, 2
    child = state_of(new, seed=7, **fields)
    child.restore(through_a_file(parent, tmp_path), "a.pt", same_run=False)
    assert_same(dict(child.model.state_dict()), dict(parent.model.state_dict()))
    assert (child.epoch, child.global_step) == (1, 6)
    return child


def test_a_branch_keeps_its_own_hyper_parameters(tmp_path: Path) -> None:
    new = {"learning_rate": 0.5, "weight_decay": 0.3, "betas": [0.1, 0.2], "eps": 1e-3}
    group = branched(tmp_path, {}, new).optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["eps"]) == (0.5, 0.3, 1e-3)
    assert tuple(group["betas"]) == (0.1, 0.2)


def test_a_branch_takes_over_the_moments_of_the_same_optimizer_only(tmp_path: Path) -> None:
    assert branched(tmp_path, {}, {"learning_rate": 0.5}).optimizer.state
    assert not branched(tmp_path, {}, {"optimizer": "SGD"}).optimizer.state


def test_a_branch_goes_on_within_the_epoch_if_its_samples_come_in_the_same_order(
    tmp_path: Path,
) -> None:
    same = branched(tmp_path, {}, {"learning_rate": 0.5})
    assert same.batches == 2
    assert same.loss_sum > 0
    for change in ({"batch_size": 8}, {"seed": 1}, {"limit_samples": 5}, {"validation_split": 0}):
        other = branched(tmp_path, {}, change)
        assert (other.batches, other.loss_sum) == (0, 0.0), change
    other = branched(tmp_path, {}, {}, dataset={"path": "y"})
    assert other.batches == 0


def test_a_branch_to_another_data_set_begins_the_epoch_anew(tmp_path: Path) -> None:
    assert branched(tmp_path, {}, {}, dataset_name="other").batches == 0


def test_a_branch_that_measures_something_else_forgets_the_best_so_far(tmp_path: Path) -> None:
    """0.25 as a loss says nothing about an accuracy, nor about the loss on other samples."""
    changed = ({"checkpoint": {"monitor": "accuracy", "mode": "max"}}, {"validation_split": 0.5})
    for new in changed:
        assert branched(tmp_path, {}, new).best is None, new
    assert branched(tmp_path, {}, {}, dataset={"path": "y"}).best is None
    assert branched(tmp_path, {}, {"learning_rate": 0.5}).best == 0.25


def test_a_branch_gets_new_patience(tmp_path: Path) -> None:
    assert branched(tmp_path, {}, {"early_stopping": {"patience": 2}}).bad_validations == 0


@pytest.mark.parametrize("scheduler", ["WarmupLR", "cosine", "onecycle", "step"])
def test_a_branch_with_another_rate_stands_where_its_parents_schedule_stood(
    tmp_path: Path, scheduler: str
) -> None:
    old = {"scheduler": scheduler, "warmup_steps": 3, "scheduler_options": {"step_epochs": 1}}
    new = old | {"learning_rate": 0.02}
    child = branched(tmp_path, old, new)
    straight = state_of(new)
    work(straight, 6)
    rate = straight.optimizer.param_groups[0]["lr"]
    assert child.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert child.scheduler is not None
    work(child, 18)  # to the end of all steps


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_a_branch_with_larger_batches_has_a_rate_left_to_train_with(
    tmp_path: Path, scheduler: str
) -> None:
    """Epoch 5 of 6 stays five sixths of the way, however many steps an epoch has now."""
    training = {"scheduler": scheduler, "batch_size": 8}
    parent = state_of(training)
    work(parent, 5 * STEPS)
    parent.epoch, parent.batches = 5, 0
    saved = through_a_file(parent, tmp_path)
    child = state_of(training | {"batch_size": 32})
    # a quarter of the steps an epoch
    child.scheduler = make_scheduler(child.optimizer, child.settings.training, STEPS // 4)
    child.restore(saved, "a.pt", same_run=False)
    assert child.optimizer.param_groups[0]["lr"] > 0


# Files of other programs


def test_a_file_with_the_bare_minimum_restores_weights_and_epoch() -> None:
    parent, child = state_of(), state_of(seed=5)
    work(parent, 3)
    bare = {"model_state_dict": dict(parent.model.state_dict()), "epoch": 3, "config": {}}
    child.restore(bare, "foreign.pth", same_run=False)
    assert_same(dict(child.model.state_dict()), dict(parent.model.state_dict()))
    assert (child.epoch, child.global_step, child.best) == (3, 0, None)
    odd = bare | {"sampler_state": None, "metadata": [1], "trainer_state": 5, "config": "text"}
    state_of().restore(odd, "foreign.pth", same_run=False)


def test_an_optimizer_of_other_groups_is_no_crash() -> None:
    parent = state_of()
    other = torch.optim.AdamW(
        [{"params": [p]} for p in parent.model.parameters()], lr=0.1
    ).state_dict()
    bare = {"model_state_dict": dict(parent.model.state_dict()), "epoch": 3, "config": {}}
    state_of().restore(bare | {"optimizer_state_dict": other}, "foreign.pth", same_run=False)


def test_weights_of_another_model_change_nothing() -> None:
    state = state_of()
    before = bits(state)
    weights = {**state.model.state_dict(), "0.weight": torch.ones(8, 6)}
    with pytest.raises(CorruptCheckpoint, match=r"'0\.weight'"):
        state.restore({"model_state_dict": weights, "epoch": 1, "config": {}}, "a", same_run=True)
    assert_same(bits(state), before)


def test_a_section_that_is_not_there_is_empty() -> None:
    assert section({"a": {"b": {"c": 1}}}, "a", "b") == {"c": 1}
    assert section({"a": 5}, "a", "b") == {}
    assert section({}, "a") == {}
