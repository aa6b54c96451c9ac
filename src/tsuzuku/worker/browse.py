"""Looking into a data set: its splits, its samples, what it says of bad rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tsuzuku.core.errors import NotFound, TsuzukuError, WrongInput
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.settings import TrainingSettings
from tsuzuku.core.trees import Tree, is_list, is_tree
from tsuzuku.training.plugins import (
    VALIDATION_SPLITS,
    Plugin,
    guarded,
    make_config,
    make_data,
    split_names,
)
from tsuzuku.training.randomness import position_seed, seed_all
from tsuzuku.worker.check import plain
from tsuzuku.worker.outputs import encoded, item_outputs, typed
from tsuzuku.worker.use import Chosen, held_out

MOST_SAMPLES = 100
"""Samples that are shown at once."""
MOST_ROWS = 1000
"""Bad rows that are listed."""


@dataclass
class OpenDataset:
    """A data set with all of its splits."""

    plugin: Plugin
    settings: Tree
    splits: dict[str, Sequence[Any]]
    broken: list[Tree]
    """Splits that it says it has and that cannot be opened, with why."""
    seed: int


def open_dataset(file: PluginFile, settings: Tree, training: TrainingSettings) -> OpenDataset:
    """Every split of a data set; where it has none to validate on, as a training would part it.

    The plug-in's file is read again, whatever was loaded from it before. Raises what `make_data`
    raises.
    """
    sys.modules.pop(f"tsuzuku_plugins.{file.kind}.{file.name}", None)
    plugin = Plugin(file.label, file.path)
    seed_all(position_seed(training.seed, "init", 0))
    data = make_data(plugin, settings)
    cls = cast(Any, type(data.train))
    names = split_names(plugin, cls)
    opened = OpenDataset(plugin, data.settings, {}, [], training.seed)
    if data.validation is None:
        rest = held_out(data, training)
        opened.splits["train"] = data.train
        if isinstance(rest, Chosen):
            opened.splits["train"] = Chosen(data.train, rest.others(len(data.train)))
            opened.splits["validation"] = rest
    else:
        opened.splits["train"] = data.train
        opened.splits[next(s for s in VALIDATION_SPLITS if s in names)] = data.validation
    config, _ = make_config(plugin, cls, settings, f"datasets.{file.name}")
    for name in names:
        if name in opened.splits:
            continue
        try:
            split: Any = guarded(plugin, lambda name=name: cls(config, name))
            guarded(plugin, lambda split=split: len(split))
            opened.splits[name] = split
        except TsuzukuError as error:
            opened.broken.append({"split": name, "problem": error.detail})
    return opened


def lengths(opened: OpenDataset) -> dict[str, int]:
    """The number of samples of each split."""
    return {
        name: guarded(opened.plugin, lambda split=split: len(split))
        for name, split in opened.splits.items()
    }


def overview(opened: OpenDataset) -> Tree:
    """Splits, place, size in bytes, and bad rows, of a data set that has been opened."""
    source = _source(opened.splits["train"])
    place: Any = getattr(source, "path", None) or opened.settings.get("path")
    path = Path(place).expanduser().absolute() if isinstance(place, str | Path) else None
    report = getattr(source, "report", None)
    rows: Any = guarded(opened.plugin, report) if callable(report) else report
    listed = [plain(row) for row in list(rows)[:MOST_ROWS]] if is_list(rows) else plain(rows)
    return {
        "splits": lengths(opened),
        "path": None if path is None else str(path),
        "size": None if path is None else _size(path),
        "report": [*opened.broken, *(listed if is_list(listed) else [listed] if listed else [])],
        "settings": plain(opened.settings),
    }


def samples(opened: OpenDataset, split: str, offset: int, limit: int) -> Tree:
    """Typed outputs of some samples; one that cannot be read has an `error` instead."""
    if split not in opened.splits:
        known = ", ".join(opened.splits)
        reason = next((b["problem"] for b in opened.broken if b["split"] == split), "")
        raise NotFound(
            f"{opened.plugin.label} has no split {split!r}.", reason or f"There are: {known}."
        )
    if offset < 0 or limit < 0:
        raise WrongInput("offset and limit have to be 0 or more.")
    chosen = opened.splits[split]
    sizes = lengths(opened)
    end = min(sizes[split], offset + min(limit, MOST_SAMPLES))
    return {
        "split": split,
        "splits": sizes,
        "total": sizes[split],
        "samples": [_sample(opened, chosen, index) for index in range(offset, end)],
    }


def _sample(opened: OpenDataset, split: Sequence[Any], index: int) -> Tree:
    label = opened.plugin.label
    try:
        seed_all(position_seed(opened.seed, "fetch_validation", 0, index))
        return {"index": index, "outputs": encoded(_outputs(opened, split, index), label)}
    except TsuzukuError as error:
        return {"index": index, "outputs": {}, "error": error.detail}


def _outputs(opened: OpenDataset, split: Sequence[Any], index: int) -> Tree:
    source = _source(split)
    show = getattr(source, "show", None)
    if not callable(show):
        return item_outputs(guarded(opened.plugin, lambda: split[index]))
    at = int(split.indices[index]) if isinstance(split, Chosen) else index
    shown: Any = guarded(opened.plugin, lambda: show(at))
    if not is_tree(shown):
        raise WrongInput(f"{opened.plugin.label}: show has to return a dict of outputs.")
    return {str(key): typed(value) for key, value in shown.items()}


def _source(split: Sequence[Any]) -> Any:
    """The plug-in's own object behind a split."""
    return split.samples if isinstance(split, Chosen) else split


def _size(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None if it cannot be told."""
    try:
        if path.is_file():
            return path.stat().st_size
        total = 0
        for folder, _, names in os.walk(path):
            total += sum((Path(folder) / name).lstat().st_size for name in names)
        return total
    except OSError:
        return None
