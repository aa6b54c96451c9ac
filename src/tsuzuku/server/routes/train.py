"""Starting, resuming and stopping trainings."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from tsuzuku.core import plugin_files
from tsuzuku.core.answers import Started, Stopping
from tsuzuku.core.config_loader import laid_over, overrides_tree
from tsuzuku.core.errors import NotFound, TsuzukuError, WrongInput
from tsuzuku.core.finding import find_checkpoint, newest_checkpoint
from tsuzuku.core.foreign import ForeignFile
from tsuzuku.core.importing import find_import
from tsuzuku.core.messages import text
from tsuzuku.core.preview import preview
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.resume import Plan, plan_resume, plan_training
from tsuzuku.core.schemas import Event
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems
from tsuzuku.server.strict_json import StrictRoute

router = APIRouter(prefix="/api/train", tags=["train"], route_class=StrictRoute)

LIGHTWEIGHT_SAMPLES = 10

Name = Annotated[str, Field(min_length=1, max_length=100)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
RunId = Annotated[str, Field(max_length=40)]


class Asked(BaseModel):
    """What start and resume have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    model_name: Name
    dataset_name: Name
    epochs: Count | None = None
    """Epochs in total, over all attempts."""
    batch_size: Count | None = None
    specific_checkpoint: Annotated[str, Field(max_length=300)] | None = None
    """`name` (of the newest run that has it), `run_id/name`, or `imports/NAME` for a file of
    another program, from which a new run begins."""
    lightweight: bool = False
    """A quick trial: 10 samples, and small model settings where the model offers them."""
    limit_samples: Count | None = None
    """Train on at most so many samples."""
    fine_tune: bool | None = None
    """Take over the weights only, and begin everything else anew; null for where the data set is
    another one than the checkpoint's."""
    overrides: dict[str, JsonValue] = {}
    """Any setting, as `{key.path: value}`."""


class Start(Asked):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model_name": "vae", "dataset_name": "mnist", "epochs": 10, "batch_size": 128}
            ]
        }
    )

    resume_from_checkpoint: bool = True
    """Go on from the newest checkpoint of this model and data set, if there is one."""


class Resume(Asked):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model_name": "vae", "dataset_name": "mnist", "additional_epochs": 5},
                {
                    "model_name": "vae",
                    "dataset_name": "mnist",
                    "specific_checkpoint": "vae-mnist-epoch-3.pt",
                    "epochs": 10,
                },
            ]
        }
    )

    additional_epochs: Count | None = None
    """Epochs after the checkpoint's; not together with `epochs`."""


@router.post("/start", status_code=202, responses=problems(400, 404, 409, 422))
def start(body: Start, here: Here) -> Started:
    """Start a training in a process of its own.

    With `resume_from_checkpoint` the newest checkpoint of the pair is continued, or branched from
    when a setting that changes the result differs. Progress comes over the WebSocket `/ws`.
    """
    return _launch(here, lambda: _plan_start(body, here))


@router.post("/resume", status_code=202, responses=problems(400, 404, 409, 422))
def resume(body: Resume, here: Here) -> Started:
    """Go on from the newest checkpoint of a model and data set, or from the one that is named.

    From the tip of its run with the same settings the run continues, bit for bit; otherwise a new
    run branches off.
    """
    return _launch(here, lambda: _plan_resume(body, here))


@router.post("/resume/preview", responses=problems(400, 404, 409, 422))
def resume_preview(body: Resume, here: Here) -> Preview:
    """What a resume would do: continue or branch, what differs, what stays exact."""
    return preview(here.supervisor.planned(lambda: _plan_resume(body, here)), here.store)


@router.post("/stop", responses=problems(400, 404, 422))
def stop(here: Here, run_id: Annotated[str | None, Query(max_length=40)] = None) -> Stopping:
    """Ask the training to save and stop; answers at once, the event `status` tells when it has.

    `run_id` says which one, where `server.max_running` allows several.
    """
    stopped = here.supervisor.stop(run_id)
    return Stopping(message=text("stopping", here.settings.language, {}), run_id=stopped)


def _launch(here: Context, plan: Any) -> Started:
    try:
        launched, planned = here.supervisor.launch(plan)
    except WrongInput as error:
        if not isinstance(error, NotFound):
            _tell(here, error)
        raise
    mode: Literal["fresh", "continue", "branch"] = (
        "fresh" if planned.mode == "finished" else planned.mode
    )
    return Started(
        message=text("preparing", here.settings.language, {}),
        run_id=launched.run.run_id,
        attempt=launched.attempt,
        resumed_from=launched.resumed_from,
        mode=mode,
        fine_tuning=planned.fine_tuning,
    )


def _tell(here: Context, error: TsuzukuError) -> None:
    """Let those who only watch know, too, why nothing begins."""
    payload = {"message": str(error), "code": error.code}
    here.store.append([Event(type="error", payload=payload, time=time.time())])


def _plan_start(body: Start, here: Context) -> Plan:
    tree = _overrides(body, here, light_model=True)
    if body.epochs is not None:
        tree = laid_over(tree, {"training": {"num_epochs": body.epochs}})
    _require_fitting(body, here)
    return plan_training(
        here.workspace,
        here.store,
        body.model_name,
        body.dataset_name,
        tree,
        fresh=not body.resume_from_checkpoint and body.specific_checkpoint is None,
        checkpoint=body.specific_checkpoint,
        same_model=body.lightweight,
        paths=False,
        fine_tune=body.fine_tune,
    )


def _plan_resume(body: Resume, here: Context) -> Plan:
    if body.epochs is not None and body.additional_epochs is not None:
        raise WrongInput(
            "epochs and additional_epochs cannot both be given.",
            "epochs is the total, additional_epochs counts from the checkpoint.",
        )
    _require_fitting(body, here)
    foreign = _import(body, here)
    if foreign is not None:
        return _plan_import(body, here, foreign)
    if body.specific_checkpoint is not None:
        run, found = find_checkpoint(
            here.workspace, here.store, body.specific_checkpoint, paths=False
        )
    else:
        newest = newest_checkpoint(here.workspace, here.store, body.model_name, body.dataset_name)
        if newest is None:
            raise NotFound(
                f"There is no checkpoint of {body.model_name} on {body.dataset_name} to resume "
                "from.",
                "POST /api/train/start begins a training.",
                code="no_checkpoint",
            )
        run, found = newest
    target = f"{run.run_id}/{found.name}" if body.specific_checkpoint else run.run_id

    def planned(total: int | None) -> Plan:
        tree = _overrides(body, here, light_model=False)
        if total is not None:
            tree = laid_over(tree, {"training": {"num_epochs": total}})
        return plan_resume(
            here.workspace,
            here.store,
            target,
            tree,
            paths=False,
            dataset_name=body.dataset_name,
            fine_tune=body.fine_tune,
        )

    more = body.additional_epochs
    plan = planned(body.epochs if more is None else found.epoch + more)
    # fine-tuning counts its epochs from the beginning
    return planned(more) if plan.fine_tuning and more is not None else plan


def _import(body: Asked, here: Context) -> ForeignFile | None:
    """The file in `imports/` that is asked for, if one is."""
    name = body.specific_checkpoint
    return None if name is None else find_import(here.workspace, name, paths=False)


def _plan_import(body: Resume, here: Context, foreign: ForeignFile) -> Plan:
    """A new run from a file in `imports/`, with the workspace's settings."""
    tree = _overrides(body, here, light_model=True)
    total = body.epochs
    if body.additional_epochs is not None:
        said: Tree = here.workspace.config(tree).settings.training.get("initialize") or {}
        begun = said.get("epoch")
        total = (begun if isinstance(begun, int) else foreign.epoch or 0) + body.additional_epochs
    if total is not None:
        tree = laid_over(tree, {"training": {"num_epochs": total}})
    names = body.model_name, body.dataset_name
    return plan_training(
        here.workspace, here.store, *names, tree, checkpoint=body.specific_checkpoint, paths=False
    )


def _require_fitting(body: Asked, here: Context) -> None:
    """Unknown names are the caller's first mistake; a checkpoint of another model the second."""
    known = here.workspace.config().settings
    root = here.workspace.root
    plugin_files.find("models", body.model_name, root, known.available_models)
    plugin_files.find("datasets", body.dataset_name, root, known.available_datasets)
    if body.specific_checkpoint is None or _import(body, here) is not None:
        return
    run, found = find_checkpoint(here.workspace, here.store, body.specific_checkpoint, paths=False)
    model = run.read_identity()["model_name"]
    if model != body.model_name:
        raise WrongInput(
            f"{found.name} is a checkpoint of {model}, not of {body.model_name}.",
            f"Name {model} as model.",
            code="wrong_model",
        )


def _overrides(body: Asked, here: Context, *, light_model: bool) -> Tree:
    """The request as settings below `training`, `models` and `datasets`."""
    training: Tree = {}
    tree: Tree = {}
    if body.lightweight:
        training["limit_samples"] = LIGHTWEIGHT_SAMPLES
        if light_model:
            plugins = plugin_files.found("models", here.workspace.root)
            plugin = plugins.get(body.model_name)
            small = plugin.literal("LIGHTWEIGHT") if plugin else None
            if is_tree(small):
                tree["models"] = {body.model_name: small}
    if body.limit_samples is not None:
        training["limit_samples"] = body.limit_samples
    if body.batch_size is not None:
        training["batch_size"] = body.batch_size
    if training:
        tree["training"] = training
    given = overrides_tree(body.overrides, body.model_name, body.dataset_name)
    return laid_over(tree, given)
