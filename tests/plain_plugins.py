"""A model and a data set as a user would write them: plain files that import nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TINY = '''\
"""A small network with dropout, so that a wrong random state shows."""

import torch
from torch import nn
from torch.nn import functional as F


class Tiny(nn.Module):
    def __init__(self, hidden: int = 8, dropout: float = 0.25):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 3)
        )

    def forward(self, batch):
        logits = self.net(batch["x"])
        loss = F.cross_entropy(logits, batch["y"])
        return {"loss": loss, "accuracy": (logits.argmax(1) == batch["y"]).float().mean()}

    def validate(self, batch):
        logits = self.net(batch["x"])
        right = (logits.argmax(1) == batch["y"]).sum().item()
        loss = F.cross_entropy(logits, batch["y"])
        return {"loss": loss.item(), "accuracy": (right, len(logits))}

    def inference(self, sample):
        return {"text": str(int(self.net(sample["x"][None]).argmax()))}
'''

EXPORTABLE = """\
import torch
from torch import nn
from torch.nn import functional as F

EXPORT_OUTPUTS = ["logits"]


class Tiny(nn.Module):
    def __init__(self, dataset, hidden=8):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, 3))
        self.prior = nn.Linear(1, 1)

    def forward(self, batch):
        return F.cross_entropy(self.net(batch["x"]), batch["y"]) + 0 * self.prior.bias.sum()

    def export_forward(self, x):
        return self.net(x)

    def export_inputs(self):
        return torch.zeros(2, 6)

    def inference(self, sample):
        if "item" in sample:
            x = sample["item"]["x"]
        elif sample["text"].startswith("prior"):
            x = torch.zeros(6)
            self.prior(torch.ones(1, 1))
        elif sample["text"].startswith("aside"):
            return {"text": "nothing"}
        else:
            x = torch.tensor([float(word) for word in sample["text"].split()])
        return {"logits": {"type": "curves", "value": self.export_forward(x[None])[0]}}
"""
"""A model that can be exported, and that uses weights outside of that, too."""

NOISE = '''\
"""Made-up samples; every one is augmented with all three random generators."""

import random

import numpy as np
import torch


class Noise:
    def __init__(self, config, split):
        count = int(config.get("count", 64))
        generator = np.random.default_rng(int(config.get("data_seed", 0)))
        self.x = generator.standard_normal((count, 6)).astype(np.float32)
        self.y = (self.x.sum(1) > 0).astype(np.int64) + (self.x[:, 0] > 1)
        self.noise = float(config.get("noise", 0.1))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = torch.from_numpy(self.x[index]) * (1 + self.noise * random.random())
        # now and then an odd number: NumPy keeps the second normal of a pair for the next call
        extra = np.random.standard_normal(5 + index % 2)[:5].astype(np.float32)
        x[:5] += self.noise * torch.from_numpy(extra)
        x = x + self.noise * torch.randn(6)
        return {"x": x, "y": torch.tensor(int(self.y[index]))}
'''

CONFIG = """\
datasets:
  noise:
    count: 64
training:
  num_epochs: 3
  batch_size: 8
  learning_rate: 0.01
  log_interval: 1
  validation_split: 0.125
  device: cpu
server:
  language: en
"""


def make_workspace(root: Path, config: str = CONFIG) -> Path:
    """A workspace folder with the two plug-ins; returns its path."""
    for kind, name, source in (("models", "tiny", TINY), ("datasets", "noise", NOISE)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / f"{name}.py").write_text(source, encoding="utf-8")
    (root / "config.yaml").write_text(config, encoding="utf-8")
    return root


def python(code: str, *arguments: object, folder: Path | None = None) -> subprocess.Popen[str]:
    """Another process that runs `code`; it may read a line to wait and print lines to report."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def ran(code: str, *arguments: object) -> str:
    """What `code` printed in a process of its own; it must end well."""
    process = python(code, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out
