"""How long a resume takes, early and late in a long epoch.

Two runs of the same training get a checkpoint each, the one at step 10 and the other at step
1,000,000 of an epoch of nine million samples. Measured is the time from starting
`tsuzuku resume RUN` to the first step reported, in alternating rounds; then the worker is killed,
so that no run moves on.

python benchmarks/resume.py [--quick] [--rounds 7]
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import MODEL, make_workspace, median_of, new_run, options, print_table, verdict
from tsuzuku.core import checkpoint_files, launch
from tsuzuku.core.finding import tip
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.checkpoints import Save, write
from tsuzuku.training.opening import load

SAMPLES, BATCH = 9_000_000, 8
NEAR, FAR = 10, 1_000_000
MAX_RATIO, MAX_BYTES = 1.1, 4096
PATIENCE = 300.0

DATASET = '''\
"""Very many samples, all made on the spot."""

import torch


class Points:
    def __init__(self, config, split):
        self.count = config.count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.full((64,), index / self.count), index % 10
'''


def plain(model: str) -> str:
    """The model without its turns, which a worker elsewhere knows nothing of."""
    return model.replace("from turns import step\n", "").replace("        step()\n", "")


def next_event(store: Store, run: RunDir, kind: str, after: int) -> Event:
    """The first event of that type after a sequence number; waits for it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := store.events(after=after, run_id=run.run_id, types=[kind], limit=1):
            return found[0]
        time.sleep(0.02)
    raise SystemExit(f"no {kind} event came: see {run.worker_log}")


def stopped_at(workspace: Workspace, store: Store, step: int) -> tuple[RunDir, int]:
    """A run whose only checkpoint stands at `step`; and the size of its sampler's state."""
    settings = [f"dataset.count={SAMPLES}", f"batch_size={BATCH}", "num_epochs=1"]
    settings += ["validation_split=0", "log_interval=1", "device=cpu"]
    run = new_run(workspace, *settings)
    worker = launch.spawn(workspace, run)
    next_event(store, run, "progress", 0)
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    real = tip(run)
    if real is None:
        raise SystemExit(f"there is no checkpoint: see {run.worker_log}")
    state = load(real.path)
    state["global_step"] = state["sampler_state"]["batches"] = step
    info = {**real.info, "global_step": step, "sampler_state": state["sampler_state"]}
    checkpoint_files.remove(real.path)
    written = ("format", "name", "size", "sha256", "tensors")
    path = real.path.with_name(f"edited-epoch-0-step-{step}.pt")
    write(Save(path, state, {k: v for k, v in info.items() if k not in written}))
    return run, len(pickle.dumps(state["sampler_state"]))


def seconds_to_first_step(workspace: Workspace, store: Store, run: RunDir) -> tuple[float, float]:
    """From the command to the first step, and the part of it after the worker said `running`."""
    after = store.last_seq()
    command = [sys.executable, "-m", "tsuzuku", "-w", str(workspace.root), "resume", run.run_id]
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = next_event(store, run, "progress", after)
    starting = store.events(after=after, run_id=run.run_id, types=["status"])
    running = max(e.time for e in starting if e.payload["status"] == "running")
    worker = run.worker()
    if worker is not None:
        os.kill(worker, signal.SIGKILL)
    process.wait()
    return first.time - began, first.time - running


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    rounds = 2 if chosen.quick else chosen.rounds
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = make_workspace(Path(folder) / "workspace", plain(MODEL), DATASET)
        with Store(workspace.db) as store:
            made = {step: stopped_at(workspace, store, step) for step in (NEAR, FAR)}
            whole: dict[int, list[float]] = {step: [] for step in made}
            inner: dict[int, list[float]] = {step: [] for step in made}
            for number in range(rounds):
                for step in list(made)[:: -1 if number % 2 else 1]:
                    took = seconds_to_first_step(workspace, store, made[step][0])
                    whole[step].append(took[0])
                    inner[step].append(took[1])
    rows = [
        [
            f"step {step:,}",
            f"{median_of(whole[step]):.2f}",
            f"{median_of(inner[step]):.2f}",
            str(made[step][1]),
        ]
        for step in made
    ]
    head = ["", "s to first step", "of it in the epoch", "bytes of loader state"]
    print_table(f"Resume in an epoch of {SAMPLES:,} samples ({rounds} rounds)", head, rows)
    ratios = [b / a for a, b in zip(whole[NEAR], whole[FAR], strict=True)]
    print(
        f"Ratio {median_of(ratios):.3f}. Target: at most {MAX_RATIO}: {verdict(ratios, MAX_RATIO)}"
    )
    largest = max(size for _, size in made.values())
    mark = "met" if largest <= MAX_BYTES else "missed"
    print(f"Target: at most {MAX_BYTES:,} bytes of loader state: {mark}")


if __name__ == "__main__":
    main()
