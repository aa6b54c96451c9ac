"""Opening checkpoints safely: nothing of a file is run, and what it holds is a checkpoint."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import parts
from tsuzuku.core.errors import CorruptCheckpoint, TsuzukuError
from tsuzuku.core.shortages import ran_out_of_memory, says_nothing_of_the_file
from tsuzuku.core.trees import is_tree
from tsuzuku.core.unpacking import require_bounded
from tsuzuku.training import parted

REQUIRED = ("model_state_dict", "epoch", "config")
FRESH = "--fresh begins a new run without it."
MOST_PLACES = 10_000
"""In which one container may be: an optimizer's groups share a tuple of settings."""
HOLDERS = (torch.Tensor, dict, list, tuple, set, frozenset)
DEEPEST = 64
"""Containers within containers."""


def load(path: Path, *, folder: Path | None = None, whole: bool = True) -> dict[str, Any]:
    """Open a checkpoint without running any code of it; tensors are on the CPU.

    One in parts comes as if it were one file; with `whole=False` its sharded tensors are
    `Scattered`, and nothing of them has been read yet. `folder`: where the parts are, if not
    beside the file.

    Raises CorruptCheckpoint if it is truncated, holds anything but plain containers and tensors,
    or lacks one of `model_state_dict`, `epoch`, `config`; TsuzukuError where memory, rights or
    file handles are lacking, which says nothing about the file.
    """
    loaded = _opened(path)
    if not parted.is_parted(loaded):
        return loaded
    beside = folder or parts.folder_of(path)
    try:
        return parted.together(path, loaded, beside, whole=whole)
    except FileNotFoundError:
        # somebody may have made one file of it since it was opened
        again = _opened(path)
        if not parted.is_parted(again):
            return again
        raise CorruptCheckpoint(
            f"{path.name} has its tensors in parts, which are not all in {beside}.",
            "Use it where it was saved, or after `tsuzuku gather`, which makes one file of it.",
        ) from None


def _opened(path: Path) -> dict[str, Any]:
    """What is in the file alone."""
    if not path.exists():
        raise CorruptCheckpoint(f"{path} does not exist.", code="no_checkpoint")
    try:
        require_bounded(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
        _require_plain(loaded, path.name)
    except CorruptCheckpoint:
        raise
    except pickle.UnpicklingError as error:
        first = str(error).split("Please file an issue")[0]
        unsafe = "GLOBAL" in first or "Unsupported" in first
        why = (
            "it holds more than tensors and plain containers, and opening it would run its code"
            if unsafe
            else "its contents cannot be read"
        )
        raise CorruptCheckpoint(
            f"{path.name} was refused: {why}.", code="unsafe_checkpoint"
        ) from None
    except Exception as error:
        if says_nothing_of_the_file(error):
            raise TsuzukuError(
                f"{path.name} cannot be opened now: {error}.",
                "The file may be fine; try again when there is room.",
                code="out_of_memory" if ran_out_of_memory(error) else "unreadable",
            ) from None
        # whatever a damaged file makes the reader stumble over
        said = "its contents make no sense"
        if isinstance(error, RuntimeError | OSError):
            said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CorruptCheckpoint(f"{path.name} cannot be opened: {said[:200]}.") from None
    if not is_tree(loaded):
        raise CorruptCheckpoint(f"{path.name} holds a {type(loaded).__name__}, not a checkpoint.")
    missing = [key for key in REQUIRED if key not in loaded]
    if missing:
        raise CorruptCheckpoint(f"{path.name} is no checkpoint: it lacks {', '.join(missing)}.")
    state = loaded["model_state_dict"]
    if not is_tree(state) or not state:
        raise CorruptCheckpoint(f"{path.name} has no weights in model_state_dict.")
    return loaded


def _require_plain(loaded: Any, name: str) -> None:
    """Refuse what is small in a file and endless in memory: containers that hold each other many
    times over, tensors that claim more values than there are bytes."""
    ahead: list[tuple[Any, int]] = [(loaded, 0)] if isinstance(loaded, HOLDERS) else []
    places: dict[int, int] = {}
    while ahead:
        value, depth = ahead.pop()
        if isinstance(value, torch.Tensor):
            _require_bytes(value, name)
            continue
        inner: Collection[Any] = value.values() if is_tree(value) else value
        places[id(value)] = places.get(id(value), 0) + bool(inner)
        if depth > DEEPEST or places[id(value)] > MOST_PLACES:
            raise CorruptCheckpoint(f"{name} was refused: its containers are nested without end.")
        ahead += [(part, depth + 1) for part in inner if isinstance(part, HOLDERS)]


def _require_bytes(tensor: torch.Tensor, name: str) -> None:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if plain and not tensor.is_quantized:
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() <= held:
            return
    raise CorruptCheckpoint(
        f"{name} was refused: it holds a tensor of {list(tensor.shape)} without all its values."
    )


def check_weights(model: torch.nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Raise CorruptCheckpoint, naming the first tensor that differs, unless it fits `model`."""
    own = model.state_dict()
    for key, tensor in own.items():
        if key not in state:
            raise CorruptCheckpoint(
                f"{name} is of another model: it has no {key!r}.", FRESH, code="other_model"
            )
        shape = getattr(state[key], "shape", None)
        if isinstance(tensor, torch.Tensor) and shape != tensor.shape:
            raise CorruptCheckpoint(
                f"{name} is of another model: {key!r} has the shape "
                f"{list(shape) if shape is not None else 'of no tensor'} there and "
                f"{list(tensor.shape)} here.",
                FRESH,
                code="other_model",
            )
    extra = next((key for key in state if key not in own), None)
    if extra is not None:
        raise CorruptCheckpoint(
            f"{name} is of another model: {extra!r} is not in this one.", FRESH, code="other_model"
        )
