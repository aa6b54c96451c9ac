"""What a training step costs beside a hand-written PyTorch loop, here and in other trainers.

All train the same model file on the same data set, batches loaded in the training process, with
fused AdamW and gradients clipped to norm 1, on one thread, and report every 10 steps. Tsuzuku runs
as its worker runs it: events and metrics into SQLite, journal, TensorBoard, and a checkpoint every
500 steps; the others save nothing. They take turns of about half a second.

python benchmarks/step_loop.py [--quick] [--rounds 15]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from common import make_workspace, median_of, new_run, options, print_table, verdict
from tsuzuku.core.workspace import Workspace
from tsuzuku.training.plugins import PlainConfig, Plugin
from tsuzuku.worker.stop import StopSignal
from tsuzuku.worker.train import train as tsuzuku_train
from turns import Contender, end_tidily, pace

BATCH = 16
WARM_UP = 100
LOG_EVERY = 10
LEARNING_RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
ROUND = 500
"""Steps of a round, so that each has a checkpoint in it."""


@dataclass(frozen=True)
class Size:
    """How long a hand-written step should take, and what is asked of Tsuzuku there."""

    ms: float
    turn: int
    """Steps of a turn: about half a second."""
    more_rounds: int
    max_ratio: float | None = None
    max_extra_us: float | None = None


SIZES = (
    Size(5.0, turn=100, more_rounds=1, max_ratio=1.02),
    Size(0.75, turn=500, more_rounds=2, max_extra_us=40),
)


@dataclass
class Task:
    """What every contender trains."""

    workspace: Workspace
    width: int
    steps: int

    @property
    def plugin(self) -> Plugin:
        return Plugin("models/mlp.py", self.workspace.root / "models" / "mlp.py")

    def model(self) -> Any:
        return self.plugin.module.Mlp(self.width)

    def dataset(self) -> Any:
        module = Plugin("datasets/points.py", self.workspace.root / "datasets" / "points.py").module
        return module.Points(PlainConfig(count=BATCH * self.steps), "train")

    def loader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset(), batch_size=BATCH, shuffle=True)

    def optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=DECAY, fused=True
        )


def by_hand(task: Task) -> None:
    model = task.model()
    optimizer = task.optimizer(model)
    model.train()
    for step, batch in enumerate(task.loader(), 1):
        optimizer.zero_grad(set_to_none=True)
        loss = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if step % LOG_EVERY == 0:
            loss.item()


def tsuzuku(task: Task) -> None:
    settings = {
        "model.width": task.width,
        "dataset.count": BATCH * task.steps,
        "num_epochs": 1,
        "batch_size": BATCH,
        "learning_rate": LEARNING_RATE,
        "weight_decay": DECAY,
        "grad_clip_thresh": CLIP,
        "log_interval": LOG_EVERY,
        "validation_split": 0,
        "device": "cpu",
        "checkpoint.every_steps": 500,
    }
    run = new_run(task.workspace, *(f"{key}={value}" for key, value in settings.items()))
    tsuzuku_train(task.workspace, run.run_id, StopSignal())
    raise SystemExit(f"the training has ended: see {run.path}")


def accelerate(task: Task) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = task.model()
    model, optimizer, loader = accelerator.prepare(model, task.optimizer(model), task.loader())
    model.train()
    for step, batch in enumerate(loader, 1):
        optimizer.zero_grad(set_to_none=True)
        loss = model(batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if step % LOG_EVERY == 0:
            loss.item()


def ignite(task: Task) -> None:
    from ignite.engine import Engine, Events

    model = task.model()
    optimizer = task.optimizer(model)

    def step(_engine: Engine, batch: Any) -> torch.Tensor:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = model(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss

    engine = Engine(step)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(every=LOG_EVERY), lambda engine: engine.state.output.item()
    )
    engine.run(task.loader(), max_epochs=1)


def lightning(task: Task) -> None:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Wrapped(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model()

        def training_step(self, batch: Any) -> torch.Tensor:
            loss = self.model(batch)
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return task.optimizer(self.model)

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=CLIP,
        log_every_n_steps=LOG_EVERY,
        logger=TensorBoardLogger(task.workspace.root / "lightning"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Wrapped(), task.loader())


def hf_trainer(task: Task) -> None:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model()

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.model((x, y))}

    arguments = TrainingArguments(
        output_dir=str(task.workspace.root / "hf"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        optim="adamw_torch_fused",
        learning_rate=LEARNING_RATE,
        weight_decay=DECAY,
        lr_scheduler_type="constant",
        max_grad_norm=CLIP,
        logging_steps=LOG_EVERY,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        Wrapped(),
        arguments,
        data_collator=lambda items: dict(zip("xy", default_collate(items), strict=True)),
        train_dataset=task.dataset(),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


CONTENDERS: dict[str, tuple[str, Callable[[Task], None]]] = {
    "by hand": ("torch", by_hand),
    "Tsuzuku": ("tsuzuku", tsuzuku),
    "Ignite": ("ignite", ignite),
    "Accelerate": ("accelerate", accelerate),
    "HF Trainer": ("transformers", hf_trainer),
    "Lightning": ("lightning", lightning),
}


def compete(chosen: argparse.Namespace) -> None:
    """Be one of the contenders, in a process of its own, until the organizer ends it."""
    warnings.simplefilter("ignore")
    pace.take_part(WARM_UP)
    CONTENDERS[chosen.contender][1](Task(Workspace(chosen.workspace), chosen.width, chosen.steps))


def calibrated_width(workspace: Workspace, target_ms: float) -> int:
    """The first width of a row at which a hand-written step takes `target_ms`."""
    width, steps = 16, 400
    by_hand(Task(workspace, width, steps))  # the first one is slow
    while True:
        began = time.perf_counter()
        by_hand(Task(workspace, width, steps))
        if 1000 * (time.perf_counter() - began) / steps >= target_ms:
            return width
        width += 16 + width // 128 * 16


def measure(workspace: Workspace, size: Size, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """The width, and by contender the milliseconds a step in each round."""
    width = calibrated_width(workspace, size.ms)
    installed = [name for name, (package, _) in CONTENDERS.items() if find_spec(package)]
    steps = WARM_UP + (rounds + 1) * ROUND
    times: dict[str, list[float]] = {name: [] for name in installed}
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for name in installed:
            command = [__file__, "--contender", name, "--workspace", str(workspace.root)]
            command += ["--width", str(width), "--steps", str(steps)]
            contenders[name] = stack.enter_context(Contender(*command))
        for number in range(rounds):
            # every other round backwards: nobody always comes after the same one
            order = installed[:: -1 if number % 2 else 1]
            took = dict.fromkeys(order, 0.0)
            for _ in range(ROUND // size.turn):
                for name in order:
                    took[name] += contenders[name].turn(size.turn)
            for name, seconds in took.items():
                times[name].append(1000 * seconds / ROUND)
    return width, times


def report(title: str, size: Size, times: dict[str, list[float]]) -> None:
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {}
    extras: dict[str, list[float]] = {}
    for name, own in times.items():
        pairs = list(zip(own, times["by hand"], strict=True))
        ratios[name] = [a / b for a, b in pairs]
        extras[name] = [1000 * (a - b) for a, b in pairs]
        rows.append(
            [
                name,
                f"{median_of(own):.3f}",
                f"{median_of(ratios[name]):.3f}×",
                f"{median_of(extras[name]):+.0f}",
            ]
        )
    print_table(title, ["", "ms/step", "ratio", "µs more"], rows)
    if size.max_ratio is not None:
        mark = verdict(ratios["Tsuzuku"], size.max_ratio)
        print(f"Target: at most {size.max_ratio}× by hand: {mark}")
    if size.max_extra_us is not None:
        mark = verdict(extras["Tsuzuku"], size.max_extra_us)
        print(f"Target: at most {size.max_extra_us:.0f} µs more than by hand: {mark}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    for name, kind in (("contender", str), ("workspace", Path), ("width", int), ("steps", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.contender:
        compete(chosen)
        return
    end_tidily()
    for size in SIZES:
        rounds = max(2 if chosen.quick else chosen.rounds * size.more_rounds, 2)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            width, times = measure(make_workspace(Path(folder) / "workspace"), size, rounds)
        report(
            f"Step loop at {size.ms} ms (width {width}, {rounds} rounds of {ROUND} steps)",
            size,
            times,
        )
    if missing := [name for name, (package, _) in CONTENDERS.items() if not find_spec(package)]:
        print(f"Not installed (pip install 'tsuzuku[bench]'): {', '.join(missing)}")


if __name__ == "__main__":
    main()
