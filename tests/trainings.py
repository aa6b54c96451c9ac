"""A workspace whose trainings last until they are stopped, and what a test waits for in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browsing import api
from plain_plugins import CONFIG, NOISE, make_workspace
from servers import Served

PATIENCE = 60.0
SLOW = NOISE.replace("import random\n", "import random\nimport time\n").replace(
    "def __getitem__(self, index):\n",
    "def __getitem__(self, index):\n        time.sleep(0.002)\n",
)
BROKEN = '"""A model with a mistake."""\n\nclass Broken(nn.Module):\n    pass\n'


def make_slow_workspace(root: Path, config: str = CONFIG) -> Path:
    """One with the data set `slow`, of which 64 samples take an eighth of a second; the server
    speaks Japanese."""
    config = config.replace("language: en", "language: ja")
    config = config.replace("datasets:\n", "datasets:\n  slow:\n    count: 64\n")
    config += "available_models: [broken, tiny]\navailable_datasets: [slow]\n"
    make_workspace(root, config)
    (root / "datasets" / "slow.py").write_text(SLOW, encoding="utf-8")
    return root


def start(served: Served, **options: Any) -> str:
    """A new training of `tiny` on `slow`; its run's id."""
    body = {"model_name": "tiny", "dataset_name": "slow", "epochs": 5000}
    body |= {"resume_from_checkpoint": False, **options}
    return str(api(served.url, "/api/train/start", body)["run_id"])


def stop(served: Served) -> None:
    """Stop what is being trained, and wait until it has saved."""
    if api(served.url, "/api/status")["is_training"]:
        api(served.url, "/api/train/stop", {})
    until("the training's end", lambda: not api(served.url, "/api/status")["is_training"])


def epochs(served: Served, count: int) -> None:
    """Wait until the training has checkpoints of so many epochs."""

    def reached() -> bool:
        run = api(served.url, "/api/status")["run_id"]
        listed = api(served.url, f"/api/checkpoints?run_id={run}")["checkpoints"]
        return any(one["epoch"] >= count for one in listed)

    until(f"{count} epochs", reached)


def until(what: str, true: Callable[[], object]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)
