"""Commands on the workspace in a folder of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tsuzuku.cli import datasets, train
from tsuzuku.cli.source import Onto
from tsuzuku.cli.train import open_store
from tsuzuku.core import checkpoint_files, progress, ranks
from tsuzuku.core.answers import CheckpointInfo, Progress, Pruned, RunInfo
from tsuzuku.core.asking import ask_worker
from tsuzuku.core.downloadable import Making
from tsuzuku.core.errors import CorruptCheckpoint, NotFound
from tsuzuku.core.family import lineage
from tsuzuku.core.finding import find_checkpoint
from tsuzuku.core.foreign import outlined
from tsuzuku.core.lineage_answers import Lineage
from tsuzuku.core.preview import preview
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.pruning import index_anew, note_gathered, prune_all
from tsuzuku.core.rank_answers import Placement, RankLog
from tsuzuku.core.schemas import ACTIVE, Run
from tsuzuku.core.store import Store
from tsuzuku.core.trees import Tree
from tsuzuku.core.workspace import RunDir, Workspace


class Local:
    """See `Source`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def runs(self, model: str | None, dataset: str | None, status: str | None) -> list[RunInfo]:
        with open_store(self.workspace) as store:
            found = map(
                self.workspace.true_status, store.runs(model_name=model, dataset_name=dataset)
            )
            return [_info(store, run) for run in found if status in (None, run.status)]

    def lineage(self, model: str | None, dataset: str | None) -> Lineage:
        with open_store(self.workspace) as store:
            return lineage(self.workspace, store, model_name=model, dataset_name=dataset)

    def rebuild(self) -> tuple[int, list[str]]:
        from tsuzuku.core.rebuild import rebuild_from_folders

        left_out: list[str] = []
        return rebuild_from_folders(self.workspace, left_out), left_out

    def active(self) -> list[tuple[RunInfo, Progress]]:
        with open_store(self.workspace) as store:
            runs = [r for r in map(self.workspace.true_status, store.runs()) if r.status in ACTIVE]
            infos = [_info(store, run) for run in runs]
            return [(run, progress.of(store, run, True, run.resumed_from)) for run in infos]

    def ranks(self, run_id: str | None) -> Placement:
        with open_store(self.workspace) as store:
            run = train.chosen_run(self.workspace, store, run_id)
            record = store.run(run.run_id)
            return ranks.placement(run, record.attempt if record else 0)

    def rank_log(self, run_id: str | None, rank: int, tail: int) -> RankLog:
        with open_store(self.workspace) as store:
            run = train.chosen_run(self.workspace, store, run_id)
        return ranks.log(run, rank, tail)

    def checkpoints(
        self, model: str | None, dataset: str | None, run_id: str | None
    ) -> list[CheckpointInfo]:
        if run_id is not None:
            self.workspace.run_dir(run_id)
        with open_store(self.workspace) as store:
            for record in store.runs(model_name=model, dataset_name=dataset):
                if self.workspace.true_status(record).status == "crashed":
                    with suppress(NotFound):  # its folder may have been deleted by hand
                        index_anew(self.workspace.run_dir(record.run_id), store)
            found = store.checkpoints(model_name=model, dataset_name=dataset, run_id=run_id)
        return [CheckpointInfo(**c.model_dump(), size_mb=round(c.size / 1e6, 3)) for c in found]

    def inspect(self, name: str) -> Tree:
        """What the sidecar says; for a file without one, what is in the file."""
        try:
            with open_store(self.workspace) as store:
                return dict(find_checkpoint(self.workspace, store, name)[1].info)
        except (NotFound, CorruptCheckpoint):
            if not Path(name).is_file():
                raise
            if (info := outlined(Path(name))) is not None:
                return info
            (answer,) = ask_worker(self.workspace, "describe", str(Path(name).absolute()))
            return answer

    def verify(self, names: Sequence[str]) -> list[Tree]:
        paths = [str(path) for name in names for path in self._paths(name)]
        return list(ask_worker(self.workspace, "verify", *paths))

    def gather(self, names: Sequence[str]) -> list[Tree]:
        paths = [path for name in names for path in self._paths(name)]
        answers = list(ask_worker(self.workspace, "gather", *map(str, paths)))
        with open_store(self.workspace) as store:
            for answer in answers:
                if answer["ok"]:
                    note_gathered(store, Path(answer["path"]))
        return answers

    def prune(self, dry: bool) -> Pruned:
        with open_store(self.workspace) as store:
            removed, kept, wrong = prune_all(self.workspace, store, dry=dry)
        return Pruned(removed=removed, kept=kept, dry_run=dry, problems=wrong)

    def export(self, name: str, kind: str, half: bool, target: Path) -> Tree:
        words = [*self._known(name), "--format", kind, "--output", str(target)]
        (answer,) = ask_worker(self.workspace, "export", *words, *(["--half"] if half else []))
        return answer

    def evaluate(self, name: str, dataset: str | None) -> Tree:
        words = [*self._of_run(name), *(["--dataset", dataset] if dataset else [])]
        (answer,) = ask_worker(self.workspace, "evaluate", *words)
        return answer

    def predict(self, name: str, inputs: Sequence[str], folder: Path) -> list[Tree]:
        given = [word if word.isdecimal() else str(Path(word).absolute()) for word in inputs]
        onnx = Path(name).suffix == ".onnx" and Path(name).is_file()
        what = ["--exported", str(Path(name).absolute())] if onnx else self._of_run(name)
        words = [*what, "--output", str(folder.absolute()), "--", *given]
        return list(ask_worker(self.workspace, "predict", *words))

    def train(
        self, model: str, dataset: str, words: list[str], fresh: bool, checkpoint: str | None
    ) -> int:
        return train.train(self.workspace, model, dataset, words, fresh, checkpoint)

    def resume(self, target: str, words: list[str], onto: Onto) -> int:
        return train.resume(self.workspace, target, words, onto)

    def preview(self, target: str, words: list[str], onto: Onto) -> Preview:
        with open_store(self.workspace) as store:
            return preview(train.planned(self.workspace, store, target, words, onto), store)

    def stop(self, run_id: str | None) -> int:
        return train.stop(self.workspace, run_id)

    def follow(self, run_id: str | None) -> int:
        return train.follow(self.workspace, run_id)

    def download(self, name: str) -> int:
        return datasets.download(self.workspace, name)

    def make(self, making: Making, output: Path | None) -> tuple[str, str]:
        return datasets.make(self.workspace, making, output)

    def _path(self, name: str) -> Path:
        if Path(name).is_file():
            return Path(name).absolute()
        with open_store(self.workspace) as store:
            return find_checkpoint(self.workspace, store, name)[1].path

    def _paths(self, name: str) -> list[Path]:
        """A checkpoint, or all that are in a folder or of a run."""
        folder = Path(name)
        if not folder.is_dir():
            with suppress(NotFound):
                folder = self.workspace.run_dir(name).checkpoints
        if not folder.is_dir():
            return [self._path(name)]
        files = [p for p in sorted(folder.rglob("*")) if p.suffix in checkpoint_files.SUFFIXES]
        files = [p.absolute() for p in files if p.is_file() and not p.is_symlink()]
        if not files:
            raise NotFound(f"There are no checkpoints in {name}.", code="no_checkpoint")
        return files

    def _known(self, name: str) -> list[str]:
        """A checkpoint, and its run if it is of one; a file may be another program's."""
        path = self._path(name)
        folder = RunDir(path.resolve().parent.parent)
        of_run = path.resolve().parent == folder.checkpoints and folder.identity.is_file()
        return [*(["--run", folder.run_id] if of_run else []), "--checkpoint", str(path)]

    def _of_run(self, name: str) -> list[str]:
        with open_store(self.workspace) as store:
            run, checkpoint = find_checkpoint(self.workspace, store, name)
        return ["--run", run.run_id, "--checkpoint", str(checkpoint.path)]


def _info(store: Store, run: Run) -> RunInfo:
    attempts = store.attempts(run.run_id)
    more: dict[str, Any] = {
        "attempts": [a.model_dump() for a in attempts],
        "resumed_from": attempts[-1].resumed_from if attempts else None,
    }
    return RunInfo.model_validate(run.model_dump() | more)
