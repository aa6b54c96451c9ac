"""Trying a trained model on a file."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from starlette.exceptions import HTTPException

from tsuzuku.core import exports
from tsuzuku.core.answers import Inference
from tsuzuku.core.choosing import checkpoint_to_use
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.workspace import RunDir
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems

router = APIRouter(prefix="/api", tags=["models"])

SOUNDS = ".wav .flac .ogg .oga .opus .mp3 .m4a .webm"
PICTURES = ".png .jpg .jpeg .bmp .gif .webp .tif .tiff"
SUFFIXES = frozenset(f"{SOUNDS} {PICTURES} .txt .json .jsonl .csv .npy".split())
"""Kinds of files that a model may be given; the name of an upload serves for nothing else."""


@router.post("/inference", responses=problems(400, 404, 409, 413, 415, 422))
def inference(
    here: Here,
    file: UploadFile | None = None,
    model_name: Annotated[str | None, Form(max_length=100)] = None,
    run_id: Annotated[str | None, Form(max_length=40)] = None,
    checkpoint: Annotated[str | None, Form(max_length=300)] = None,
    sample: Annotated[
        int | None, Form(ge=0, le=10**9, description="Instead of a file: a validation sample.")
    ] = None,
    export: Annotated[
        str | None,
        Form(
            max_length=300,
            description="Instead of a checkpoint: an ONNX file of the run, by its name.",
        ),
    ] = None,
) -> Inference:
    """What a trained model makes of a file (a sound, a picture, a text), as typed outputs.

    Without `checkpoint`, the best of the run; without `run_id`, of the newest run of the model.
    """
    received = time.perf_counter()
    if (file is None) == (sample is None):
        raise WrongInput("Either a file or a sample is needed.", "Send one as form field `file`.")
    if export:
        run, path_used = _exported(here, export, run_id, checkpoint)
        what = "export"
    else:
        run, found = checkpoint_to_use(
            here.workspace, here.store, checkpoint=checkpoint, run_id=run_id, model_name=model_name
        )
        what, path_used = "checkpoint", found.path
    with tempfile.TemporaryDirectory(prefix=".upload-", dir=here.workspace.outputs) as folder:
        path = _keep(here, file, Path(folder)) if file is not None else None
        here.desk.open_paths = [*here.desk.open_paths[-1:], str(path_used)]
        try:
            asked = {what: str(path_used), "file": str(path) if path else None, "sample": sample}
            answer = here.desk.predict(run.run_id, asked)
        except TsuzukuError as error:
            # where the server keeps it says nothing to who has sent it
            error.detail = error.detail.replace(str(path), "upload" if path is None else path.name)
            raise
    outputs = answer["outputs"]
    text = outputs.get("transcription")
    return Inference(
        outputs=outputs,
        transcription=text["value"] if text and text.get("type") == "text" else None,
        run_id=run.run_id,
        checkpoint=answer["checkpoint"],
        export=path_used.name if export else None,
        model_name=str(run.read_identity()["model_name"]),
        first_token_time_ms=answer["first_token_time_ms"],
        inference_time_ms=answer["inference_time_ms"],
        total_time_ms=round((time.perf_counter() - received) * 1000, 3),
        warm=answer.get("warm", False),
    )


def _exported(
    here: Context, name: str, run_id: str | None, checkpoint: str | None
) -> tuple[RunDir, Path]:
    if run_id is None or checkpoint is not None:
        raise WrongInput(
            "An export is named by itself and its run.", "Send run_id, and no checkpoint."
        )
    run = here.workspace.run_dir(run_id)
    path = exports.find(run, name)
    if path.suffix != ".onnx":
        raise WrongInput(f"{name[:80]} cannot be tried here.", "An ONNX file can.")
    return run, path


def _keep(here: Context, file: UploadFile, folder: Path) -> Path:
    """Write an upload where the worker can read it, under a name of ours."""
    suffix = Path(file.filename or "").suffix.lower()
    if suffix not in SUFFIXES:
        raise HTTPException(
            415, f"{suffix or 'A file without an ending'} is not a kind of file that a model takes"
        )
    path = folder / f"upload{suffix}"
    with path.open("wb") as out:
        shutil.copyfileobj(file.file, out, 1 << 20)
    if path.stat().st_size > here.settings.max_upload_mb * 1_000_000:
        raise HTTPException(413, f"Files may have up to {here.settings.max_upload_mb} MB")
    return path
