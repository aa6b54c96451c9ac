"""Every call of the API as a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

from tsuzuku.client.transport import LONG
from tsuzuku.client.watch import Watching, part
from tsuzuku.core import answers as a
from tsuzuku.core.errors import NotFound, WrongInput
from tsuzuku.core.preview_answers import Preview


class TrainingOptions(TypedDict, total=False):
    """What a start and a resume may be given; None is as good as absent."""

    epochs: int | None
    """In total, over all attempts."""
    batch_size: int | None
    specific_checkpoint: str | None
    """`name` (of the newest run that has it) or `run_id/name`."""
    lightweight: bool
    """A quick trial: 10 samples, and small model settings where the model offers them."""
    limit_samples: int | None
    fine_tune: bool | None
    """Take over the weights only; None for where the data set is another one."""
    overrides: dict[str, Any]
    """Any setting, as `{key.path: value}`."""


class StartOptions(TrainingOptions, total=False):
    resume_from_checkpoint: bool
    """Go on from the newest checkpoint of the model and data set (the default)."""


class ResumeOptions(TrainingOptions, total=False):
    additional_epochs: int | None
    """After the checkpoint's; not together with `epochs`."""


class Client(Watching):
    """Speaks with the server at `base_url`; may be used from any thread, and as a context.

    The token is taken from the environment variable TSUZUKU_TOKEN if none is given. Every method
    raises what the server does (NotFound, Busy, WrongInput, CorruptCheckpoint, DiskFull,
    TsuzukuError), WrongToken, and Unreachable where no server answers within `timeout` seconds.
    Calls for which the server has to load a model or data wait longer.
    """

    # Training

    def start(
        self, model_name: str, dataset_name: str, **options: Unpack[StartOptions]
    ) -> a.Started:
        """Start a training; goes on from the newest checkpoint of the two if there is one."""
        body = {"model_name": model_name, "dataset_name": dataset_name, **options}
        return self._call(a.Started, "POST", "/api/train/start", body=body)

    def resume(
        self, model_name: str, dataset_name: str, **options: Unpack[ResumeOptions]
    ) -> a.Started:
        """Go on from the newest checkpoint of the two, or from `specific_checkpoint`."""
        body = {"model_name": model_name, "dataset_name": dataset_name, **options}
        return self._call(a.Started, "POST", "/api/train/resume", body=body)

    def preview(
        self, model_name: str, dataset_name: str, **options: Unpack[ResumeOptions]
    ) -> Preview:
        """What `resume` with the same options would do."""
        body = {"model_name": model_name, "dataset_name": dataset_name, **options}
        return self._call(Preview, "POST", "/api/train/resume/preview", body=body)

    def stop(self, run_id: str | None = None) -> a.Stopping:
        """Ask a training to save and stop; the event `status` tells when it has."""
        query = {"run_id": run_id}
        return self._call(a.Stopping, "POST", "/api/train/stop", query=query)

    # Checkpoints

    def checkpoints(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> a.CheckpointList:
        """The checkpoints, newest first."""
        query = {"model_name": model_name, "dataset_name": dataset_name, "run_id": run_id}
        query |= {"limit": limit, "offset": offset}
        return self._call(a.CheckpointList, "GET", "/api/checkpoints", query=query)

    def checkpoint(self, run_id: str, name: str) -> a.CheckpointDetails:
        return self._call(a.CheckpointDetails, "GET", _checkpoint(run_id, name))

    def find_checkpoint(self, name: str) -> a.CheckpointDetails:
        """The checkpoint called `name` (of the newest run that has it) or `run_id/name`.

        Links count as well (`…-latest.pt`, `…-best.pt`). Raises NotFound.
        """
        run_id, _, bare = name.rpartition("/")
        if "/" in name:
            return self.checkpoint(run_id, bare)
        listed = self.checkpoints().checkpoints
        having = {c.run_id for c in listed if c.name == bare}
        # links are in no list: they have to be asked for, run by run
        candidates = having or {c.run_id for c in listed}
        for run in self.runs().runs if candidates else ():
            if run.run_id in candidates:
                try:
                    return self.checkpoint(run.run_id, bare)
                except NotFound:
                    continue
        raise NotFound(
            f"There is no checkpoint {name!r}.",
            "`tsuzuku checkpoints` lists them.",
            code="no_checkpoint",
        )

    def verify(self, run_id: str, name: str) -> a.Verified:
        """Check hash, structure and weights of a checkpoint."""
        path = f"{_checkpoint(run_id, name)}/verify"
        return self._call(a.Verified, "POST", path, patience=LONG)

    def gather(self, run_id: str, name: str) -> a.Gathered:
        """Make one file of a checkpoint that several ranks have saved in parts."""
        path = f"{_checkpoint(run_id, name)}/gather"
        return self._call(a.Gathered, "POST", path, patience=LONG)

    def pin(self, run_id: str, name: str, pinned: bool = True) -> a.Pinned:
        """Keep a checkpoint whatever the policies say, or let it go again."""
        path = f"{_checkpoint(run_id, name)}/pin"
        return self._call(a.Pinned, "POST", path, body={"pinned": pinned})

    def delete_checkpoint(self, run_id: str, name: str) -> a.Message:
        return self._call(a.Message, "DELETE", _checkpoint(run_id, name))

    def evaluate(self, run_id: str, name: str, dataset_name: str | None = None) -> a.Evaluated:
        """Measure a checkpoint on the validation samples of its data set, or of another one."""
        path = f"{_checkpoint(run_id, name)}/evaluate"
        body = {"dataset_name": dataset_name}
        return self._call(a.Evaluated, "POST", path, body=body, patience=LONG)

    def prune(self, dry_run: bool = True) -> a.Pruned:
        """What no policy keeps, in every run; deletes it unless `dry_run`."""
        body = {"dry_run": dry_run}
        return self._call(a.Pruned, "POST", "/api/checkpoints/prune", body=body, patience=LONG)

    def export(
        self, run_id: str, name: str, kind: str = "safetensors", half: bool = False
    ) -> a.Exported:
        """Write a checkpoint in another format on the server, compared with the checkpoint."""
        path, body = f"{_checkpoint(run_id, name)}/export", {"format": kind, "half": half}
        return self._call(a.Exported, "POST", path, body=body, patience=LONG)

    def exports(self, run_id: str | None = None) -> a.ExportList:
        """What has been exported on the server, of every run or of one."""
        return self._call(a.ExportList, "GET", "/api/exports", query={"run_id": run_id})

    def download_export(self, exported: a.Exported, target: Path) -> Path:
        """Fetch what `export` wrote to `target`, which is there as a whole or not at all."""
        return self._transport.save(_below(exported.download), target, exported.sha256)

    def download_checkpoint(self, run_id: str, name: str, target: Path) -> Path:
        """Fetch a checkpoint file to `target`; its SHA-256 is compared."""
        found = self.checkpoint(run_id, name)
        sha256 = self.gather(run_id, name).sha256 if found.parts else found.sha256
        return self._transport.save(f"{_checkpoint(run_id, name)}/download", target, sha256)

    def imports(self) -> a.ImportList:
        """The files of other programs in the server's `imports/`, from which runs can begin."""
        return self._call(a.ImportList, "GET", "/api/imports")

    # Trained models

    def models(self) -> a.TrainedModels:
        """Best and final weights of every run, newest run first."""
        return self._call(a.TrainedModels, "GET", "/api/models")

    def download_model(self, name: str, target: Path) -> Path:
        """Fetch a trained model's file to `target`."""
        return self._transport.save(f"/api/models/{part(name)}/download", target)

    def delete_model(self, name: str) -> a.Message:
        """Delete these weights; the run and its checkpoints stay."""
        return self._call(a.Message, "DELETE", f"/api/models/{part(name)}")

    def infer(
        self,
        file: Path | None = None,
        *,
        sample: int | None = None,
        model_name: str | None = None,
        run_id: str | None = None,
        checkpoint: str | None = None,
        export: str | None = None,
    ) -> a.Inference:
        """What a trained model makes of a file, or of a validation sample of its data set.

        `export` names an ONNX file of the run, which takes the place of a checkpoint.
        """
        fields = {"model_name": model_name, "run_id": run_id, "checkpoint": checkpoint}
        fields |= {"export": export, "sample": None if sample is None else str(sample)}
        form: dict[str, Any] = {k: v for k, v in fields.items() if v is not None}
        path = "/api/inference"
        if file is None:
            return self._call(a.Inference, "POST", path, patience=LONG, data=form)
        try:
            with file.open("rb") as content:
                files = {"file": (file.name, content)}
                return self._call(a.Inference, "POST", path, patience=LONG, data=form, files=files)
        except FileNotFoundError:
            raise WrongInput(f"{file} does not exist.") from None
        except OSError as error:
            raise WrongInput(f"{file} cannot be read: {error.strerror or error}.") from None

    # Data sets

    def datasets(self, details: bool = True, name: str | None = None) -> a.Datasets:
        """Every data set, or that one; with `details` each is opened, for its splits and what is
        wrong."""
        query = {"details": details, "dataset_name": name}
        return self._call(a.Datasets, "GET", "/api/datasets", query=query, patience=LONG)

    def samples(
        self, name: str, split: str | None = None, offset: int = 0, limit: int = 5
    ) -> a.Samples:
        """A few samples as typed outputs."""
        path, query = f"/api/datasets/{part(name)}/samples", {"split": split}
        query = {**query, "offset": offset, "limit": limit}
        return self._call(a.Samples, "GET", path, query=query, patience=LONG)

    def download_dataset(self, name: str) -> a.Message:
        """Let the server download a data set; its events tell how it goes."""
        body = {"dataset_name": name}
        return self._call(a.Message, "POST", "/api/dataset/download", body=body)

    def make_dataset(
        self,
        name: str,
        *,
        count: int | None = None,
        seed: int | None = None,
        text: str | None = None,
    ) -> a.Message:
        """Let the server make a data set; the message says where it is.

        `speech` and `face` take how many utterances and a seed, `speech` also the lines to speak.
        """
        body = {"dataset_name": name, "count": count, "seed": seed, "text": text}
        return self._call(a.Message, "POST", "/api/dataset/make", body=body, patience=LONG)

    # The server

    def health(self) -> a.Health:
        return self._call(a.Health, "GET", "/api/health")

    def config(self) -> a.Config:
        """Models, data sets and settings; each plug-in with the JSON schema of its settings."""
        return self._call(a.Config, "GET", "/api/config", patience=LONG)

    def system(self) -> a.System:
        return self._call(a.System, "GET", "/api/system")


def _checkpoint(run_id: str, name: str) -> str:
    return f"/api/checkpoints/{part(run_id)}/{part(name)}"


def _below(path: str) -> str:
    """A path that the server names, which has to be below its own address."""
    if not path.startswith("/api/"):
        raise WrongInput(f"The server names {path[:80]!r} as a file of its own, which it is not.")
    return quote(path, safe="/")
