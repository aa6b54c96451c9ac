"""One attempt: everything between a worker's start and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, data_files, interruption
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import CorruptCheckpoint, NotFound, TsuzukuError
from tsuzuku.core.finding import tip
from tsuzuku.core.holding import held
from tsuzuku.core.launch import write_settings
from tsuzuku.core.lock import RunLock
from tsuzuku.core.resume import check_data_path
from tsuzuku.core.schemas import Attempt, Status
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically
from tsuzuku.training import export
from tsuzuku.training.checkpoints import CheckpointWriter, load
from tsuzuku.training.data import (
    BatchLoader,
    preload_loader_processes,
)
from tsuzuku.training.fingerprint import dataset_fingerprint, files_of
from tsuzuku.training.inheritance import freeze, some
from tsuzuku.training.optim import make_optimizer, make_scheduler
from tsuzuku.training.plugins import Data, make_data, make_model
from tsuzuku.training.randomness import position_seed, seed_all
from tsuzuku.training.setup import choose_device, load_plugins, make_deterministic, make_samplers
from tsuzuku.training.state import TrainingState, section
from tsuzuku.training.trainer import Outcome, Trainer
from tsuzuku.worker.bad_rows import left_out, named
from tsuzuku.worker.beginning import begin_from_file
from tsuzuku.worker.emit import Emitter
from tsuzuku.worker.failures import explained, print_traceback
from tsuzuku.worker.keeping import Keeping
from tsuzuku.worker.stop import Stop


def train(workspace: Workspace, run_id: str, stop: Stop, lock: RunLock | None = None) -> int:
    """Work on a run until it is completed, or asked to stop; the exit code.

    `lock` is the run's, if it is held already; it is released at the end in any case.

    0 completed · 1 failed · 2 wrong input · 128 + n stopped by signal n after saving.
    """
    run = workspace.run_dir(run_id)
    if lock is None:
        lock = RunLock(run.lock)
        lock.acquire()
    requested = RunSettings.model_validate(run.read_identity()["requested"])
    with Store(workspace.db) as store:
        emit = Emitter(store, run, requested.language)
        attempt = _begin(store, run)
        stop.when_asked(lambda: emit.status("stopping"))
        ended: Status = "failed"
        code = 1
        try:
            keeping = Keeping(run, requested, store, emit)
            session = _Session(workspace, run, store, emit, stop, attempt, requested, keeping)
            ended = session.train()
            code = 128 + stop.number if ended == "stopped" else 0
            emit.say(ended)
            emit.status(ended)
        except Exception as error:
            failure = explained(error, run)
            code = failure.exit_code
            emit.event("error", {"message": str(failure), "code": failure.code})
            emit.status("failed", str(failure))
            if not isinstance(error, TsuzukuError):
                print_traceback(error)
        finally:
            emit.close()
            under = interruption.interrupted_under(run, stop.number) if ended == "stopped" else ""
            _end(store, run, attempt, ended, under)
            lock.release()
    return code


@dataclass
class _Session:
    """What one attempt needs from its start to its end."""

    workspace: Workspace
    run: RunDir
    store: Store
    emit: Emitter
    stop: Stop
    attempt: Attempt
    requested: RunSettings
    keeping: Keeping

    def train(self) -> Outcome:
        prepared, device = self._prepare()
        settings, data, model = prepared.settings, prepared.data, prepared.model
        emit, run = self.emit, self.run
        training = settings.training
        train_sampler, validation_sampler, source = make_samplers(data, settings)
        emit.say(
            "data_ready",
            train=len(train_sampler.indices),
            validation=len(validation_sampler.indices) if validation_sampler else 0,
        )
        if left := left_out(data.train):
            emit.say("left_out", "warning", count=len(left), rows=named(left))
        steps = -(-len(train_sampler) // training.accumulate_grad_batches)
        if frozen := freeze(model, training.freeze):
            emit.say("frozen", count=len(frozen), names=some(frozen))
        optimizer = make_optimizer(model, training)
        state = TrainingState(
            settings=settings,
            device=device,
            model=model,
            optimizer=optimizer,
            scheduler=make_scheduler(optimizer, training, steps),
            scaler=torch.amp.GradScaler(device.type) if training.precision == "16" else None,
            identity=self._identity(data, settings),
            steps_per_epoch=steps,
        )
        emit.say(
            "model_ready", params=sum(p.numel() for p in model.parameters()), device=str(device)
        )
        same_run = self._restore(state)
        writer = CheckpointWriter(emit.flush, self.keeping.saved, self.keeping.tidied)
        trainer = Trainer(
            state=state,
            run=run,
            loader=BatchLoader(source, training.num_workers, device.type == "cuda"),
            train_sampler=train_sampler,
            validation_sampler=validation_sampler,
            writer=writer,
            report=emit,
            stop_requested=self.stop.requested,
        )
        if same_run:
            trainer.last_saved = (state.global_step, state.epoch)
        emit.purge_from(state.global_step + 1)
        self.attempt.start_step = state.global_step
        self.store.put_attempt(self.attempt)
        _note_attempt(self.run, self.attempt)
        emit.say("started")
        emit.status("running")
        try:
            outcome = trainer.train()
        finally:
            # whatever ended the training, a save that was under way is finished first
            writer.finish()
        if outcome == "completed":
            if state.epoch < training.num_epochs and training.early_stopping:
                emit.say("early", patience=training.early_stopping.patience)
            export.final_weights(model, run.weights, half=training.save.compact, settings=settings)
            emit.say("weights", name=run.weights.name)
            self.keeping.tidied(lambda: not self.stop.requested())
        return outcome

    def _prepare(self) -> tuple[_Prepared, torch.device]:
        requested, emit = self.requested, self.emit
        training = requested.training
        if swept := checkpoint_files.sweep(self.run):
            emit.say("swept", names=", ".join(swept))
        check_data_path(self.workspace, requested)
        emit.say("settings_fine")
        if training.num_workers:
            preload_loader_processes()
        device = choose_device(training.device)
        make_deterministic(training.deterministic)
        emit.say("importing", model=requested.model_name, dataset=requested.dataset_name)
        model_plugin, data_plugin = load_plugins(self.run, requested)
        seed_all(position_seed(training.seed, "init", 0), device)
        data = make_data(data_plugin, requested.dataset)
        seed_all(position_seed(training.seed, "init", 1), device)
        model, resolved = make_model(model_plugin, requested.model, data.train)
        run_settings = requested.model_copy(update={"model": resolved, "dataset": data.settings})
        write_settings(self.run, run_settings)
        return _Prepared(run_settings, data, model.to(device)), device

    def _restore(self, state: TrainingState) -> bool:
        """Take over the run's newest good checkpoint, else its parent's; whether it was its own."""
        for found in self._candidates():
            own = found.run_id == self.run.run_id
            try:
                with held(found.path):
                    checkpoint_files.check(found)
                    saved = load(found.path)
            except CorruptCheckpoint as error:
                if not own:
                    raise
                new = checkpoint_files.set_aside(found.path)
                self.emit.forget(found.name)
                self.emit.say(
                    "set_aside", "warning", name=found.name, new=new.name, why=error.detail
                )
                continue
            if own or not self.run.read_identity().get("fine_tuning"):
                lost = state.restore(saved, found.name, same_run=own)
                if lost:
                    self.emit.say("lost", "warning", name=found.name, parts=", ".join(lost))
            else:
                self._inherit(state, saved, found.name)
            state.identity["parent"] = self.run.read_identity().get("parent")
            self.attempt.resumed_from = f"{found.run_id}/{found.name}"
            if own or state.global_step:
                self.emit.say(
                    "resumed" if own else "branched",
                    name=found.name,
                    epoch=state.epoch,
                    step=state.global_step,
                )
            self._warn_of_changes(saved, state)
            if own:
                self.keeping.mend(found)
            return own
        identity = self.run.read_identity()
        if origin := identity.get("origin"):
            state.identity["parent"] = identity.get("parent")
            self.attempt.resumed_from = begin_from_file(self.run, state, self.emit, origin)
            return False
        self.attempt.resumed_from = None
        self.emit.say("no_checkpoint")
        return False

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
        for what, before, after in (
            ("torch", old.get("pytorch_version"), version),
            ("device", old.get("device"), str(state.device)),
        ):
            if before not in (None, after):
                self.emit.say("version_changed", "warning", what=what, old=before, new=after)

    def _identity(self, data: Data, settings: RunSettings) -> dict[str, Any]:
        identity = self.run.read_identity()
        files = files_of(data.train, settings.dataset, data_files.kept(self.run))
        if files is not None:
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


def git_commit(folder: Path) -> str | None:
    """The commit of the repository that holds the workspace, if it is one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _begin(store: Store, run: RunDir) -> Attempt:
    number = len(store.attempts(run.run_id)) + 1
    attempt = Attempt(
        run_id=run.run_id,
        attempt=number,
        pid=os.getpid(),
        hostname=os.uname().nodename,
        started_at=time.time(),
        status="running",
        resumed_from=_origin(run),
    )
    interruption.begin(run)
    store.put_attempt(attempt)
    store.update_run(run.run_id, attempt=number)
    _note_attempt(run, attempt)
    return attempt


def _origin(run: RunDir) -> str | None:
    """Where the attempt most likely goes on from; it is known when the checkpoint is loaded."""
    newest = tip(run)
    return f"{run.run_id}/{newest.name}" if newest else run.read_identity().get("parent")


def _end(store: Store, run: RunDir, attempt: Attempt, ended: Status, under: str) -> None:
    attempt.status, attempt.ended_at = ended, time.time()
    with contextlib.suppress(TsuzukuError, OSError):
        # on a full disk the lock still tells that it ended
        store.end_attempt(run.run_id, attempt.attempt, ended, attempt.ended_at)
        _note_attempt(run, attempt, under)


def _note_attempt(run: RunDir, attempt: Attempt, interrupted_under: str = "") -> None:
    """Keep the attempt in the run's folder too, from which the database can be made again."""
    identity = run.read_identity()
    others = [a for a in identity.get("attempts", []) if a["attempt"] != attempt.attempt]
    identity["attempts"] = [*others, attempt.model_dump()]
    identity["interrupted_under"] = interrupted_under
    write_atomically(run.identity, json.dumps(identity, ensure_ascii=False, indent=1))
