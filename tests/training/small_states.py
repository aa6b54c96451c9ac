"""A checkpoint of a hundred weights, before it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tsuzuku.training.checkpoints import Save

INFO = {"epoch": 1, "global_step": 10, "metadata": {"run_id": "r"}, "metrics": {}, "config": {}}


def state_of(size: int = 100, **more: Any) -> dict[str, Any]:
    weights = {"w": torch.arange(float(size)), "b": torch.zeros(3, dtype=torch.int64)}
    return {"epoch": 1, "global_step": 10, "model_state_dict": weights, "config": {"a": 1}, **more}


def save_of(folder: Path, name: str = "a.pt", **more: Any) -> Save:
    return Save(folder / name, state_of(**more), INFO)
