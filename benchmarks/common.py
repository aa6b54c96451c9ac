"""What the benchmarks share: a workspace in a temporary folder, and tables of what was measured."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from tsuzuku.core import launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

MODEL = '''\
"""A multilayer perceptron that says when its forward pass begins."""

from torch import nn
from turns import step


class Mlp(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        sizes = [64, width, width, 10]
        layers = []
        for a, b in zip(sizes, sizes[1:]):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, batch):
        step()
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y)
'''

DATASET = '''\
"""Random points with random classes, in memory."""

import torch


class Points:
    def __init__(self, config, split):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(config.count, 64, generator=generator)
        self.y = torch.randint(10, (config.count,), generator=generator)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]
'''


def make_workspace(folder: Path, model: str = MODEL, dataset: str = DATASET) -> Workspace:
    """A workspace with `models/mlp.py` and `datasets/points.py`."""
    for name, text in (("models/mlp.py", model), ("datasets/points.py", dataset)):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    (folder / "config.yaml").write_text("server: {language: en}\n", encoding="utf-8")
    return Workspace(folder)


def new_run(workspace: Workspace, *settings: str) -> RunDir:
    """The folder and the rows of a new run of `mlp` on `points`; no worker is started."""
    overrides = parse_overrides(settings, "mlp", "points")
    with Store(workspace.db) as store:
        plan = plan_training(workspace, store, "mlp", "points", overrides, fresh=True)
        return launch.prepare(workspace, store, plan).run


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds, for CI")
    return parser


def median_of(values: Iterable[float]) -> float:
    """The median, NaN of nothing."""
    listed = list(values)
    return statistics.median(listed) if listed else float("nan")


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns, the first to the left and the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        first, *others = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join([first, *others]).rstrip())
        if not number:
            print("  ".join("─" * width for width in widths))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Between which two numbers the middle half of some measurements lies."""
    if len(values) < 2:
        return min(values, default=math.nan), max(values, default=math.nan)
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


def verdict(values: Sequence[float], limit: float, floor: float = -math.inf) -> str:
    """Whether measurements that should be at most `limit` are.

    It is `unclear` where the limit lies within their middle half, or where that half reaches below
    `floor`, which no true value does: then the machine was too restless to tell.
    """
    low, high = quartiles(values)
    if low < floor or low <= limit <= high:
        word = "unclear"
    else:
        word = "met" if high <= limit else "missed"
    return f"{word} (middle half: {low:.3g} to {high:.3g})"
