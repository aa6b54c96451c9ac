"""Weights for use elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_model

from tsuzuku.core.checkpoint_files import temporary
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import sync_folder


def final_weights(model: torch.nn.Module, path: Path, *, half: bool, settings: RunSettings) -> None:
    """Write a model's weights as safetensors, in half precision on request; whole or not at all."""
    draft = temporary(path)
    note = {
        "format": "pt",
        "model_name": settings.model_name,
        "dataset_name": settings.dataset_name,
        "config": json.dumps(settings.model, ensure_ascii=False),
    }
    target = _halved(model) if half else model
    save_model(target, str(draft), metadata=note)
    draft.chmod(0o666 & ~_umask())  # safetensors keeps it from everybody else
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _halved(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of `model` in half precision; integer buffers stay as they are."""
    import copy

    return copy.deepcopy(model).to("cpu").half()
