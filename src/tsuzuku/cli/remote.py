"""Commands on the workspace of a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsuzuku.cli import remote_training
from tsuzuku.cli.files import write_outputs
from tsuzuku.cli.remote_training import options_to_resume
from tsuzuku.cli.source import Onto
from tsuzuku.client import Client
from tsuzuku.core.answers import CheckpointDetails, CheckpointInfo, Progress, Pruned, RunInfo
from tsuzuku.core.downloadable import Making
from tsuzuku.core.errors import NotFound, WrongInput
from tsuzuku.core.lineage_answers import Lineage
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.rank_answers import Placement, RankLog
from tsuzuku.core.trees import Tree
from tsuzuku.core.workspace import write_atomically


class Remote:
    """See `Source`."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def runs(self, model: str | None, dataset: str | None, status: str | None) -> list[RunInfo]:
        return self.client.runs(model, dataset, status).runs

    def lineage(self, model: str | None, dataset: str | None) -> Lineage:
        return self.client.lineage(model_name=model, dataset_name=dataset)

    def rebuild(self) -> tuple[int, list[str]]:
        raise WrongInput(
            "--rebuild reads the run folders: it is for where the workspace is.",
            "Stop the server there, run `tsuzuku runs --rebuild`, and start it again.",
        )

    def active(self) -> list[tuple[RunInfo, Progress]]:
        running = self.client.status().running
        return [(self.client.run(one), self.client.progress(one)) for one in running]

    def ranks(self, run_id: str | None) -> Placement:
        return self.client.ranks(self._run(run_id))

    def rank_log(self, run_id: str | None, rank: int, tail: int) -> RankLog:
        return self.client.rank_log(self._run(run_id), rank, tail)

    def _run(self, run_id: str | None) -> str:
        """The named run, else the one that is being trained, or was last."""
        chosen = run_id or self.client.status().run_id
        if chosen is None:
            raise NotFound("There is no run yet.", "`tsuzuku train MODEL DATASET` begins one.")
        return chosen

    def checkpoints(
        self, model: str | None, dataset: str | None, run_id: str | None
    ) -> list[CheckpointInfo]:
        if run_id is not None:
            self.client.run(run_id)
        return self.client.checkpoints(model, dataset, run_id).checkpoints

    def inspect(self, name: str) -> Tree:
        return self._find(name).model_dump()

    def verify(self, names: Sequence[str]) -> list[Tree]:
        answers: list[Tree] = []
        for found in [one for name in names for one in self._all(name)]:
            answer = self.client.verify(found.run_id, found.name)
            said = {"checked": answer.checked} if answer.ok else {"error": answer.error}
            answers.append({"path": f"{found.run_id}/{found.name}", "ok": answer.ok, **said})
        return answers

    def gather(self, names: Sequence[str]) -> list[Tree]:
        answers: list[Tree] = []
        for found in [one for name in names for one in self._all(name)]:
            answer = self.client.gather(found.run_id, found.name)
            said = answer.model_dump(include={"gathered", "size", "sha256"})
            answers.append({"path": f"{found.run_id}/{found.name}", "ok": True, **said})
        return answers

    def _all(self, name: str) -> list[CheckpointDetails]:
        """A checkpoint, or all of a run."""
        if "/" in name or name.endswith((".pt", ".pth")):
            return [self._find(name)]
        listed = self.client.checkpoints(run_id=name).checkpoints
        return [self.client.checkpoint(one.run_id, one.name) for one in listed]

    def prune(self, dry: bool) -> Pruned:
        return self.client.prune(dry)

    def export(self, name: str, kind: str, half: bool, target: Path) -> Tree:
        if target.suffix in (".pt", ".pth"):
            # its report would take the place of a checkpoint's sidecar
            raise WrongInput(f"{target} cannot be what is exported to.", "Give it another ending.")
        found = self._find(name)
        exported = self.client.export(found.run_id, found.name, kind, half)
        self.client.download_export(exported, target)
        answer: dict[str, Any] = exported.model_dump(exclude={"download"}) | {"path": str(target)}
        origin = {"checkpoint": found.name, "run_id": found.run_id, "server": self.client.url}
        text = json.dumps(answer | origin, ensure_ascii=False, indent=1)
        write_atomically(target.with_name(f"{target.name}.json"), text)
        return answer

    def evaluate(self, name: str, dataset: str | None) -> Tree:
        found = self._find(name)
        return {"metrics": self.client.evaluate(found.run_id, found.name, dataset).metrics}

    def predict(self, name: str, inputs: Sequence[str], folder: Path) -> list[Tree]:
        run_id, _, file = name.rpartition("/")
        if run_id and file.endswith(".onnx") and not Path(name).is_file():
            use = {"run_id": run_id, "export": file}
        else:
            found = self._find(name)
            use = {"run_id": found.run_id, "checkpoint": found.name}
        answers: list[Tree] = []
        for word in inputs:
            path, sample = None, None
            if word.isdecimal():
                sample = int(word)
            else:
                path = Path(word).absolute()
            answer = self.client.infer(path, sample=sample, **use)
            stem = path.stem if path else word
            outputs = write_outputs(answer.outputs, folder.absolute(), stem)
            answers.append({"input": str(path or word), "outputs": outputs})
        return answers

    def train(
        self, model: str, dataset: str, words: list[str], fresh: bool, checkpoint: str | None
    ) -> int:
        return remote_training.train(self.client, model, dataset, words, fresh, checkpoint)

    def resume(self, target: str, words: list[str], onto: Onto) -> int:
        return remote_training.resume(self.client, target, words, onto)

    def preview(self, target: str, words: list[str], onto: Onto) -> Preview:
        model, dataset, options = options_to_resume(self.client, target, words, onto)
        return self.client.preview(model, dataset, **options)

    def stop(self, run_id: str | None) -> int:
        return remote_training.stop(self.client, run_id)

    def follow(self, run_id: str | None) -> int:
        return remote_training.follow(self.client, run_id)

    def download(self, name: str) -> int:
        from tsuzuku.cli.remote_data import download

        return download(self.client, name)

    def make(self, making: Making, output: Path | None) -> tuple[str, str]:
        if output is not None:
            raise WrongInput("A server makes data sets in its own workspace, without --output.")
        options: Tree = {"count": making.count, "seed": making.seed}
        if making.text is not None:
            options["text"] = _lines(making.text)
        path = self.client.make_dataset(making.name, **options).message
        return path, path

    def _find(self, name: str) -> CheckpointDetails:
        try:
            return self.client.find_checkpoint(name)
        except NotFound as error:
            if not Path(name).is_file():
                raise
            hint = f"{name} is a file here; with --server a checkpoint of the server is named."
            raise NotFound(error.detail, hint, code=error.code) from None


def _lines(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise WrongInput(f"{path} is not a UTF-8 text that can be read: {error}.") from None
