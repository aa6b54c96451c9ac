"""Weights for use elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

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
    weights: dict[str, torch.Tensor] = {}
    first: dict[Any, str] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue  # what a module keeps by get_extra_state
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            note[name] = first[place]  # tied weights, as safetensors.torch.load_model reads them
            continue
        first[place] = name
        weights[name] = _compact(tensor) if half else tensor.detach().cpu().contiguous().clone()
    save_file(weights, str(draft), metadata=note)
    draft.chmod(0o666 & ~_umask())  # safetensors keeps it from everybody else
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in half precision; whole numbers, and what half cannot hold, stay as they are."""
    copy = tensor.detach().cpu().contiguous().clone()
    if not copy.is_floating_point():
        return copy
    half = copy.half()
    return half if bool(torch.isfinite(half).all()) else copy
