"""What becomes of checkpoints once they are saved: links, events, retention, compression."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.compression import GivenUp, candidates, compress
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.pruning import pins, prune, survey
from tsuzuku.core.settings import RunSettings, render
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir
from tsuzuku.worker.emit import Emitter


@dataclass(frozen=True)
class Keeping:
    """Looks after the checkpoints of a run that is being trained."""

    run: RunDir
    requested: RunSettings
    store: Store
    emit: Emitter

    def _named(self, template: str, file: CheckpointFile) -> str:
        names = (self.requested.model_name, self.requested.dataset_name)
        return render(template, *names, file.epoch, file.global_step)

    def mend(self, newest: CheckpointFile) -> None:
        """Do what a kill between a checkpoint and its links or its event has left undone."""
        policy = self.requested.training.checkpoint
        good, _ = checkpoint_files.in_folder(self.run.checkpoints)
        checkpoint_files.link_latest(newest.path, self._named(policy.latest, newest))
        for best in [file for file in good if file.info.get("is_best")][-1:]:
            name = self._named(policy.best, best)
            try:
                linked = checkpoint_files.read(best.path.with_name(name)).position
            except CorruptCheckpoint:
                linked = (-1, -1)
            if linked < best.position:
                checkpoint_files.link_best(best, name)
        told = self.store.events(run_id=self.run.run_id, types=["checkpoint"], limit=1_000_000)
        names = {event.payload["name"] for event in told}
        for file in good:
            if file.name not in names:
                self._tell(file)
        everything = policy.model_copy(update={"keep_last_n": None})
        records = survey(good, everything, pins(self.store, self.run.run_id)).records
        self.emit.later(lambda store: store.put_checkpoints(records))

    def saved(self, file: CheckpointFile) -> None:
        """Links, event, index and retention; called in the writer's thread."""
        policy = self.requested.training.checkpoint
        checkpoint_files.link_latest(file.path, self._named(policy.latest, file))
        if file.info["is_best"]:
            checkpoint_files.link_best(file, self._named(policy.best, file))
        self._tell(file)
        kept = prune(self.run, policy, self.store)
        if kept.removed:
            self.emit.say("pruned", "debug", names=", ".join(kept.removed))
        for name in kept.removed:
            self.emit.forget(name)
        run_id, best = self.run.run_id, file.info["best_val_loss"]

        def index(store: Store) -> None:
            store.put_checkpoints(kept.records)
            store.update_run(run_id, best_metric=best)

        self.emit.later(index)

    def tidied(self, wanted: Callable[[], bool]) -> None:
        """Compress what the policy says, as long as nobody waits for the writer's thread."""
        after = self.requested.training.checkpoint.compress_after_n
        if after is None:
            return
        files, _ = checkpoint_files.in_folder(self.run.checkpoints)
        for file in candidates(files, after):
            try:
                smaller = compress(file, wanted)
            except GivenUp:
                return
            except (CorruptCheckpoint, OSError) as error:
                self.emit.say("not_compressed", "warning", name=file.name, why=str(error))
                continue
            less = int(file.info["size"]) - int(smaller.info["size"])
            if less:
                self.emit.say("compressed", "debug", name=file.name, mb=less / 1e6)
                self.emit.later(partial(_resize, file=smaller))

    def gathered(self, file: CheckpointFile) -> None:
        """Put into the index that a checkpoint in parts has become one file."""
        self.emit.say("gathered", name=file.name)
        original = str(file.info.get("copy_of", file.name))
        beside = file.path.with_name(original)
        with contextlib.suppress(CorruptCheckpoint):  # a best whose original is gone is in no index
            self.emit.later(partial(_resize, file=checkpoint_files.read(beside)))

    def _tell(self, file: CheckpointFile) -> None:
        self.emit.event(
            "checkpoint",
            {
                "name": file.name,
                "epoch": file.epoch,
                "global_step": file.global_step,
                "is_best": bool(file.info["is_best"]),
            },
        )


def _resize(store: Store, file: CheckpointFile) -> None:
    size, sha256 = int(file.info["size"]), str(file.info["sha256"])
    store.resize_checkpoint(file.run_id, file.name, size, sha256)
