"""Using an exported ONNX file: with the model's own way of reading and answering, or bare."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import NotFound, TsuzukuError, WrongInput
from tsuzuku.core.plugin_files import Kind, find
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.trees import Tree
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.onnx_files import OnnxFile, StandIn, open_onnx
from tsuzuku.training.opening import check_weights, load
from tsuzuku.training.plugins import Plugin, sentence
from tsuzuku.worker.use import Trained, make_untrained


@dataclass(frozen=True)
class Bare:
    """An ONNX file whose model is not here: arrays in, arrays out."""

    file: OnnxFile
    label: str


def open_exported(workspace: Workspace, path: Path) -> Trained | Bare:
    """The model that an ONNX file was exported from, with the file in the place of its network.

    Its source is the run's own copy, or a plug-in of the workspace with the same bytes. Weights
    outside `export_forward` are those of the checkpoint; where that is gone, using them is an
    error. Without the source the file is bare. Raises WrongInput if the file is no ONNX.
    """
    file = open_onnx(path)
    note = file.note
    try:
        settings = RunSettings.model_validate(note.get("config"))
    except ValidationError:
        return Bare(file, path.name)
    run: RunDir | None = None
    with suppress(NotFound):
        run = workspace.run_dir(str(note.get("run_id")))
    plugin = _source(workspace, run, note, "models", settings.model_name)
    if plugin is None:
        return Bare(file, path.name)
    device = torch.device("cpu")
    data = _source(workspace, run, note, "datasets", settings.dataset_name)
    missing = NotFound(f"The data set {settings.dataset_name!r} of {path.name} is not here.")
    model, opened = make_untrained(settings, (plugin, data or missing), settings.dataset, device)
    _give_weights(model, run, note)
    model.export_forward = StandIn(file)
    epoch = int(note.get("epoch", 0)) - bool(note.get("end_of_epoch"))
    name = str(note.get("checkpoint"))
    return Trained(settings, plugin, model.eval(), opened, device, epoch, name)


def open_with_source(workspace: Workspace, path: Path) -> Trained:
    """As `open_exported`; raises NotFound where the model's source is not here."""
    found = open_exported(workspace, path)
    if isinstance(found, Bare):
        raise NotFound(f"The source of the model of {path.name} is not here.", "Export it again.")
    return found


def predict_bare(bare: Bare, given: str) -> Tree:
    """The outputs for a `.npy` file, or a `.npz` file with an array for each input by name."""
    inputs = bare.file.inputs
    path = Path(given)
    if path.suffix not in (".npy", ".npz"):
        raise WrongInput(
            f"{bare.label}: its model's source is not here, so that {given} cannot be read for it.",
            f"Give a .npy file, or a .npz file with {', '.join(inputs)}; or work where its run is.",
        )
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        arrays = {inputs[0]: loaded} if path.suffix == ".npy" else dict(loaded)
        missing = [name for name in inputs if name not in arrays]
        if missing:
            raise WrongInput(f"{given} has no array {missing[0]!r}, which {bare.label} takes.")
        found = bare.file.run([torch.as_tensor(arrays[name]) for name in inputs])
    except TsuzukuError:
        raise
    except Exception as error:
        raise WrongInput(f"{bare.label} cannot use {given}: {sentence(error)[:300]}") from None
    outputs = zip(bare.file.outputs, found, strict=True)
    return {name: {"type": "curves", "value": array} for name, array in outputs}


def _source(
    workspace: Workspace, run: RunDir | None, note: Tree, kind: Kind, name: str
) -> Plugin | None:
    """The plug-in with the bytes that were exported: the run's copy, else the workspace's own."""
    label = f"{kind}/{name}.py"
    wanted = dict(note.get("plugins_sha256") or {}).get(label)
    paths = [run.source / label] if run is not None else []
    with suppress(WrongInput):
        paths.append(find(kind, name, workspace.root).path)
    for path in paths:
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == wanted:
            return Plugin(label, path)
    return None


def _give_weights(model: nn.Module, run: RunDir | None, note: Tree) -> None:
    """Those of the checkpoint; where it is gone, none that anything could be computed with."""
    for path in sorted(run.checkpoints.glob("*")) if run is not None else []:
        if path.suffix not in checkpoint_files.SUFFIXES or path.is_symlink():
            continue
        with suppress(TsuzukuError):
            found = checkpoint_files.read(path)
            known = (found.info["sha256"], found.info.get("gathered_from"))
            if note.get("source_sha256") in known:
                state = load(path)["model_state_dict"]
                check_weights(model, state, path.name)
                model.load_state_dict(state)
                return
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))

    def refuse(*_: Any) -> None:
        raise WrongInput(
            f"The ONNX file is not enough: inference uses weights outside export_forward, and "
            f"their checkpoint {note.get('checkpoint')} is gone.",
            code="no_checkpoint",
        )

    for part in list(model.modules())[1:]:
        part.register_forward_pre_hook(refuse)
