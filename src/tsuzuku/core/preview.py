"""What a resume would keep exactly, what it would change, and what it would lose.

Only what can be known without loading anything; the worker says at its start what it finds out
about the weights and the samples. `exact` is said where the part is restored to the bit, or is
what the training would have had at this place without the interruption.
"""

from __future__ import annotations

import difflib
import platform
import socket
from collections.abc import Iterator
from typing import Any, Literal

from tsuzuku import __version__
from tsuzuku.core.foreign_preview import foreign_components
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.preview_answers import Change, Component, Preview, SourceChange
from tsuzuku.core.proofs import installed_torch, proof_on_record
from tsuzuku.core.resume import DATA, Plan
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.trees import is_tree

ORDER = ("seed", "batch_size", "validation_split", "limit_samples")
HYPER = ("learning_rate", "weight_decay", "betas", "eps", "momentum")
LONGEST_DIFF = 400
"""Lines of a file's difference that are shown."""


def preview(plan: Plan, store: Store | None = None) -> Preview:
    """The answer of `POST /api/train/resume/preview` for a plan."""
    at = plan.checkpoint
    going_on = at is not None and plan.mode in ("continue", "branch")
    components = list(_Parts(plan)) if going_on else []
    if plan.foreign is not None:
        components = foreign_components(plan, plan.foreign)
    return Preview(
        mode=plan.mode,
        fine_tuning=plan.fine_tuning,
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
        sources=_sources(plan) if going_on else [],
        proof=proof_on_record(store, plan.model, plan.dataset) if store is not None else None,
    )


class _Parts:
    """The components of a plan that goes on from a checkpoint, one after the other."""

    def __init__(self, plan: Plan) -> None:
        assert plan.checkpoint is not None
        self.plan = plan
        self.new = plan.settings.training
        info = plan.checkpoint.info
        self.metadata: dict[str, Any] = info["metadata"]
        # what the checkpoint was trained with: a run may have been told otherwise since
        old: Any = info.get("config")
        self.old: dict[str, Any] = old if is_tree(old) else {}
        self.changed = {d.key for d in plan.differences if d.changes_result}
        self.branch = plan.mode == "branch"

    def __iter__(self) -> Iterator[Component]:
        yield self.weights()
        yield self.optimizer()
        yield self.scheduler()
        yield self.scaler()
        yield self.precision()
        yield self.accumulation()
        yield self.random_state()
        yield from self.data_order()
        yield self.data_set()
        yield self.source_code()
        yield self.libraries()
        yield self.device()
        yield self.ranks()
        if self.new.early_stopping is not None:
            yield self.early_stopping()

    def any_of(self, *names: str) -> bool:
        return any(
            key == f"training.{name}" or key.startswith(f"training.{name}.")
            for key in self.changed
            for name in names
        )

    @property
    def other_samples(self) -> bool:
        return (
            DATA in self.changed
            or any(key.startswith(("dataset.", "dataset_name")) for key in self.changed)
            or self.plan.dataset.label in self.changed
        )

    def weights(self) -> Component:
        if self.plan.fine_tuning:
            return _approximate(
                "weights", "Those that fit come along; the log names any that are made anew."
            )
        if any(key.startswith("model.") for key in self.changed):
            return _approximate(
                "weights",
                "Loaded if every shape stays the same; otherwise the training is refused.",
            )
        if self.any_of("freeze"):
            return _exact(
                "weights", "Loaded from the checkpoint; other ones are trained from there."
            )
        return _exact("weights", "Loaded from the checkpoint.")

    def optimizer(self) -> Component:
        if self.plan.fine_tuning:
            return _lost("optimizer", "Fine-tuning begins without moments.")
        if self.any_of("optimizer"):
            return _lost("optimizer", "Another optimizer begins without moments.")
        if self.plan.model.label in self.changed:
            return _approximate(
                "optimizer", "Moments are kept where the parameters are the same ones."
            )
        if self.any_of("freeze"):
            why = "Moments are kept; parameters that were frozen before begin without."
            return _approximate("optimizer", why)
        if self.any_of(*HYPER):
            return _approximate("optimizer", "Moments are kept; the new settings take effect.")
        return _exact("optimizer", "Moments and steps are loaded from the checkpoint.")

    def scheduler(self) -> Component:
        if self.plan.fine_tuning:
            return _lost("scheduler", "It begins anew with the first step.")
        lengths = self._schedule_lengths()
        if self.branch and lengths is not None:
            before, after = lengths
            return _approximate(
                "scheduler",
                f"{self.new.scheduler} is stretched from {before} to {after} epochs, so that the "
                f"learning rate jumps; scheduler_options.schedule_epochs={before} keeps it.",
            )
        names = ("scheduler", "scheduler_options", "warmup_steps", "learning_rate")
        moves = self.new.scheduler != "none" or self.new.warmup_steps > 0
        # an epoch that begins anew takes the schedule back with it
        other_steps = self.other_samples or self.any_of(*ORDER, "accumulate_grad_batches")
        if self.branch and (self.any_of(*names) or (moves and other_steps)):
            return _approximate(
                "scheduler", "It stands where the new settings have it by this step."
            )
        if self.branch and self.new.scheduler == "plateau":
            return _lost("scheduler", "plateau begins anew with a branch.")
        held = self.new.schedule_epochs
        if held is not None and held < self.new.num_epochs:
            why = f"It goes on, ends after {held} epochs as before, and its last rate stays."
            return _exact("scheduler", why)
        return _exact("scheduler", "It goes on at the step of the checkpoint.")

    def _schedule_lengths(self) -> tuple[int, int] | None:
        """Epochs of the schedule before and after, where only these have changed."""
        try:
            old = RunSettings.model_validate(self.old).training
        except ValueError:
            return None
        before, after = old.schedule_epochs, self.new.schedule_epochs
        same = old.scheduler == self.new.scheduler
        return (before, after) if same and before and after and before != after else None

    def scaler(self) -> Component:
        if self.new.precision != "16":
            return _exact("scaler", "Not used at this precision.")
        if self.plan.fine_tuning or self.any_of("precision"):
            return _lost("scaler", "The scale of the gradients is found anew.")
        return _exact("scaler", "Loaded from the checkpoint.")

    def precision(self) -> Component:
        if self.any_of("precision"):
            return _approximate("precision", "Another precision rounds differently.")
        if self.any_of("compile", "deterministic"):
            return _approximate("precision", "Other kernels round differently.")
        return _exact("precision", f"As before: {self.new.precision}.")

    def accumulation(self) -> Component:
        if self.any_of("accumulate_grad_batches"):
            why = "Gradients are averaged over another number of batches."
            return _approximate("accumulation", why)
        old = self.old.get("training")
        before = old.get("device_batch_size") if is_tree(old) else None
        if before != self.new.device_batch_size:
            why = "A batch is computed in other parts, which are added in another order."
            return _approximate("accumulation", why)
        return _exact("accumulation", "A checkpoint lies between two steps; nothing is half done.")

    def random_state(self) -> Component:
        if self.any_of("seed"):
            return _lost("random state", "Another seed gives other random numbers.")
        return _exact("random state", "Seeded anew at every batch from seed, epoch and batch.")

    def data_order(self) -> Iterator[Component]:
        if self.plan.fine_tuning:
            why = "It begins with the first epoch."
            yield _lost("data order", why)
            yield _lost("randomness", why)
        elif self.other_samples or self.any_of(*ORDER):
            why = "The samples come in another order; the epoch begins anew."
            yield _lost("data order", why)
            yield _lost("randomness", "It follows from the position.")
        elif self.branch and self.any_of("accumulate_grad_batches") and self._within_epoch():
            why = "The epoch begins anew if no step of the new accumulation ends here."
            yield _approximate("data order", why)
            yield _approximate("randomness", "It follows from the position.")
        else:
            why = "It follows from seed, epoch and batch."
            yield _exact("data order", why)
            before, now = self._number_of_ranks()
            if before == now:
                yield _exact("randomness", why)
            else:
                yield _approximate("randomness", "Every rank draws its own numbers.")

    def _within_epoch(self) -> bool:
        assert self.plan.checkpoint is not None
        return self.plan.checkpoint.info.get("end_of_epoch") is not True

    def data_set(self) -> Component:
        files = self.plan.data
        if any(key.startswith("dataset_name") for key in self.changed):
            return _lost("data set", "Another data set.")
        if files is not None and files.same is not True:
            return _approximate("data set", files.why)
        if self.plan.dataset.label in self.changed:
            return _approximate("data set", "Its file has changed, and may give other samples.")
        if any(key.startswith("dataset.") for key in self.changed):
            return _approximate("data set", "Its settings have changed.")
        if self.any_of("limit_samples", "validation_split"):
            return _approximate("data set", "Another part of it is trained on.")
        if files is None:
            return _exact(
                "data set", "It names no path; what it makes follows from its file and settings."
            )
        return _exact("data set", files.why)

    def source_code(self) -> Component:
        files = [p.label for p in (self.plan.model, self.plan.dataset) if p.label in self.changed]
        if files:
            why = f"Changed since the run began: {', '.join(files)}."
            return _approximate("source code", why)
        return _exact("source code", "The files are the same.")

    def libraries(self) -> Component:
        versions = {
            "torch": (self.metadata.get("pytorch_version"), installed_torch()),
            "tsuzuku": (self.metadata.get("tsuzuku_version"), __version__),
            "Python": (self.metadata.get("python_version"), platform.python_version()),
        }
        other = {k: v for k, v in versions.items() if v[0] != v[1] and (v[0] or k == "torch")}
        if not other:
            return _exact("libraries", f"torch {versions['torch'][1]}.")
        saved = ", ".join(f"{name} {old or '(unknown)'}" for name, (old, _) in other.items())
        now = ", ".join(f"{name} {new}" for name, (_, new) in other.items())
        why = f"Saved with {saved}; this is {now}. The last bits may differ."
        return _approximate("libraries", why)

    def device(self) -> Component:
        # of several ranks only the kind of their devices is known: "cuda", not "cuda:0"
        device, wanted = str(self.metadata.get("device", "")), self.new.device
        same_machine = self.metadata.get("hostname") == socket.gethostname()
        kind = device.partition(":")[0]
        if wanted in (kind, "auto") and same_machine and "training.device" not in self.changed:
            return _exact("device", f"{device} on this machine.")
        host = self.metadata.get("hostname", "?")
        why = f"Saved on {device or 'an unknown device'} of {host}; the last bits may differ."
        return _approximate("device", why)

    def ranks(self) -> Component:
        before, now = self._number_of_ranks()
        if before != now:
            why = (
                f"{now} in the place of {before}: sums are made in another order, and dropout and "
                "augmentation draw other numbers; the order of the samples stays."
            )
            return _approximate("ranks", why)
        was, strategy = self._strategy_before(), self.new.distributed.strategy
        if was != strategy:
            why = f"With {strategy} in the place of {was}, sums are made in another order."
            return _approximate("ranks", why)
        if now == 1:
            return _exact("ranks", "One, as before.")
        return _exact("ranks", f"{now}, as before.")

    def _number_of_ranks(self) -> tuple[int, int]:
        """Of the checkpoint, and of what goes on from it."""
        before = self.metadata.get("ranks")  # not in those of before there were any
        return before if isinstance(before, int) else 1, self.new.distributed.ranks

    def _strategy_before(self) -> str:
        training: Any = self.old.get("training")
        old: Any = training.get("distributed") if is_tree(training) else None
        return str(old.get("strategy", "ddp")) if is_tree(old) else "ddp"

    def early_stopping(self) -> Component:
        if self.branch:
            return _lost("early stopping", "A branch counts its bad validations from 0.")
        return _exact("early stopping", "Its count of bad validations is loaded.")


def _exact(name: str, why: str) -> Component:
    return _component(name, "exact", why)


def _approximate(name: str, why: str) -> Component:
    return _component(name, "approximate", why)


def _lost(name: str, why: str) -> Component:
    return _component(name, "lost", why)


def _component(name: str, verdict: Literal["exact", "approximate", "lost"], why: str) -> Component:
    return Component(name=name, verdict=verdict, why=why)


def _sources(plan: Plan) -> list[SourceChange]:
    """The plug-ins' files that differ from the run's copies, line by line."""
    changed = {d.key for d in plan.differences}
    found: list[SourceChange] = []
    for plugin in (plan.model, plan.dataset):
        if plugin.label not in changed or plan.run is None:
            continue
        kept = plan.run.source / plugin.label
        old = PluginFile(plugin.kind, plugin.name, kept, builtin=False)
        found.append(
            SourceChange(
                file=plugin.label,
                old_sha256=old.sha256() if kept.is_file() else "",
                new_sha256=plugin.sha256(),
                diff=_difference(old, plugin) if kept.is_file() else "",
            )
        )
    return found


def _difference(old: PluginFile, new: PluginFile) -> str:
    before, after = (
        one.path.read_text(encoding="utf-8", errors="replace").splitlines() for one in (old, new)
    )
    names = (f"{new.label} (the run's)", f"{new.label} (now)")
    lines = list(difflib.unified_diff(before, after, *names, lineterm=""))
    more = [f"… {len(lines) - LONGEST_DIFF} more lines"] if len(lines) > LONGEST_DIFF else []
    return "\n".join([*lines[:LONGEST_DIFF], *more])
