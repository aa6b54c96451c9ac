"""Looking into checkpoint files: what is in them, whether they are whole, how two differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.training.opening import load
from tsuzuku.training.snapshot import tensors_in


def verify(path: Path) -> str:
    """Check a file's hash against its sidecar, its structure and its weights; what was checked.

    Raises CorruptCheckpoint with the first thing that is wrong.
    """
    checked = "hash, structure and weights"
    shapes: Any = None
    try:
        found = checkpoint_files.read(path)
        checkpoint_files.check(found)
        shapes = found.info.get("tensors")
    except CorruptCheckpoint as error:
        if error.code != "no_sidecar":
            raise
        checked = "structure and weights (it has no sidecar with a hash)"
    weights = tensors_in(load(path)["model_state_dict"])
    if is_tree(shapes) and shapes != _shapes(weights):
        wrong = next(k for k in {**weights, **shapes} if shapes.get(k) != _shapes(weights).get(k))
        raise CorruptCheckpoint(
            f"{path.name}: the weights {wrong!r} are not of the type and shape that its model had."
        )
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CorruptCheckpoint(f"{path.name}: the weights {name!r} are not finite.")
    return checked


def describe(path: Path) -> dict[str, Any]:
    """What the sidecar would say, read from the file itself (for files of other programs)."""
    saved = load(path)
    tensors = tensors_in(saved["model_state_dict"])
    small = ("epoch", "global_step", "metrics", "best_val_loss", "config", "metadata")
    return {
        "name": path.name,
        "size": path.stat().st_size + parts.taken(path),
        "sha256": checkpoint_files.sha256_of(path),
        **{key: plain(saved[key]) for key in small if key in saved},
        "tensors": _shapes(tensors),
    }


def _shapes(weights: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
    """As a sidecar has them: of each its type and its shape."""
    return {k: [str(t.dtype).removeprefix("torch."), list(t.shape)] for k, t in weights.items()}


def plain(value: Any) -> Any:
    """`value` for JSON: tensors by their shape, everything unknown as text."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else f"tensor {list(value.shape)}"
    if is_tree(value):
        return {str(k): plain(v) for k, v in value.items()}
    if is_list(value):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


COMPARED = (
    "epoch",
    "global_step",
    "metrics",
    "best_val_loss",
    "sampler_state",
    "scheduler_state_dict",
    "scaler_state_dict",
    "trainer_state",
    "optimizer_state_dict",
    "model_state_dict",
)
"""What two trainings of the same bits have in common; times and names differ."""


def first_difference(one: Path, other: Path) -> str | None:
    """The first part in which two checkpoints differ, bit by bit; None if they are the same."""
    a, b = load(one), load(other)
    for key in reversed(COMPARED):
        found = _difference(a.get(key), b.get(key), key)
        if found:
            return found
    return None


def _difference(a: Any, b: Any, path: str) -> str | None:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"{path}: {a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}"
        # bits, not values: a NaN equals itself here, and -0.0 is not 0.0
        raw_a, raw_b = a.contiguous().view(-1), b.contiguous().view(-1)
        if a.numel() and not torch.equal(raw_a.view(torch.uint8), raw_b.view(torch.uint8)):
            count = int((raw_a != raw_b).sum())
            apart = (raw_a.double() - raw_b.double()).abs().max().item()
            return f"{path}: {count:,} of {a.numel():,} values differ, by up to {apart:.3g}"
        return None
    if is_tree(a) and is_tree(b):
        for key in [*a, *(k for k in b if k not in a)]:
            if (found := _difference(a.get(key), b.get(key), f"{path}.{key}")) is not None:
                return found
        return None
    if is_list(a) and is_list(b) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            if (found := _difference(x, y, f"{path}.{index}")) is not None:
                return found
        return None
    same = a == b or (a != a and b != b)
    return None if same and type(a) is type(b) else f"{path}: {a!r} and {b!r}"
