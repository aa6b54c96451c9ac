"""What a checkpoint of 30 million parameters with AdamW's moments costs the training.

Blocked: how long the step loop stands still until it may go on, beside one warm memory copy of the
same state. Lost: how much longer a block of training steps takes with a save than without one,
writing and fsync included, in pairs of blocks side by side. Beside Tsuzuku's writer: `torch.save`
with fsync that the training waits for, a deep copy that a thread saves, and `async_save` of
torch.distributed.checkpoint.

python benchmarks/save_stall.py [--quick] [--pairs 20] [--threads 1 2] [--folder DIR]
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed import checkpoint as dcp

from common import median_of, options, print_table, verdict
from tsuzuku.core.settings import RunSettings, TrainingSettings
from tsuzuku.training.checkpoints import CheckpointWriter, Save
from tsuzuku.training.optim import make_optimizer
from tsuzuku.training.snapshot import tensors_in
from tsuzuku.training.state import TrainingState

WIDTH, LAYERS, BATCH = 1280, 19, 16
"""About 31 million parameters: 374 MB with the two moments."""
MAX_COPIES, MAX_OF_BLOCKING = 1.2, 0.4


class Training:
    """A model that is trained on random points, one small batch a step."""

    def __init__(self) -> None:
        layers = [part for _ in range(LAYERS) for part in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        self.model = nn.Sequential(*layers)
        settings = TrainingSettings(device="cpu", learning_rate=1e-5)
        self.state = TrainingState(
            settings=RunSettings(model_name="mlp", dataset_name="points", training=settings),
            device=torch.device("cpu"),
            model=self.model,
            optimizer=make_optimizer(self.model, settings),
            scheduler=None,
            scaler=None,
        )
        self.points = torch.randn(BATCH, WIDTH)

    def step(self) -> None:
        self.state.optimizer.zero_grad(set_to_none=True)
        self.model(self.points).square().mean().backward()
        self.state.optimizer.step()

    def block(self, steps: int) -> float:
        """Seconds that so many steps take."""
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - began


class Saver(Protocol):
    """A way to save, into a folder that is emptied after each save."""

    def start(self, state: dict[str, Any], folder: Path) -> None: ...
    def wait(self) -> None: ...


class Tsuzuku:
    def __init__(self) -> None:
        self.writer = CheckpointWriter(lambda: None, lambda _file: None)

    def start(self, state: dict[str, Any], folder: Path) -> None:
        info = {key: state[key] for key in ("epoch", "global_step", "metadata")}
        self.writer.start(Save(folder / "saved.pt", state, info))

    def wait(self) -> None:
        self.writer.wait()


class Blocking:
    def start(self, state: dict[str, Any], folder: Path) -> None:
        with (folder / "saved.pt").open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def wait(self) -> None:
        pass


class DeepCopy:
    def start(self, state: dict[str, Any], folder: Path) -> None:
        copied = copy.deepcopy(state)
        self.thread = threading.Thread(target=Blocking().start, args=(copied, folder))
        self.thread.start()

    def wait(self) -> None:
        self.thread.join()


class Distributed:
    def start(self, state: dict[str, Any], folder: Path) -> None:
        kept = {key: state[key] for key in ("model_state_dict", "optimizer_state_dict")}
        self.future: Any = dcp.async_save(kept, checkpoint_id=folder / "saved")

    def wait(self) -> None:
        self.future.result()


SAVERS: dict[str, type[Saver]] = {
    "torch.save, waited for": Blocking,
    "Tsuzuku": Tsuzuku,
    "deep copy + thread": DeepCopy,
    "DCP async_save": Distributed,
}


COMPARED = ["torch.save, waited for", "Tsuzuku"]
PEERS_EVERY = 3


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def warm_copy(training: Training, rounds: int) -> float:
    """Median seconds of one memory copy of the state into buffers that are there."""
    sources = [t.detach() for t in tensors_in(training.state.capture({})).values()]
    targets = [t.clone() for t in sources]
    times: list[float] = []
    for _ in range(rounds):
        training.block(2)
        began = time.perf_counter()
        torch._foreach_copy_(targets, sources)
        times.append(time.perf_counter() - began)
    return median_of(times)


def steps_of_a_block(training: Training, saver: Saver, folder: Path) -> int:
    """So many that a save which goes on beside them has long ended."""
    most = 0
    for _ in range(2):
        saver.start(training.state.capture({}), emptied(folder))
        waiting = threading.Thread(target=saver.wait)
        waiting.start()
        steps = 0
        while waiting.is_alive():
            training.step()
            steps += 1
        most = max(most, steps)
    return math.ceil(1.5 * most) + 5


def lost_once(
    training: Training, saver: Saver, steps: int, folder: Path, save_first: bool
) -> tuple[float, float, bool]:
    """Seconds blocked, seconds lost, and whether the block was long enough, in one pair."""
    took: dict[bool, float] = {}
    blocked, waited = 0.0, 0.0
    for saving in (save_first, not save_first):
        emptied(folder)
        training.block(2)
        began = time.perf_counter()
        if saving:
            saver.start(training.state.capture({}), folder)
            blocked = time.perf_counter() - began
        training.block(steps)
        took[saving] = time.perf_counter() - began
        if saving:
            before = time.perf_counter()
            saver.wait()
            waited = time.perf_counter() - before
    return blocked, took[True] - took[False], waited < 0.02


def compare(threads: int, pairs: int, folder: Path) -> None:
    torch.set_num_threads(threads)
    training = Training()
    training.block(3)
    savers = {name: kind() for name, kind in SAVERS.items()}
    blocks = {name: steps_of_a_block(training, s, folder) for name, s in savers.items()}
    copies: list[float] = []
    blocked: dict[str, list[float]] = {name: [] for name in savers}
    lost: dict[str, list[float]] = {name: [] for name in savers}
    short = 0
    for number in range(pairs):
        copies.append(warm_copy(training, 3))
        # the two that are compared take part in every pair, the others in some
        taking_part = list(savers) if number % PEERS_EVERY == 0 else COMPARED
        for name in taking_part[:: -1 if number % 2 else 1]:
            result = lost_once(training, savers[name], blocks[name], folder, number % 4 < 2)
            blocked[name].append(result[0])
            if result[2]:
                lost[name].append(result[1])
            else:
                blocks[name] = blocks[name] * 5 // 4
                short += 1
    copied = median_of(copies)
    whole = median_of(lost["torch.save, waited for"])
    rows = [["one warm memory copy", f"{1000 * copied:.0f}", "1.00×", "", "", ""]]
    for name in savers:
        held, loss = median_of(blocked[name]), median_of(lost[name])
        cells = [f"{1000 * held:.0f}", f"{held / copied:.2f}×", f"{1000 * loss:.0f}"]
        rows.append([name, *cells, f"{loss / whole:.2f}×", str(len(lost[name]))])
    size = sum(t.nbytes for t in tensors_in(training.state.capture({})).values())
    step = 1000 * median_of(training.block(1) for _ in range(5))
    title = f"A save of {size / 1e6:.0f} MB, steps of {step:.0f} ms on {threads} thread(s)"
    head = ["", "blocked ms", "of a copy", "lost ms", "of blocking", "pairs"]
    print_table(title, head, rows)
    stood = [seconds / copied for seconds in blocked["Tsuzuku"]]
    gone = [seconds / whole for seconds in lost["Tsuzuku"]]
    print(f"Target: blocked at most {MAX_COPIES} copies: {verdict(stood, MAX_COPIES)}")
    mark = verdict(gone, MAX_OF_BLOCKING, floor=-0.2)
    print(f"Target: lost at most {MAX_OF_BLOCKING} of blocking: {mark}")
    if short:
        print(f"{short} blocks were shorter than their save and did not count.")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    for threads in chosen.threads:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            compare(threads, 2 if chosen.quick else chosen.pairs, Path(folder) / "saves")


if __name__ == "__main__":
    main()
