"""What each launcher costs: start-up, a step of one rank against `local`, and of two ranks.

python benchmarks/launchers.py [--quick]

The launchers take turns. A start-up ends with the run's first "running"; a step's time is that
between the first and the last report of a training.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

from common import MODEL, make_workspace, median_of, new_run, options, print_table
from tsuzuku.core import launch
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

QUIET = MODEL.replace("from turns import step\n", "").replace("        step()\n", "")
"""The common model, which here takes no turns with another process."""
COMMON = ("model.width=1024", "dataset.count=12800", "batch_size=32", "validation_split=0",
          "log_interval=100", "device=cpu", "checkpoint.save_freq=1000")  # fmt: skip


def ways() -> dict[str, list[str]]:
    """The launchers that are installed here, by what the table calls them."""
    found = {
        "local": [],
        "torchrun, 1 rank": ["distributed.launcher=torchrun"],
        "torchrun, 2 ranks": ["distributed.launcher=torchrun", "distributed.devices=2"],
    }
    if importlib.util.find_spec("ray") is not None:
        found["ray, 1 rank"] = ["distributed.launcher=ray", "distributed.resources.CPU=2"]
        found["ray, 2 ranks"] = ["distributed.launcher=ray", "distributed.devices=2"]
    return found


def trained(workspace: Workspace, words: list[str], epochs: int) -> tuple[float, float]:
    """Seconds until a training began, and milliseconds a step in it."""
    run = new_run(workspace, *COMMON, f"num_epochs={epochs}", *words)
    began = time.time()
    if launch.spawn(workspace, run).wait():
        raise SystemExit(run.worker_log.read_text(encoding="utf-8"))
    return _measured(workspace, run, began)


def _measured(workspace: Workspace, run: RunDir, began: float) -> tuple[float, float]:
    with Store(workspace.db) as store:
        events = store.events(run_id=run.run_id, types=["status", "progress"], limit=100_000)
    started = next(e.time for e in events if e.payload.get("status") == "running")
    told = [e for e in events if e.type == "progress"]
    steps = told[-1].payload["global_step"] - told[0].payload["global_step"]
    return started - began, 1000 * (told[-1].time - told[0].time) / steps


def main() -> None:
    quick = options(__doc__).parse_args().quick
    rounds, epochs = (1, 2) if quick else (3, 4)
    found = ways()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    with tempfile.TemporaryDirectory(prefix="tsuzuku-launchers-") as folder:
        workspace = make_workspace(Path(folder) / "workspace", QUIET)
        for _ in range(rounds):
            for name, words in found.items():
                taken[name].append(trained(workspace, words, epochs))
    alone = [step for _, step in taken["local"]]
    rows: list[list[str]] = []
    for name, times in taken.items():
        ratios = [step / base for (_, step), base in zip(times, alone, strict=True)]
        start = median_of([seconds for seconds, _ in times])
        step = median_of([step for _, step in times])
        rows.append([name, f"{start:.1f}", f"{step:.2f}", f"{median_of(ratios):.2f}×"])
    print_table(f"Launchers ({rounds} rounds)", ["", "start (s)", "ms/step", "of local"], rows)
    if "ray, 1 rank" not in found:
        print("Not installed: Ray (pip install 'tsuzuku[ray]')")


if __name__ == "__main__":
    main()
