"""Checkpoints in parts without several processes: the ranks are threads, each with its writer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.training.checkpoints import Save
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.opening import load
from tsuzuku.training.part_writer import PartWriter
from tsuzuku.training.parted import TENSORS, description

SHARDED = ("model_state_dict", "optimizer_state_dict")


class Table:
    """Where threads meet."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=30)
        self.said: list[Any] = [None] * world


@dataclass
class Threads(Ranks):
    table: Table = field(default_factory=lambda: Table(1))

    def apart(self) -> Ranks:
        return self

    def gathered(self, mine: Any) -> list[Any]:
        self.table.said[self.rank] = mine
        self.table.barrier.wait()
        said = list(self.table.said)
        self.table.barrier.wait()
        return said


def state_of(epoch: int = 1, step: int = 1, **weights: torch.Tensor) -> dict[str, Any]:
    """A small checkpoint as a gathered save would have it."""
    generator = torch.Generator().manual_seed(step)
    if not weights:
        weights = {"w": torch.randn(7, 3, generator=generator), "b": torch.randn(7)}
    moments = {
        i: {"step": torch.tensor(float(step)), "exp_avg": torch.randn(w.shape, generator=generator)}
        for i, w in enumerate(weights.values())
    }
    return {
        "epoch": epoch,
        "global_step": step,
        "model_state_dict": {**weights, "running_mean": torch.full((), 0.5)},
        "optimizer_state_dict": {"state": moments, "param_groups": [{"betas": (0.9, 0.99)}]},
        "scheduler_state_dict": None,
        "metrics": {"val_loss": 1.0},
        "best_val_loss": None,
        "config": {"model_name": "tiny", "dataset_name": "noise"},
        "metadata": {"run_id": "2026-11-21_19-20-14", "timestamp": 1.0},
    }


def cut(state: dict[str, Any], rank: int, world: int) -> dict[str, Any]:
    """What `sharding.cut` gives of tensors that each rank has a piece of; scalars are not cut."""
    table: list[dict[str, Any]] = []
    known: dict[int, dict[str, Any]] = {}
    made: dict[str, Any] = {"pieces": {}, "offsets": {}}

    def without(value: Any, path: list[Any]) -> Any:
        if isinstance(value, torch.Tensor) and value.dim() and path[0] in SHARDED:
            if id(value) in known:
                known[id(value)]["places"].append(path)
                return None
            name = ".".join(map(str, path))
            known[id(value)] = description(name, [path], value)
            table.append(known[id(value)])
            length = -(-len(value) // world)
            begin = min(rank * length, len(value))
            if len(piece := value[begin : begin + length]):
                made["pieces"][name] = piece
                made["offsets"][name] = [begin, *[0] * (value.dim() - 1)]
            return None
        if is_tree(value):
            return {k: without(v, [*path, k]) for k, v in value.items()}
        if is_list(value):
            inner = [without(v, [*path, i]) for i, v in enumerate(value)]
            return tuple(inner) if isinstance(value, tuple) else inner
        return value

    return {"rest": {**without(state, []), TENSORS: table}, **made}


def take_apart(path: Path, world: int = 2) -> CheckpointFile:
    """Let a checkpoint that is one file be in parts, as if so many ranks had saved it."""
    state, info = load(path), checkpoint_files.read(path).info
    checkpoint_files.remove(path)
    more = {k: info[k] for k in ("role", "is_best", "end_of_epoch")}
    return save_in_parts(path, state, world, **more)


def save_in_parts(
    path: Path,
    state: dict[str, Any],
    world: int = 2,
    saved: Callable[[CheckpointFile], None] = lambda _: None,
    **more: Any,
) -> CheckpointFile:
    """Save `state` as `world` ranks would; raises what the first of them does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = ("epoch", "global_step", "metrics", "best_val_loss", "config", "metadata")
    info = {key: state[key] for key in keys}
    info |= {"role": "checkpoint", "is_best": False, "end_of_epoch": True, **more}
    table = Table(world)
    writers = [
        PartWriter(Threads(r, world, table=table), lambda: None, saved) for r in range(world)
    ]
    for rank, writer in enumerate(writers):
        writer.start(Save(path, cut(state, rank, world), info))
    for writer in writers[::-1]:
        writer.finish()
    for writer in writers:
        writer.wait()
    return checkpoint_files.read(path)
