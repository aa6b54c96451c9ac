"""What a training would take over of a file of another program, as far as it is known without
loading anything."""

from __future__ import annotations

from typing import Any, Literal

from tsuzuku.core.foreign import ForeignFile
from tsuzuku.core.name_fit import Fit, fit
from tsuzuku.core.pickle_outline import Stored
from tsuzuku.core.preview_answers import Component
from tsuzuku.core.resume import Plan
from tsuzuku.core.trees import Tree

Verdict = Literal["exact", "approximate", "lost"]


def foreign_components(plan: Plan, foreign: ForeignFile) -> list[Component]:
    """The parts of a preview; see `Preview.components`."""
    fitting, verdict, why = _weights(plan, foreign)
    parts: list[tuple[str, Verdict, str]] = [
        ("weights", verdict, why),
        ("optimizer", *_optimizer(plan, foreign, fitting if verdict == "exact" else None)),
        ("epoch", *_epoch(plan, foreign)),
        ("scheduler", *_scheduler(plan, foreign)),
        ("data order", "lost", "The file does not have it; it follows from the run's seed."),
        ("randomness", "lost", "The file does not have it; it follows from the run's seed."),
    ]
    if foreign.unopened:
        names = ", ".join(name[:80] for name in foreign.unopened[:5])
        why = f"Left out, since opening it would run code: {names}."
        parts.append(("other contents", "lost", why))
    return [Component(name=name, verdict=verdict, why=why) for name, verdict, why in parts]


def _weights(plan: Plan, foreign: ForeignFile) -> tuple[Fit | None, Verdict, str]:
    partial = plan.settings.training.initialize.partial
    known: Tree = plan.alike.info.get("tensors") or {} if plan.alike else {}
    if not known or plan.alike is None:
        if partial:
            return None, "approximate", "Loaded where names and shapes fit; the rest begins anew."
        why = "Loaded if all names and shapes fit; otherwise the training is refused."
        return None, "approximate", why
    fitting = fit(foreign.weights, known)
    wrong = [own for own, theirs in fitting.names.items() if not _same(foreign, theirs, known[own])]
    if fitting.whole and not wrong:
        kinds = {foreign.weights[t].dtype == known[o][0] for o, t in fitting.names.items()}
        if kinds == {True}:
            return fitting, "exact", f"All names and shapes are those of {plan.alike.name}."
        why = "All names and shapes fit; the values are converted to the model's types."
        return None, "approximate", why
    missing, extra, other = len(fitting.missing), len(fitting.unexpected), len(wrong)
    if partial:
        why = f"Missing: {missing}, unexpected: {extra}, of another shape: {other}; the rest fits."
        return None, "approximate", why
    why = f"Refused: {missing} are missing, {extra} unexpected, {other} of another shape."
    return None, "lost", why


def _same(foreign: ForeignFile, name: str, row: Any) -> bool:
    return list(foreign.weights[name].shape) == list(row[1])


def _optimizer(plan: Plan, foreign: ForeignFile, fitting: Fit | None) -> tuple[Verdict, str]:
    mine = plan.settings.training.optimizer
    theirs = foreign.optimizer
    if theirs is None:
        return "lost", "The file has none that can be taken over."
    if not theirs.is_of(mine):
        return "lost", "Another optimizer begins without moments."
    if fitting is not None:
        own = [foreign.weights[name] for name in fitting.names.values()]
        moments = [one.get("exp_avg", one.get("momentum_buffer")) for one in theirs.states.values()]
        shapes = [one.shape if isinstance(one, Stored) else None for one in moments]
        if list(theirs.states) == list(range(len(own))) and shapes == [one.shape for one in own]:
            return "exact", "Moments and steps are loaded from the file; they fit the weights."
    return "approximate", "Moments and steps are loaded if they fit the parameters, else lost."


def _epoch(plan: Plan, foreign: ForeignFile) -> tuple[Verdict, str]:
    if plan.settings.training.initialize.epoch is not None:
        return "approximate", "Set by training.initialize.epoch."
    if foreign.epoch is None:
        return "lost", "The file does not say; it begins at 0."
    if foreign.midway:
        return "approximate", "The file was saved within an epoch, which begins anew."
    return "exact", "The file's number, taken for completed epochs."


def _scheduler(plan: Plan, foreign: ForeignFile) -> tuple[Verdict, str]:
    training = plan.settings.training
    if training.scheduler == "none" and not training.warmup_steps:
        if foreign.scheduler:
            return "lost", "The settings have none."
        return "exact", "Neither the file nor the settings have one."
    if plan.epoch and training.scheduler != "plateau":
        return "lost", "It stands where the settings have it after so many epochs."
    return "lost", "It begins anew."
