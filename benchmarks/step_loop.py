"""What a training step costs beside a hand-written PyTorch loop, here and in other trainers.

All train the same model file on the same data set, batches loaded in the training process, with
fused AdamW and gradients clipped to norm 1, on one thread, and report every 10 steps. Tsuzuku runs
as its worker runs it: events and metrics into SQLite, journal, TensorBoard, and a checkpoint every
500 steps; the others save nothing. A step's time is that from one forward pass to the next, saves
included. All are measured in turn, several times.

python benchmarks/step_loop.py [--quick] [--rounds 7]
"""

from __future__ import annotations

import gc
import logging
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import make_workspace, median_of, new_run, options, print_table, verdict
from torch.utils.data import DataLoader, default_collate

from tsuzuku.core.workspace import Workspace
from tsuzuku.training.plugins import PlainConfig, Plugin
from tsuzuku.worker.train import make_deterministic
from tsuzuku.worker.train import train as tsuzuku_train

BATCH = 32
WARM_UP = 100
LOG_EVERY = 10
LEARNING_RATE, DECAY, CLIP = 1e-3, 0.01, 1.0
SIZES = {"5 ms a step": (5.0, 1000), "0.75 ms a step": (0.75, 2000)}
"""Milliseconds that a hand-written step should take, and how many steps a round measures."""
MAX_RATIO, MAX_EXTRA_US = 1.02, 40.0


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
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = tsuzuku_train(task.workspace, run.run_id)
    finally:
        make_deterministic(False)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if code:
        raise SystemExit(f"the training failed: see {run.path}")


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


def ms_per_step(contender: Callable[[Task], None], task: Task) -> float:
    """Mean milliseconds a step of one round, its warm-up left out."""
    gc.collect()
    contender(task)
    # Tsuzuku's worker has loaded the copy of the file that its run keeps
    stamps: list[float] = sys.modules["tsuzuku_plugins.models.mlp"].STAMPS
    counted = stamps[WARM_UP:]
    if len(stamps) != task.steps:
        raise SystemExit(f"{contender.__name__} made {len(stamps)} steps instead of {task.steps}")
    stamps.clear()
    return 1000 * (counted[-1] - counted[0]) / (len(counted) - 1)


def calibrated_width(workspace: Workspace, target_ms: float) -> int:
    """The first width of a row at which a hand-written step takes `target_ms`."""
    width = 32
    while ms_per_step(by_hand, Task(workspace, width, 2 * WARM_UP)) < target_ms:
        width = -(-width * 9 // 8 // 16) * 16
    return width


def compare(workspace: Workspace, size: str, rounds: int, quick: bool) -> None:
    """Measure every contender in turn, and print a table."""
    target_ms, measured = SIZES[size]
    width = calibrated_width(workspace, target_ms)
    task = Task(workspace, width, WARM_UP + (600 if quick else measured))
    contenders = {name: run for name, (package, run) in CONTENDERS.items() if find_spec(package)}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        # every other round backwards: nobody always comes after the same one
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            times[name].append(ms_per_step(contenders[name], task))
    rows: list[list[str]] = []
    ratios: dict[str, float] = {}
    extras: dict[str, float] = {}
    for name, own in times.items():
        pairs = list(zip(own, times["by hand"], strict=True))
        ratios[name] = median_of(a / b for a, b in pairs)
        extras[name] = median_of(1000 * (a - b) for a, b in pairs)
        rows.append(
            [name, f"{median_of(own):.3f}", f"{ratios[name]:.3f}×", f"{extras[name]:+.0f}"]
        )
    title = f"Step loop, {size} (width {width}, {rounds} rounds of {task.steps - WARM_UP} steps)"
    print_table(title, ["", "ms/step", "ratio", "µs more"], rows)
    if target_ms > 1:
        mark = verdict(ratios["Tsuzuku"], MAX_RATIO)
        print(f"Target: at most {MAX_RATIO}× by hand: {mark}")
    else:
        mark = verdict(extras["Tsuzuku"], MAX_EXTRA_US)
        print(f"Target: at most {MAX_EXTRA_US:.0f} µs more than by hand: {mark}")
    if missing := [name for name in CONTENDERS if name not in contenders]:
        print(f"Not installed (pip install 'tsuzuku[bench]'): {', '.join(missing)}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        workspace = make_workspace(Path(folder) / "workspace")
        for size in SIZES:
            compare(workspace, size, 2 if chosen.quick else chosen.rounds, chosen.quick)


if __name__ == "__main__":
    main()
