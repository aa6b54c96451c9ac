"""What a resume would keep exactly, what it would change, and what it would lose.

Only what can be known without loading anything; the worker says at its start what it finds out
about the data.
"""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Callable
from typing import Any

from tsuzuku.core.answers import Change, Component, Preview
from tsuzuku.core.foreign_preview import foreign_components
from tsuzuku.core.resume import Plan

ORDER = ("seed", "batch_size", "validation_split", "limit_samples")
SCHEDULE = ("scheduler", "scheduler_options", "warmup_steps", "learning_rate", "num_epochs")


def preview(plan: Plan) -> Preview:
    """The answer of `POST /api/train/resume/preview` for a plan."""
    at = plan.checkpoint
    components = _components(plan) if at is not None and plan.mode in ("continue", "branch") else []
    if plan.foreign is not None:
        components = foreign_components(plan, plan.foreign)
    return Preview(
        mode=plan.mode,
        run_id=plan.run.run_id if plan.run else None,
        checkpoint=plan.origin,
        epoch=plan.epoch,
        global_step=at.global_step if at else 0,
        total_epochs=plan.settings.training.num_epochs,
        differences=[
            Change(key=d.key, old=d.old, new=d.new, changes_result=d.changes_result)
            for d in plan.differences
        ],
        components=components,
    )


def _components(plan: Plan) -> list[Component]:
    changed = {d.key for d in plan.differences}
    assert plan.checkpoint is not None
    metadata: dict[str, Any] = plan.checkpoint.info["metadata"]

    def any_of(*names: str) -> bool:
        return any(
            key == f"training.{name}" or key.startswith(f"training.{name}.")
            for key in changed
            for name in names
        )

    data = any(key.startswith(("dataset.", "dataset_name")) for key in changed)
    branch = plan.mode == "branch"
    if any(key.startswith("model.") for key in changed):
        why = "Loaded if every shape stays the same; otherwise the training is refused."
        parts = [Component(name="weights", verdict="approximate", why=why)]
    else:
        parts = [Component(name="weights", verdict="exact", why="Loaded from the checkpoint.")]
    parts += _optimization(any_of, branch, data)
    parts += _data(any_of, branch, data)
    parts += _surroundings(plan, changed, metadata)
    return parts


def _optimization(any_of: Callable[..., bool], branch: bool, data: bool) -> list[Component]:
    parts: list[Component] = []
    if any_of("optimizer"):
        why = "Another optimizer begins without moments."
        parts.append(Component(name="optimizer", verdict="lost", why=why))
    elif any_of("learning_rate", "weight_decay", "betas", "eps", "momentum"):
        why = "Moments are kept; the new settings take effect."
        parts.append(Component(name="optimizer", verdict="approximate", why=why))
    else:
        why = "Moments and steps are loaded from the checkpoint."
        parts.append(Component(name="optimizer", verdict="exact", why=why))
    if branch and (any_of(*SCHEDULE, "batch_size", "accumulate_grad_batches") or data):
        why = "It stands where the new settings have it by this step."
        parts.append(Component(name="scheduler", verdict="approximate", why=why))
    else:
        why = "It goes on at the step of the checkpoint."
        parts.append(Component(name="scheduler", verdict="exact", why=why))
    if any_of("precision"):
        why = "Another precision rounds differently."
        parts.append(Component(name="precision", verdict="approximate", why=why))
    if any_of("accumulate_grad_batches"):
        why = "Gradients are averaged over another number of batches."
        parts.append(Component(name="accumulation", verdict="approximate", why=why))
    return parts


def _data(any_of: Callable[..., bool], branch: bool, data: bool) -> list[Component]:
    if data or any_of(*ORDER):
        why = "The samples come in another order; the epoch begins anew."
        return [
            Component(name="data order", verdict="lost", why=why),
            Component(name="randomness", verdict="lost", why="It follows from the position."),
        ]
    why = "It follows from seed, epoch and batch."
    return [
        Component(name="data order", verdict="exact", why=why),
        Component(name="randomness", verdict="exact", why=why),
    ]


def _surroundings(plan: Plan, changed: set[str], metadata: dict[str, Any]) -> list[Component]:
    parts: list[Component] = []
    sources = [p.label for p in (plan.model, plan.dataset) if p.label in changed]
    if sources:
        why = f"Changed since the run began: {', '.join(sources)}."
        parts.append(Component(name="source code", verdict="approximate", why=why))
    else:
        parts.append(Component(name="source code", verdict="exact", why="The files are the same."))
    before, now = str(metadata.get("pytorch_version", "")), _torch_version()
    if before == now:
        parts.append(Component(name="libraries", verdict="exact", why=f"torch {now}."))
    else:
        why = f"Saved with torch {before or '(unknown)'}; this is {now}. The last bits may differ."
        parts.append(Component(name="libraries", verdict="approximate", why=why))
    device, wanted = str(metadata.get("device", "")), plan.settings.training.device
    same_machine = metadata.get("hostname") == socket.gethostname()
    if wanted in (device, "auto") and same_machine and "training.device" not in changed:
        parts.append(Component(name="device", verdict="exact", why=f"{device} on this machine."))
    else:
        why = f"Saved on {device or 'an unknown device'} of {metadata.get('hostname', '?')}."
        parts.append(Component(name="device", verdict="approximate", why=why))
    return parts


def _torch_version() -> str:
    """The installed torch, without loading it."""
    try:
        return importlib.metadata.version("torch").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
