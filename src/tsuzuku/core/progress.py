"""How far a run is, from its newest events."""

from __future__ import annotations

import time

from tsuzuku.core.answers import Progress
from tsuzuku.core.schemas import Event, Run
from tsuzuku.core.store import Store


def of(store: Store, run: Run, alive: bool, resumed_from: str | None) -> Progress:
    """The progress of a run; `alive` if it is being trained."""
    event = store.last_event(run.run_id, "progress")
    answer = Progress(
        is_training=alive,
        run_id=run.run_id,
        current_epoch=run.epoch,
        total_epochs=run.total_epochs,
        global_step=run.global_step,
        progress=run.epoch / run.total_epochs if run.total_epochs else 0.0,
        resumed_from=resumed_from,
        server_time=time.time(),
    )
    if run.status == "completed":
        answer.progress = 1.0
    if event is None:
        return answer
    payload = event.payload
    answer.current_epoch = payload["epoch"]
    answer.total_epochs = run.total_epochs or payload["total_epochs"]
    answer.current_step, answer.total_steps = payload["step"], payload["total_steps"]
    answer.global_step = payload["global_step"]
    answer.current_loss = payload["loss"]
    answer.current_learning_rate = payload["learning_rate"]
    answer.grad_norm = payload.get("grad_norm")
    answer.samples_per_second = payload.get("samples_per_second")
    if run.status != "completed":
        done = answer.total_steps * (answer.current_epoch - 1) + answer.current_step
        whole = max(1, answer.total_steps * answer.total_epochs)
        answer.progress = min(1.0, done / whole)
        if alive and run.status == "running":
            answer.eta_seconds = _left(store, event, whole - done)
    return answer


def _left(store: Store, newest: Event, steps: int) -> float | None:
    """Seconds for so many steps, at the pace of this attempt's last minute."""
    run_id = str(newest.run_id)
    recent = store.recent_events(run_id, "progress", 200)
    began = newest
    for event in recent:
        step = event.payload["global_step"]
        if step > began.payload["global_step"] or newest.time - event.time > 60:
            break  # an earlier attempt's, or too old
        began = event
    passed = newest.payload["global_step"] - began.payload["global_step"]
    if passed <= 0:
        return None
    return max(0.0, steps * (newest.time - began.time) / passed)
