"""What stands between settings and a training: device, plug-ins, and which samples are whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tsuzuku.core.errors import NotFound, WrongInput
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.data import BatchSource, EpochSampler, split_off
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.plugins import Data, Plugin


def make_samplers(
    data: Data, settings: RunSettings, ranks: Ranks | None = None
) -> tuple[EpochSampler, EpochSampler | None, BatchSource]:
    """Which samples are trained on and which validate, and where batches of them come from."""
    training = settings.training
    count = len(data.train)
    lengths = getattr(data.train, "lengths", None)
    measured = np.asarray(lengths(), dtype=np.float64) if callable(lengths) else None
    limit = training.limit_samples
    everything = np.arange(min(count, limit) if limit else count)
    splits = {"train": data.train}
    if data.validation is not None:
        splits["validation"] = data.validation
        kept = everything
        size = len(data.validation)
        held_out = np.arange(min(size, limit) if limit else size)
    else:
        chosen, held = split_off(len(everything), training.validation_split, training.seed)
        kept, held_out = everything[chosen], everything[held]
    source = BatchSource(data.plugin, splits, data.collate)
    common: dict[str, Any] = {"batch_size": training.batch_size, "seed": training.seed}
    if ranks is not None:
        common |= {"rank": ranks.rank, "ranks": ranks.world}
    train_sampler = EpochSampler(
        kept, lengths=measured, device_batch_size=training.device_batch_size, **common
    )
    if not len(held_out):
        return train_sampler, None, source
    split = "validation" if data.validation is not None else "train"
    return train_sampler, EpochSampler(held_out, shuffle=False, split=split, **common), source


def load_plugins(run: RunDir, settings: RunSettings) -> tuple[Plugin, Plugin]:
    """The run's own copies of its model and data set, as they were when it began."""
    plugins: list[Plugin] = []
    for label in (f"models/{settings.model_name}.py", f"datasets/{settings.dataset_name}.py"):
        path = run.source / label
        if not path.is_file():
            raise NotFound(f"{path} is gone: the run has lost its source.")
        plugins.append(Plugin(label, path))
    return plugins[0], plugins[1]


def choose_device(name: str) -> torch.device:
    """The device for a setting; raises WrongInput if the machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and torch.backends.mps.is_available():
            name = "mps"
    elif name == "cuda" and not torch.cuda.is_available():
        raise WrongInput("training.device: cuda is not available here.", "Use auto or cpu.")
    elif name == "mps" and not torch.backends.mps.is_available():
        raise WrongInput("training.device: mps is not available here.", "Use auto or cpu.")
    return torch.device(name)


def make_deterministic(wanted: bool) -> None:
    """Ask torch for deterministic kernels; where it has none it warns and goes on."""
    # use_deterministic_algorithms says it to the compiler too, which takes a second to load
    torch.set_deterministic_debug_mode("warn" if wanted else "default")
    # filling fresh memory would cost a pass over every activation and guard against nothing here
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = not wanted
