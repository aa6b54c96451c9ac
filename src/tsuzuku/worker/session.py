"""What one attempt does from its plug-ins to its last weights: here, or in one of several ranks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from tsuzuku.core import checkpoint_files, data_files, parts
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint, NotFound, TsuzukuError
from tsuzuku.core.finding import tip
from tsuzuku.core.holding import held
from tsuzuku.core.launch import write_settings
from tsuzuku.core.resume import check_data_path
from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training import distributed, export
from tsuzuku.training.checkpoints import CheckpointWriter
from tsuzuku.training.data import BatchLoader, preload_loader_processes
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.fingerprint import dataset_fingerprint, files_of
from tsuzuku.training.inheritance import freeze, some
from tsuzuku.training.opening import load
from tsuzuku.training.optim import make_optimizer, make_scheduler
from tsuzuku.training.plugins import Data, make_data, make_model
from tsuzuku.training.randomness import position_seed, seed_all
from tsuzuku.training.saving import Saving
from tsuzuku.training.setup import choose_device, load_plugins, make_deterministic, make_samplers
from tsuzuku.training.state import TrainingState, section
from tsuzuku.training.trainer import Outcome, Trainer
from tsuzuku.worker.bad_rows import left_out, named
from tsuzuku.worker.beginning import begin_from_file


class Voice(Protocol):
    """Where an attempt says what happens, in order; see `Emitter`."""

    def event(self, kind: Any, payload: dict[str, Any]) -> None: ...
    def say(self, message: str, /, level: str = "info", **values: Any) -> None: ...
    def status(self, status: str, message: str = "") -> None: ...
    def forget(self, name: str) -> None: ...
    def purge_from(self, step: int) -> None: ...
    def flush(self) -> None: ...


class Keeper(Protocol):
    """Who looks after checkpoints that are saved; see `Keeping`."""

    def saved(self, file: CheckpointFile) -> None: ...
    def mend(self, newest: CheckpointFile) -> None: ...
    def gathered(self, file: CheckpointFile) -> None: ...
    def tidied(self, wanted: Callable[[], bool]) -> None: ...


@dataclass
class Session:
    """One attempt, in the process that trains."""

    workspace: Workspace
    run: RunDir
    emit: Voice
    keeping: Keeper
    stop_asked: Callable[[], bool]
    attempt: Attempt
    began: Callable[[Attempt], None]
    """Puts down from where the attempt goes on."""
    requested: RunSettings
    ranks: Ranks = field(default_factory=Ranks)
    device: torch.device | None = None

    def train(self) -> Outcome:
        prepared = self._prepare()
        self.device = device = prepared.device
        settings, data, model = prepared.settings, prepared.data, prepared.model
        emit, run, training = self.emit, self.run, settings.training
        self.ranks = ranks = distributed.join(training.distributed, device)
        if training.distributed.sync_batchnorm and ranks.world > 1:
            from tsuzuku.training.batchnorm import with_whole_batchnorm

            model = with_whole_batchnorm(model, ranks, device)
        if not ranks.sharded:
            model = model.to(device)
        train_sampler, validation_sampler, source = make_samplers(data, settings, ranks)
        emit.say(
            "data_ready",
            train=len(train_sampler.indices),
            validation=len(validation_sampler.indices) if validation_sampler else 0,
        )
        if left := left_out(data.train):
            emit.say("left_out", "warning", count=len(left), rows=named(left))
        state = self._new_state(prepared, model, len(train_sampler))
        same_run = self._restore(state)
        writer = self._writer(training.distributed.sharded_save)
        saving = Saving(state, run, writer, emit, self.stop_asked, ranks=ranks)
        trainer = Trainer(
            state=state,
            loader=BatchLoader(source, training.num_workers, device.type == "cuda"),
            train_sampler=train_sampler,
            validation_sampler=validation_sampler,
            saving=saving,
            report=emit,
            stop_requested=self._stop_agreed if ranks.world > 1 else self.stop_asked,
            ranks=ranks,
        )
        saving.before_save = trainer.gather_loss
        if same_run:
            saving.last_saved = (state.global_step, state.epoch)
        emit.purge_from(state.global_step + 1)
        self.attempt.start_step = state.global_step
        self.began(self.attempt)
        emit.say("started")
        emit.status("running")
        try:
            outcome = trainer.train()
        finally:
            # whatever ended the training, a save that was under way is finished first
            writer.finish()
        if outcome == "completed":
            self._finish(state)
        return outcome

    def _writer(self, in_parts: bool) -> CheckpointWriter:
        keeping = self.keeping
        if self.ranks.sharded and in_parts:
            from tsuzuku.training.part_writer import PartWriter

            return PartWriter(self.ranks, self.emit.flush, keeping.saved, keeping.tidied)
        return CheckpointWriter(self.emit.flush, keeping.saved, keeping.tidied)

    def _new_state(
        self, prepared: _Prepared, model: torch.nn.Module, batches: int
    ) -> TrainingState:
        """Where a training of so many batches an epoch begins."""
        settings, emit, ranks = prepared.settings, self.emit, self.ranks
        training, device = settings.training, prepared.device
        steps = -(-batches // training.accumulate_grad_batches)
        if frozen := freeze(model, training.freeze):
            emit.say("frozen", count=len(frozen), names=some(frozen))
        if ranks.sharded:
            from tsuzuku.training import sharding

            sharding.require_possible(training, bool(self.run.read_identity().get("origin")))
            sharding.shard(model, ranks, device)
        optimizer = make_optimizer(model, training)
        state = TrainingState(
            settings=settings,
            device=device,
            model=model,
            optimizer=optimizer,
            scheduler=make_scheduler(optimizer, training, steps),
            scaler=torch.amp.GradScaler(device.type) if training.precision == "16" else None,
            identity=self._identity(prepared.data, settings),
            steps_per_epoch=steps,
            ranks=ranks.world,
            sharded=ranks.sharded,
        )
        emit.say(
            "model_ready", params=sum(p.numel() for p in model.parameters()), device=str(device)
        )
        return state

    def _finish(self, state: TrainingState) -> None:
        emit, run, training = self.emit, self.run, self.requested.training
        weights = state.model.state_dict()
        if self.ranks.sharded:
            from tsuzuku.training.sharding import whole

            weights = whole(weights, keep=self.ranks.first)
        if self.ranks.first:
            if state.epoch < training.num_epochs and training.early_stopping:
                emit.say("early", patience=training.early_stopping.patience)
            half, settings = training.save.compact, state.settings
            export.final_weights(weights, run.weights, half=half, settings=settings)
            emit.say("weights", name=run.weights.name)
            del weights  # gathering takes memory for a whole checkpoint
            self._gather()
            self.keeping.tidied(lambda: not self.stop_asked())

    def _gather(self) -> None:
        """Make one file each of the last checkpoint and the best one, if they are in parts."""
        newest = tip(self.run)
        last = [newest.path] if newest is not None else []
        for path in [*last, *checkpoint_files.bests(self.run.checkpoints)]:
            if parts.KEY not in checkpoint_files.read(path).info:
                continue
            from tsuzuku.training.gathering import gather

            try:
                self.keeping.gathered(gather(path))
            except TsuzukuError as error:
                # they can be used as they are, and gathered later
                self.emit.say("not_gathered", "warning", name=path.name, why=error.detail)

    def _stop_agreed(self) -> bool:
        return self.ranks.agreed(self.stop_asked())

    def _prepare(self) -> _Prepared:
        requested, emit = self.requested, self.emit
        training = requested.training
        if self.ranks.first and (swept := checkpoint_files.sweep(self.run)):
            emit.say("swept", names=", ".join(swept))
        check_data_path(self.workspace, requested)
        emit.say("settings_fine")
        if training.num_workers:
            preload_loader_processes()
        device = distributed.local_device(choose_device(training.device))
        make_deterministic(training.deterministic)
        emit.say("importing", model=requested.model_name, dataset=requested.dataset_name)
        model_plugin, data_plugin = load_plugins(self.run, requested)
        seed_all(position_seed(training.seed, "init", 0), device)
        data = make_data(data_plugin, requested.dataset)
        seed_all(position_seed(training.seed, "init", 1), device)
        model, resolved = make_model(model_plugin, requested.model, data.train)
        run_settings = requested.model_copy(update={"model": resolved, "dataset": data.settings})
        if self.ranks.first:
            write_settings(self.run, run_settings)
        return _Prepared(run_settings, data, model, device)

    def _restore(self, state: TrainingState) -> bool:
        """Take over the run's newest good checkpoint, else its parent's; whether it was its own."""
        ranks, identity = self.ranks, self.run.read_identity()
        newest = self._newest() if ranks.first else None
        where = ranks.told((newest[0].run_id, newest[0].name) if newest else None)
        if where is None:
            if origin := identity.get("origin"):
                state.identity["parent"] = identity.get("parent")
                self.attempt.resumed_from = begin_from_file(self.run, state, self.emit, origin)
                return False
            self.attempt.resumed_from = None
            self.emit.say("no_checkpoint")
            return False
        run_id, name = where
        if newest is not None:
            saved = newest[1]
        else:
            path = self.workspace.run_dir(run_id).checkpoints / name
            saved = load(path, whole=not ranks.sharded)
        own = run_id == self.run.run_id
        if own or not identity.get("fine_tuning"):
            lost = state.restore(saved, name, same_run=own)
            if lost:
                self.emit.say("lost", "warning", name=name, parts=", ".join(lost))
        else:
            self._inherit(state, saved, name)
        state.identity["parent"] = identity.get("parent")
        self.attempt.resumed_from = f"{run_id}/{name}"
        if own or state.global_step:
            self.emit.say(
                "resumed" if own else "branched",
                name=name,
                epoch=state.epoch,
                step=state.global_step,
            )
        self._warn_of_changes(saved, state)
        if own and newest is not None:
            self.keeping.mend(newest[0])
        return own

    def _newest(self) -> tuple[CheckpointFile, dict[str, Any]] | None:
        """The newest checkpoint that is good, and what is in it; damaged ones are set aside."""
        for found in self._candidates():
            try:
                with held(found.path):
                    checkpoint_files.check(found)
                    return found, load(found.path, whole=not self.ranks.sharded)
            except CorruptCheckpoint as error:
                if found.run_id != self.run.run_id:
                    raise
                new = checkpoint_files.set_aside(found.path)
                self.emit.forget(found.name)
                self.emit.say(
                    "set_aside", "warning", name=found.name, new=new.name, why=error.detail
                )
        return None

    def _inherit(self, state: TrainingState, saved: dict[str, Any], name: str) -> None:
        taken = state.inherit(saved, name)
        self.emit.say("fine_tuning", name=name, count=len(taken.taken))
        if taken.adapted:
            self.emit.say("adapted", names=some(taken.adapted))
        if taken.anew:
            self.emit.say("anew", "warning", names=some(taken.anew))
        if taken.left:
            self.emit.say("left", "warning", names=some(taken.left))

    def _candidates(self) -> list[CheckpointFile]:
        """The run's own checkpoints, newest first, then the one that it branched from."""
        good, odd = checkpoint_files.in_folder(self.run.checkpoints)
        for path in odd:
            new = checkpoint_files.set_aside(path)
            self.emit.say(
                "set_aside", "warning", name=path.name, new=new.name, why="no usable sidecar"
            )
        candidates = good[::-1]
        identity = self.run.read_identity()
        parent = identity.get("parent")
        if parent and not identity.get("origin"):
            run_id, _, name = str(parent).rpartition("/")
            path = self.workspace.run_dir(run_id).checkpoints / name
            if not path.exists() and not candidates:
                raise NotFound(f"The checkpoint {parent} that this run branched from is gone.")
            if path.exists():
                candidates.append(checkpoint_files.read(path))
        return candidates

    def _warn_of_changes(self, saved: dict[str, Any], state: TrainingState) -> None:
        old = section(saved, "metadata")
        now = state.identity["dataset_fingerprint"]
        if "data_files" in old and old.get("dataset_fingerprint") not in (None, now):
            self.emit.say("data_changed", "warning")
        version = torch.__version__.split("+")[0]
        device = old.get("device")
        kind = str(device).partition(":")[0] if device else None  # "cuda:0" is a cuda
        for what, before, after in (
            ("torch", old.get("pytorch_version"), version),
            ("device", kind, state.device.type),
            ("ranks", old.get("ranks"), state.ranks),
        ):
            if before not in (None, after):
                self.emit.say("version_changed", "warning", what=what, old=before, new=after)

    def _identity(self, data: Data, settings: RunSettings) -> dict[str, Any]:
        identity = self.run.read_identity()
        files = files_of(data.train, settings.dataset, data_files.kept(self.run))
        if files is not None and self.ranks.first:
            data_files.keep(self.run, files)
        return {
            "git_commit": git_commit(self.workspace.root),
            "run_id": self.run.run_id,
            "attempt": self.attempt.attempt,
            "parent": identity.get("parent"),
            "source_sha256": identity["source"],
            **({"origin": identity["origin"]} if identity.get("origin") else {}),
            "dataset_fingerprint": dataset_fingerprint(data.train, files),
            "data_files": files.summary() if files else None,
        }


@dataclass(frozen=True)
class _Prepared:
    settings: RunSettings
    data: Data
    model: torch.nn.Module
    device: torch.device


def git_commit(folder: Path) -> str | None:
    """The commit of the repository that holds the workspace, if it is one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
