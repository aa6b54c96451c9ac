"""What events mean for runs and curves.

Rows of runs and points of metrics are projections of events: whatever has the events, the table
or a run's journal, can make them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from tsuzuku.core.schemas import Event, Status
from tsuzuku.core.trees import is_tree

POSITION_KEYS = frozenset({"epoch", "total_epochs", "step", "total_steps", "global_step"})
"""Keys of a progress payload that say where the run is, not how well it does."""

_STATUSES = frozenset(get_args(Status))


def metrics_of(event: Event) -> tuple[int, dict[str, float]]:
    """The global step and the metric values that an event reports; an empty dict if none.

    Metrics are a projection of events, so that whatever has the events (the table, or a run's
    journal) can restore every curve.
    """
    payload = event.payload
    step = payload.get("global_step")
    if event.type not in ("progress", "validation_result") or type(step) is not int:
        return 0, {}
    values: dict[str, float] = {}
    for key, value in payload.items():
        if key not in POSITION_KEYS and _is_number(value):
            values[key] = float(value)
    extra = payload.get("metrics")
    if is_tree(extra):
        for key, value in extra.items():
            if _is_number(value):
                # what validation measures keeps its own name, so training's gets a prefix
                values[f"train_{key}"] = float(value)
    return step, values


def points_of(
    events: Sequence[Event],
) -> dict[tuple[int, ...], dict[tuple[str, str], list[float]]]:
    """What events report: by the steps, and then by run and key, the values at them."""
    points: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for event in events:
        if event.run_id is None:
            continue
        step, metrics = metrics_of(event)
        for key, value in metrics.items():
            steps, values = points.setdefault((event.run_id, key), ([], []))
            steps.append(step)
            values.append(value)
    together: dict[tuple[int, ...], dict[tuple[str, str], list[float]]] = {}
    for named, (steps, values) in points.items():
        together.setdefault(tuple(steps), {})[named] = values
    return together


def reported(event: Event) -> dict[str, Any]:
    """The fields of a run that an event changes."""
    payload = event.payload
    if event.type == "status" and payload.get("status") in _STATUSES:
        message = str(payload.get("message") or "")
        return {"status": payload["status"], "message": message, "updated_at": event.time}
    if event.type == "progress" and isinstance(payload.get("global_step"), int):
        return {"global_step": payload["global_step"]}
    if event.type in ("validation_result", "checkpoint"):
        kept = {k: payload[k] for k in ("epoch", "global_step") if isinstance(payload.get(k), int)}
        return {**kept, "updated_at": event.time}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
