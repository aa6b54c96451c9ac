"""Trained models: the best and the final weights of each run."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse

from tsuzuku.core import checkpoint_files
from tsuzuku.core.answers import Message, TrainedModels
from tsuzuku.core.choosing import best, trained_model, trained_models
from tsuzuku.core.errors import Busy, NotFound
from tsuzuku.server.context import Here
from tsuzuku.server.problems import problems
from tsuzuku.server.routes.checkpoints import one_file

router = APIRouter(prefix="/api/models", tags=["models"])


@router.get("")
def models(here: Here) -> TrainedModels:
    """Best and final weights of every run, newest run first."""
    return TrainedModels(models=trained_models(here.workspace, here.store))


@router.get(
    "/{name}/download",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **problems(404, 409, 422),
    },
)
def download(name: str, here: Here) -> FileResponse:
    """The weights: safetensors for `final`, a checkpoint for `best`, as one file."""
    run, kind = trained_model(here.workspace, name)
    found = best(run)
    path = run.weights if kind == "final" else found.path if found else None
    if path is None or not path.is_file():
        raise NotFound(f"There is no trained model {name!r}.", "GET /api/models lists them.")
    if kind != "final" and found is not None:
        one_file(here, found)
    return FileResponse(
        path, media_type="application/octet-stream", filename=f"{name}{path.suffix}"
    )


@router.delete("/{name}", responses=problems(404, 409, 422))
def delete(name: str, here: Here) -> Message:
    """Delete these weights; the run and its checkpoints stay."""
    run, kind = trained_model(here.workspace, name)
    found = best(run)
    path = run.weights if kind == "final" else found.path if found else None
    if path is None or not path.is_file():
        raise NotFound(f"There is no trained model {name!r}.", "GET /api/models lists them.")
    if run.worker() is not None:
        raise Busy(f"Run {run.run_id} is being trained.", "Stop it first.", code="in_use")
    if str(path) in here.desk.open_paths:
        raise Busy(f"{name} is loaded: it is being tried.", "Try again later.", code="in_use")
    if kind == "final":
        path.unlink(missing_ok=True)
    else:
        checkpoint_files.remove(path)
    return Message(message=name)
