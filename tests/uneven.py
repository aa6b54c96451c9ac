"""A workspace whose trainings have two ranks, of which the second is slow and talks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browsing import api
from plain_plugins import CONFIG, NOISE, make_workspace
from servers import Served
from trainings import until

TWO = {"training.distributed.launcher": "torchrun", "training.distributed.devices": 2}
UNEVEN = NOISE.replace("import random\n", "import os\nimport random\nimport sys\nimport time\n")
UNEVEN = UNEVEN.replace(
    "def __getitem__(self, index):\n",
    """def __getitem__(self, index):
        if os.environ.get("RANK") == "1":
            time.sleep(0.015)
            print(f"sample {index} read", flush=True)
        else:
            time.sleep(0.001)
""",
)


def make_uneven_workspace(root: Path, language: str = "ja") -> Path:
    """One with the data set `uneven`, of which rank 1 reads a sample in 15 ms."""
    config = CONFIG.replace("language: en", f"language: {language}")
    config = config.replace("datasets:\n", "datasets:\n  uneven:\n    count: 64\n")
    config += "available_models: [tiny]\navailable_datasets: [uneven]\n"
    make_workspace(root, config)
    (root / "datasets" / "uneven.py").write_text(UNEVEN, encoding="utf-8")
    return root


def start(served: Served, **options: Any) -> str:
    """A new training of `tiny` on `uneven` with two ranks; its run's id."""
    body = {"model_name": "tiny", "dataset_name": "uneven", "epochs": 5000, "overrides": TWO}
    body |= {"resume_from_checkpoint": False, **options}
    return str(api(served.url, "/api/train/start", body)["run_id"])


def placed(served: Served, run_id: str, attempt: int = 1) -> Any:
    """What the server says of an attempt's ranks, once it is seen which one is slow: on a busy
    machine another may be for a moment."""
    found: list[Any] = []

    def told() -> bool:
        found[:] = [api(served.url, f"/api/runs/{run_id}/ranks")]
        ranks = found[0]["ranks"]
        both = len(ranks) == 2 and found[0]["attempt"] == attempt
        return both and [one["straggler"] for one in ranks] == [False, True]

    until("a slow rank among two", told)
    return found[0]
