"""A checkpoint in parts: its file has all but the sharded tensors, and says where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from tsuzuku.core import parts
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.training.part_files import NAMES, Scattered, opened

TENSORS = "sharded_tensors"
"""In the file: of each sharded tensor its `name` in the parts, its `dtype` and `shape`, and its
`places` in the checkpoint, each a list of keys, where the file itself has None."""

KINDS = {str(kind).removeprefix("torch."): kind for kind in NAMES.values()}


def is_parted(loaded: Mapping[str, Any]) -> bool:
    """Whether what a file holds is one of ours that has parts."""
    return parts.KEY in loaded and TENSORS in loaded


def description(name: str, places: list[list[Any]], tensor: torch.Tensor) -> dict[str, Any]:
    """The entry of a tensor in the table."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "places": places, "dtype": kind, "shape": list(tensor.shape)}


def together(path: Path, loaded: dict[str, Any], folder: Path, *, whole: bool) -> dict[str, Any]:
    """The checkpoint that the file at `path` and the parts in `folder` are: the same keys in the
    same order as in one file, the tensors whole or, without `whole`, to be read piece by piece.

    Raises FileNotFoundError where a part is not there.
    """
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    try:
        files = [part.name for part in parts.listed(loaded)]
        table = [_entry(entry) for entry in loaded[TENSORS]]
        tensors = opened(folder, files, {name: what for name, _, *what in table})  # pyright: ignore[reportArgumentType]
    except (KeyError, TypeError, ValueError):
        raise CorruptCheckpoint(f"The table of tensors in {path.name} makes no sense.") from None
    there: dict[tuple[Any, ...], Any] = {}
    for name, places, _, _ in table:
        tensor = tensors[name].whole() if whole else tensors[name]
        there |= dict.fromkeys(places, tensor)  # tied weights stay tied
    rest = {k: v for k, v in loaded.items() if k not in (parts.KEY, TENSORS)}
    found = _filled(rest, (), there)
    if there:
        raise CorruptCheckpoint(f"{path.name} has no place for some of its tensors.")
    return found


def _entry(entry: Any) -> tuple[str, list[tuple[Any, ...]], torch.dtype, torch.Size]:
    places = [tuple(place) for place in entry["places"]]
    shape = torch.Size(int(n) for n in entry["shape"])
    if min(shape, default=0) < 0:
        raise ValueError("a negative length")
    return str(entry["name"]), places, KINDS[entry["dtype"]], shape


def _filled(tree: Any, path: tuple[Any, ...], there: dict[tuple[Any, ...], Any]) -> Any:
    """`tree` with what belongs there in its empty places, which are taken out of `there`."""
    if tree is None and path in there:
        return there.pop(path)
    if is_tree(tree):
        return {k: _filled(v, (*path, k), there) for k, v in tree.items()}
    if is_list(tree):
        inner = [_filled(v, (*path, i), there) for i, v in enumerate(tree)]
        return tuple(inner) if isinstance(cast(Any, tree), tuple) else inner
    return tree


def shapes(state: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Type and shape of every sharded weight, by its name in `model_state_dict`."""
    return {
        ".".join(map(str, place[1:])): [entry["dtype"], entry["shape"]]
        for entry in state.get(TENSORS, ())
        for place in entry["places"]
        if place[0] == "model_state_dict"
    }


__all__ = ["TENSORS", "Scattered", "description", "is_parted", "shapes", "together"]
