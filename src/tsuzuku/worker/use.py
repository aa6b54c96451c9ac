"""Using a checkpoint: evaluating it on a data set, and trying it on a person's input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.plugin_files import find
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.trees import is_tree
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.checkpoints import check_weights, load
from tsuzuku.training.data import BatchLoader, to_device
from tsuzuku.training.plugins import Data, Plugin, guarded, make_data, make_model
from tsuzuku.training.randomness import position_seed, seed_all
from tsuzuku.training.results import Averages
from tsuzuku.training.setup import choose_device, load_plugins, make_samplers

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass
class Trained:
    """A checkpoint's model with its data set."""

    settings: RunSettings
    plugin: Plugin
    model: Any
    data: Data
    device: torch.device
    epoch: int
    """The epoch (from 0) that the checkpoint ended, or was in the middle of."""


def open_trained(
    workspace: Workspace, run: RunDir, checkpoint: CheckpointFile, dataset: str | None = None
) -> Trained:
    """Make the checkpoint's model from the run's own source and load the weights.

    With `dataset`, another data set of the workspace takes the place of the one trained on.
    """
    settings = RunSettings.model_validate(checkpoint.info["config"])
    saved = load(checkpoint.path)
    model_plugin, data_plugin = load_plugins(run, settings)
    device = choose_device(settings.training.device)
    seed_all(position_seed(settings.training.seed, "init", 0), device)
    data_settings = settings.dataset
    if dataset is not None and dataset != settings.dataset_name:
        data_plugin = Plugin(
            f"datasets/{dataset}.py", find("datasets", dataset, workspace.root).path
        )
        data_settings = workspace.config().settings.datasets.get(dataset) or {}
    data = make_data(data_plugin, data_settings)
    seed_all(position_seed(settings.training.seed, "init", 1), device)
    model, _ = make_model(model_plugin, settings.model, data.train)
    check_weights(model, saved["model_state_dict"], checkpoint.name)
    model.load_state_dict(saved["model_state_dict"])
    epoch = checkpoint.epoch - bool(checkpoint.info.get("end_of_epoch"))
    return Trained(settings, model_plugin, model.to(device).eval(), data, device, epoch)


def evaluate(trained: Trained) -> dict[str, float]:
    """The validation metrics on the data set's validation samples.

    Randomness is that of the checkpoint's own validation, so that its numbers come out again.
    """
    _, sampler, source = make_samplers(trained.data, trained.settings)
    if sampler is None:
        raise WrongInput(
            "There is nothing to evaluate on: training.validation_split is 0 and the data set has "
            "no validation split."
        )
    measure = getattr(trained.model, "validate", None) or trained.model
    total = Averages()
    loader = BatchLoader(source, 0, pin_memory=False)
    sampler.seek(trained.epoch, 0)
    with torch.no_grad():
        for index, batch in enumerate(loader.batches(sampler)):
            seed = trained.settings.training.seed
            seed_all(position_seed(seed, "validate", trained.epoch, index), trained.device)
            result = guarded(trained.plugin, lambda b=batch: measure(to_device(b, trained.device)))
            total.add(result, sampler.size_of(index), trained.settings.model_name)
    return total.means()


def predict(trained: Trained, given: str) -> dict[str, dict[str, Any]]:
    """The model's typed outputs for a file, or for `N`, the N-th validation sample (from 0)."""
    inference = getattr(trained.model, "inference", None)
    if inference is None:
        raise WrongInput(f"{trained.plugin.label} has no inference(sample), which `predict` needs.")
    with torch.no_grad():
        outputs = guarded(trained.plugin, lambda: inference(read_sample(given, trained.data)))
    if not is_tree(outputs):
        raise WrongInput(f"{trained.plugin.label}: inference has to return a dict of outputs.")
    return {str(k): typed(v) for k, v in outputs.items()}


def read_sample(given: str, data: Data) -> dict[str, Any]:
    """What `inference` gets: `item` of the data set, or `path` with `image` or `text`."""
    if given.isdecimal():
        samples = data.validation if data.validation is not None else data.train
        if int(given) >= len(samples):
            raise WrongInput(f"There is no sample {given}; the last one is {len(samples) - 1}.")
        return {"item": samples[int(given)]}
    path = Path(given)
    if not path.is_file():
        raise WrongInput(f"{given} does not exist.", "Give a file, or a number for a data sample.")
    sample: dict[str, Any] = {"path": str(path)}
    if path.suffix.lower() in IMAGES:
        sample["image"] = read_image(path)
    elif path.suffix.lower() == ".txt":
        sample["text"] = path.read_text(encoding="utf-8")
    return sample


def read_image(path: Path) -> Any:
    """A picture as uint8 [height, width] or [height, width, 3]; raises WrongInput if it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            grey = picture.mode in ("1", "L", "I", "I;16", "F", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise WrongInput(f"{path} is not a picture that can be read: {error}.") from None


def typed(value: Any) -> dict[str, Any]:
    """An output in its typed form: `{"type": text | image | curves | audio | number, "value"}`."""
    if is_tree(value) and "type" in value:
        return value
    if isinstance(value, int | float):
        return {"type": "number", "value": value}
    return {"type": "text", "value": str(value)}


def write_outputs(outputs: dict[str, dict[str, Any]], folder: Path, stem: str) -> dict[str, Any]:
    """Write pictures and curves as files; the answer for a person, with their paths."""
    from PIL import Image

    answer: dict[str, Any] = {}
    for name, output in outputs.items():
        value = output.get("value")
        if output["type"] == "image":
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{stem}-{name}.png"
            Image.fromarray(np.asarray(value, dtype=np.uint8)).save(path)
            answer[name] = str(path)
        elif output["type"] == "curves":
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{stem}-{name}.npy"
            np.save(path, np.asarray(value))
            answer[name] = str(path)
        else:
            answer[name] = value
    return answer
