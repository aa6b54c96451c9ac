"""How far a run is."""

from __future__ import annotations

from typing import Any

import pytest

from made_runs import begin
from tsuzuku.core import progress
from tsuzuku.core.answers import Progress
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


@pytest.fixture
def run(workspace: Workspace, store: Store) -> RunDir:
    return begin(workspace, store, "num_epochs=4", status="running")


def step(run: RunDir, number: int, at: float, **more: Any) -> Event:
    """Ten steps an epoch."""
    epoch, within = (number - 1) // 10 + 1, (number - 1) % 10 + 1
    payload = {"epoch": epoch, "total_epochs": 4, "step": within, "total_steps": 10,
               "global_step": number, "loss": 0.5, "learning_rate": 0.01, **more}  # fmt: skip
    return Event(type="progress", payload=payload, run_id=run.run_id, time=at)


def of(store: Store, run: RunDir, alive: bool = True) -> Progress:
    record = store.run(run.run_id)
    assert record is not None
    return progress.of(store, record, alive, None)


def test_before_the_first_step(store: Store, run: RunDir) -> None:
    found = of(store, run)
    assert (found.is_training, found.progress, found.total_epochs) == (True, 0.0, 4)
    assert (found.current_step, found.current_loss, found.eta_seconds) == (0, None, None)


def test_within_an_epoch(store: Store, run: RunDir) -> None:
    store.append([step(run, n, 100.0 + 2 * n) for n in range(1, 16)])
    found = of(store, run)
    assert (found.current_epoch, found.current_step, found.total_steps) == (2, 5, 10)
    assert found.global_step == 15
    assert found.progress == 15 / 40
    assert found.eta_seconds == pytest.approx(2 * 25)
    assert of(store, run, alive=False).eta_seconds is None


def test_one_step_has_no_pace(store: Store, run: RunDir) -> None:
    store.append([step(run, 1, 100.0)])
    assert of(store, run).eta_seconds is None


def test_the_pace_is_that_of_the_last_minute_and_of_this_attempt(store: Store, run: RunDir) -> None:
    slow = [step(run, n, 100.0 * n) for n in range(1, 11)]
    # killed, and three steps back
    quick = [step(run, n, 2000.0 + n) for n in range(8, 13)]
    store.append([*slow, *quick])
    assert of(store, run).eta_seconds == pytest.approx(28.0)


def test_what_is_not_finite_and_what_is_missing(store: Store, run: RunDir) -> None:
    store.append([step(run, 1, 1.0, loss=float("nan"), grad_norm=float("inf"))])
    found = of(store, run)
    assert (found.current_loss, found.grad_norm, found.samples_per_second) == (None, None, None)


def test_completed_is_all_of_it(store: Store, run: RunDir) -> None:
    """Early stopping completes a run before its last epoch."""
    store.append([step(run, 20, 1.0)])
    store.update_run(run.run_id, status="completed", epoch=2)
    found = of(store, run, alive=False)
    assert (found.progress, found.current_epoch, found.eta_seconds) == (1.0, 2, None)


def test_fewer_epochs_than_were_trained_are_not_more_than_all(store: Store, run: RunDir) -> None:
    store.append([step(run, 30, 1.0)])
    store.update_run(run.run_id, total_epochs=2)
    assert of(store, run).progress == 1.0
