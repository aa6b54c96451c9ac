"""Looking after checkpoints: list, look into, verify, pin, delete, export, evaluate, prune."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core import exports as export_files
from tsuzuku.core.answers import (
    CheckpointDetails,
    CheckpointInfo,
    CheckpointList,
    Evaluated,
    Exported,
    ExportedFile,
    ExportList,
    Gathered,
    Message,
    Pinned,
    Pruned,
    Verified,
)
from tsuzuku.core.asking import ask_worker, gathered
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import Busy, NotFound
from tsuzuku.core.finding import find_checkpoint, tip
from tsuzuku.core.links import relink
from tsuzuku.core.pruning import note_gathered, prune_all
from tsuzuku.core.workspace import RunDir
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems
from tsuzuku.server.routes.watch import Limit, Offset, OptionalName, OptionalRun, listed
from tsuzuku.server.strict_json import StrictRoute

router = APIRouter(prefix="/api/checkpoints", tags=["checkpoints"], route_class=StrictRoute)


class Export(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"format": "safetensors", "half": True}]},
    )

    format: Literal["safetensors", "onnx", "torchscript", "pt2"] = "safetensors"
    half: bool = False


class Pin(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    pinned: bool = True


class Evaluate(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dataset_name: str | None = None


class Prune(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dry_run: bool = True


@router.get("", response_model=CheckpointList, responses=problems(422))
def checkpoints(
    here: Here,
    model_name: OptionalName = None,
    dataset_name: OptionalName = None,
    run_id: OptionalRun = None,
    limit: Limit = None,
    offset: Offset = 0,
) -> Response:
    """The checkpoints, newest first."""
    items = here.store.checkpoints_json(
        model_name=model_name, dataset_name=dataset_name, run_id=run_id, limit=limit, offset=offset
    )
    return listed("checkpoints", items, here.store.count("checkpoints"))


@router.post("/prune", responses=problems(400, 409, 422))
def prune(body: Prune, here: Here) -> Pruned:
    """What no policy keeps, in every run; deletes it with `"dry_run": false`."""
    removed, kept, wrong = prune_all(here.workspace, here.store, dry=body.dry_run)
    return Pruned(removed=removed, kept=kept, dry_run=body.dry_run, problems=wrong)


@router.get("/{run_id}/{name}", responses=problems(404, 409, 422))
def details(run_id: str, name: str, here: Here) -> CheckpointDetails:
    """Everything that is known of a checkpoint without opening it."""
    run, found = _find(here, run_id, name)
    indexed = here.store.checkpoints_json(run_id=run.run_id, name=found.name, limit=1)
    if indexed:
        info = CheckpointInfo.model_validate_json(indexed[0]).model_dump()
    else:
        info = _unlisted(run, found)
    known: dict[str, Any] = dict(found.info)
    more: dict[str, Any] = {
        "best_val_loss": known.get("best_val_loss"),
        "parts": len(parts.listed(known)),
        "in_use": in_use(here, run, found),
        "checked_at": here.store.checked_at(run.run_id, found.name),
    }
    more |= {k: known[k] for k in ("config", "metadata", "sampler_state", "tensors") if k in known}
    return CheckpointDetails.model_validate(info | more)


@router.get(
    "/{run_id}/{name}/download",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **problems(404, 409, 422),
    },
)
def download(run_id: str, name: str, here: Here) -> FileResponse:
    """The checkpoint file itself; one in parts is made one file of first."""
    _, found = _find(here, run_id, name)
    found = one_file(here, found)
    return FileResponse(found.path, media_type="application/octet-stream", filename=found.name)


@router.post("/{run_id}/{name}/verify", responses=problems(400, 404, 409, 422))
def verify(run_id: str, name: str, here: Here) -> Verified:
    """Check hash, structure and weights of a checkpoint, in a worker."""
    run, found = _find(here, run_id, name)
    (answer,) = ask_worker(here.workspace, "verify", str(found.path))
    ok = bool(answer.get("ok"))
    here.store.mark_checkpoint(run.run_id, found.name, verified=ok)
    if ok:
        here.store.note_check(run.run_id, found.name, str(found.info["sha256"]), time.time())
    return Verified(
        name=found.name,
        run_id=run.run_id,
        ok=ok,
        checked=str(answer.get("checked", "")),
        error=str(answer.get("error", "")),
    )


@router.post("/{run_id}/{name}/gather", responses=problems(400, 404, 409, 422))
def gather(run_id: str, name: str, here: Here) -> Gathered:
    """Make one file of a checkpoint that several ranks have saved in parts, in a worker.

    Its tensors keep their bits. One that is one file already stays as it is.
    """
    run, found = _find(here, run_id, name)
    now = one_file(here, found)
    return Gathered(
        name=found.name,
        run_id=run.run_id,
        gathered=parts.KEY in found.info,
        size=int(now.info["size"]),
        sha256=str(now.info["sha256"]),
    )


@router.post("/{run_id}/{name}/pin", responses=problems(404, 409, 422))
def pin(run_id: str, name: str, here: Here, body: Pin | None = None) -> Pinned:
    """Keep a checkpoint whatever the policies say; `{"pinned": false}` lets it go again."""
    run, found = _find(here, run_id, name)
    pinned = body.pinned if body else True
    here.store.mark_checkpoint(run.run_id, found.name, pinned=pinned)
    return Pinned(name=found.name, run_id=run.run_id, pinned=pinned)


@router.delete("/{run_id}/{name}", responses=problems(404, 409, 422))
def delete(run_id: str, name: str, here: Here) -> Message:
    """Delete a checkpoint, unless a training or the model that is being tried uses it."""
    run, found = _find(here, run_id, name)
    if why := in_use(here, run, found):
        raise Busy(f"{found.name} cannot be deleted: {why}.", code="in_use")
    if any(c.pinned for c in here.store.checkpoints(run_id=run.run_id, name=found.name)):
        raise Busy(f"{found.name} is pinned.", "Take the pin off first.", code="pinned")
    checkpoint_files.remove(found.path)
    here.store.drop_checkpoint(run.run_id, found.name)
    relink(run)
    return Message(message=f"{run.run_id}/{found.name}")


@router.post("/{run_id}/{name}/export", responses=problems(400, 404, 409, 422))
def export(run_id: str, name: str, here: Here, body: Export | None = None) -> Exported:
    """Write a checkpoint in another format, read it back, and compare.

    `safetensors` has the weights; `onnx`, `torchscript` and `pt2` have the model as a graph, which
    is compared with the model at several lengths and batch sizes. There is no file unless it
    agrees.
    """
    run, found = _find(here, run_id, name)
    wish = body or Export()
    folder = export_files.folder(run)
    folder.mkdir(exist_ok=True)
    half = "-half" if wish.half else ""
    path = folder / f"{Path(found.name).stem}{half}.{wish.format}"
    words = ["--run", run.run_id, "--checkpoint", str(found.path), "--format", wish.format]
    words += ["--half"] if wish.half else []
    (answer,) = ask_worker(here.workspace, "export", *words, "--output", str(path))
    return Exported(download=export_files.download_path(run, path.name), **answer)


@router.post("/{run_id}/{name}/evaluate", responses=problems(400, 404, 409, 422))
def evaluate(run_id: str, name: str, here: Here, body: Evaluate | None = None) -> Evaluated:
    """Measure a checkpoint on the validation samples of its data set, or of another one."""
    run, found = _find(here, run_id, name)
    words = ["--run", run.run_id, "--checkpoint", str(found.path)]
    if body and body.dataset_name:
        words += [f"--dataset={body.dataset_name}"]
    (answer,) = ask_worker(here.workspace, "evaluate", *words)
    return Evaluated(name=found.name, run_id=run.run_id, metrics=answer["metrics"])


exports = APIRouter(prefix="/api/exports", tags=["checkpoints"])


@exports.get("", responses=problems(404, 422))
def listing(here: Here, run_id: OptionalRun = None) -> ExportList:
    """What has been exported over HTTP, with each comparison; newest run first."""
    runs = [run_id] if run_id else [run.run_id for run in here.store.runs()]
    found: list[ExportedFile] = []
    for one in runs:
        try:
            found += list(export_files.exported(here.workspace.run_dir(one)))
        except NotFound:
            if run_id:
                raise
    return ExportList(exports=found)


@exports.get(
    "/{run_id}/{name}",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **problems(404, 422),
    },
)
def exported(run_id: str, name: str, here: Here) -> FileResponse:
    """A file that an export has written."""
    path = export_files.find(here.workspace.run_dir(run_id), name)
    return FileResponse(path, media_type="application/octet-stream", filename=name)


def one_file(here: Context, found: CheckpointFile) -> CheckpointFile:
    """The checkpoint as one file, which the index knows of."""
    now = gathered(here.workspace, found)
    if now is not found:
        note_gathered(here.store, now.path)
    return now


def in_use(here: Context, run: RunDir, found: CheckpointFile) -> str:
    """Why a checkpoint must not be deleted now; empty if it may be."""
    newest = tip(run)
    if run.worker() is not None and newest is not None and newest.name == found.name:
        return "the training that runs would go on from it"
    if any(r.run_id == run.run_id for r in here.supervisor.running()) and (
        newest is not None and newest.name == found.name
    ):
        return "the training that begins goes on from it"
    for other in here.store.runs():
        if other.parent == f"{run.run_id}/{found.name}":
            try:
                child = here.workspace.run_dir(other.run_id)
            except NotFound:
                continue
            if tip(child) is None:
                return f"run {other.run_id} branched from it and has no checkpoint of its own yet"
    if str(found.path) in here.desk.open_paths:
        return "the model that is being tried has it loaded"
    return ""


def _find(here: Context, run_id: str, name: str) -> tuple[RunDir, CheckpointFile]:
    run = here.workspace.run_dir(run_id)
    return find_checkpoint(here.workspace, here.store, f"{run.run_id}/{name}", paths=False)


def _unlisted(run: RunDir, found: CheckpointFile) -> dict[str, Any]:
    """What the listing would say of a file that is not in it (a best copy)."""
    config: dict[str, Any] = dict(found.info.get("config") or {})
    return {
        "name": found.name,
        "run_id": run.run_id,
        "model_name": str(config.get("model_name", "")),
        "dataset_name": str(config.get("dataset_name", "")),
        "epoch": found.epoch,
        "global_step": found.global_step,
        "path": str(found.path),
        "size": int(found.info["size"]),
        "size_mb": round(int(found.info["size"]) / 1e6, 3),
        "sha256": str(found.info["sha256"]),
        "created_at": checkpoint_files.created_at(found.info),
        "metrics": dict(found.info.get("metrics") or {}),
        "is_best": found.info.get("role") == "best",
    }
