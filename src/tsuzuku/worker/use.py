"""Using a checkpoint: evaluating it on a data set, and trying it on a person's input."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.holding import Hold
from tsuzuku.core.plugin_files import find
from tsuzuku.core.settings import RunSettings, TrainingSettings
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.data import BatchLoader, Indices, split_off, to_device
from tsuzuku.training.onnx_files import StandIn
from tsuzuku.training.opening import check_weights, load
from tsuzuku.training.plugins import Data, Plugin, guarded, make_data, make_model
from tsuzuku.training.randomness import position_seed, seed_all
from tsuzuku.training.results import Averages
from tsuzuku.training.setup import choose_device, load_plugins, make_samplers
from tsuzuku.worker.outputs import typed

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass
class Trained:
    """A checkpoint's model, and its data set where that is at hand."""

    settings: RunSettings
    plugin: Plugin
    model: Any
    opened: Data | TsuzukuError
    """The data set, or why there is none: a model can be used where its data is not."""
    device: torch.device
    epoch: int
    """The epoch (from 0) that the checkpoint ended, or was in the middle of."""
    checkpoint: str
    """Its name."""
    hold: Hold | None = None
    """So that the checkpoint is not pruned while its model is in use."""

    @property
    def data(self) -> Data:
        """The data set; raises what opening it raised."""
        if isinstance(self.opened, TsuzukuError):
            raise self.opened
        return self.opened


def open_trained(
    workspace: Workspace, run: RunDir, checkpoint: CheckpointFile, dataset: str | None = None
) -> Trained:
    """Make the checkpoint's model from the run's own source and load the weights.

    With `dataset`, another data set of the workspace takes the place of the one trained on. Where
    it cannot be opened, the model is made without one, from the settings in the checkpoint.
    """
    settings = RunSettings.model_validate(checkpoint.info["config"])
    hold = Hold(checkpoint.path)
    saved = load(checkpoint.path)
    model_plugin, data_plugin = load_plugins(run, settings)
    device = choose_device(settings.training.device)
    data_settings = settings.dataset
    if dataset is not None and dataset != settings.dataset_name:
        data_plugin = Plugin(
            f"datasets/{dataset}.py", find("datasets", dataset, workspace.root).path
        )
        data_settings = workspace.config().settings.datasets.get(dataset) or {}
    model, opened = make_untrained(settings, (model_plugin, data_plugin), data_settings, device)
    check_weights(model, saved["model_state_dict"], checkpoint.name)
    model.load_state_dict(saved["model_state_dict"])
    epoch = checkpoint.epoch - bool(checkpoint.info.get("end_of_epoch"))
    trained = model.to(device).eval()
    return Trained(settings, model_plugin, trained, opened, device, epoch, checkpoint.name, hold)


def make_untrained(
    settings: RunSettings,
    plugins: tuple[Plugin, Plugin | TsuzukuError],
    data_settings: Tree,
    device: torch.device,
) -> tuple[Any, Data | TsuzukuError]:
    """The model as a run begins with it, and its data set or why there is none.

    `plugins`: the model's and the data set's, or why that is not there.
    """
    model_plugin, data_plugin = plugins
    seed_all(position_seed(settings.training.seed, "init", 0), device)
    opened = _opened(data_plugin, data_settings)
    seed_all(position_seed(settings.training.seed, "init", 1), device)
    try:
        samples = opened.train if isinstance(opened, Data) else None
        model, _ = make_model(model_plugin, settings.model, samples)
    except TsuzukuError as error:
        # a model that asks for its data set has failed for want of that
        raise error if isinstance(opened, Data) else opened from None
    return model, opened


def _opened(plugin: Plugin | TsuzukuError, settings: Tree) -> Data | TsuzukuError:
    if isinstance(plugin, TsuzukuError):
        return plugin
    try:
        return make_data(plugin, settings)
    except TsuzukuError as error:
        return error


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
    total = Averages(trained.model)
    loader = BatchLoader(source, 0, pin_memory=False)
    sampler.seek(trained.epoch, 0)
    with torch.no_grad():
        for index, batch in enumerate(loader.batches(sampler)):
            seed = trained.settings.training.seed
            seed_all(position_seed(seed, "validate", trained.epoch, index), trained.device)
            result = guarded(trained.plugin, lambda b=batch: measure(to_device(b, trained.device)))
            total.add(result, sampler.size_of(index), trained.settings.model_name)
    return total.means()


@dataclass(frozen=True)
class Prediction:
    """What `inference` returned, and how many seconds it took."""

    outputs: Tree
    """Typed outputs by name."""
    first: float
    """Until the first output; for models that answer at once, the same as `whole`."""
    whole: float


def predict(trained: Trained, given: str) -> Prediction:
    """The model's outputs for a file, or for `N`, the N-th validation sample (from 0).

    The same input gets the same answer, however random item and model are. An `inference` that
    is a generator answers bit by bit: what it yields later goes before what it yielded earlier.
    """
    label = trained.plugin.label
    inference = getattr(trained.model, "inference", None)
    if inference is None:
        raise WrongInput(
            f"{label} has no inference(sample), which a prediction needs.", code="no_inference"
        )
    seed = trained.settings.training.seed
    seed_all(position_seed(seed, "validate", trained.epoch), trained.device)
    with torch.no_grad():
        sample = read_sample(given, trained)
        began = time.perf_counter()
        result: Any = guarded(trained.plugin, lambda: inference(sample))
        outputs: Tree = {}
        first: float | None = None
        for part in _parts(result, trained.plugin):
            outputs |= _outputs(part, label)
            first = time.perf_counter() - began if first is None else first
        if trained.device.type == "cuda":
            torch.cuda.synchronize(trained.device)
        whole = time.perf_counter() - began
    network = getattr(trained.model, "export_forward", None)
    if isinstance(network, StandIn) and not network.calls:
        raise WrongInput(
            f"{label}: inference does not call export_forward, so that the exported file has no "
            "part in what it answers.",
            "docs/plugins.md says how the two go together.",
            code="not_exportable",
        )
    named = {key: typed(value) for key, value in outputs.items()}
    return Prediction(named, whole if first is None else first, whole)


def _parts(result: Any, plugin: Plugin) -> Iterator[Any]:
    if not inspect.isgenerator(result):
        yield result
        return
    while (part := guarded(plugin, lambda: next(result, None))) is not None:
        yield part


def _outputs(result: Any, label: str) -> Tree:
    if not is_tree(result):
        raise WrongInput(f"{label}: inference has to return a dict of outputs.", code="bad_output")
    return {str(k): v for k, v in result.items()}


def read_sample(given: str, trained: Trained) -> dict[str, Any]:
    """What `inference` gets: `item` of the data set, or `path` with `image` or `text`."""
    if given.isdecimal():
        samples = held_out(trained.data, trained.settings.training)
        if int(given) >= len(samples):
            raise WrongInput(f"There is no sample {given}; the last one is {len(samples) - 1}.")
        return {"item": guarded(trained.data.plugin, lambda: samples[int(given)])}
    path = Path(given)
    if not path.is_file():
        raise WrongInput(f"{given} does not exist.", "Give a file, or a number for a data sample.")
    sample: dict[str, Any] = {"path": str(path)}
    if path.suffix.lower() in IMAGES:
        sample["image"] = read_image(path)
    elif path.suffix.lower() == ".txt":
        try:
            sample["text"] = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError) as error:
            raise WrongInput(f"{path} is not a UTF-8 text that can be read: {error}.") from None
    return sample


def held_out(data: Data, training: TrainingSettings) -> Sequence[Any]:
    """The samples that a run validates on; those that it trains on if there are none."""
    if data.validation is not None:
        return data.validation
    size, share = len(data.train), training.validation_split
    size = min(size, training.limit_samples or size)
    chosen = split_off(size, share, training.seed)[1]
    return Chosen(data.train, chosen) if len(chosen) else data.train


class Chosen(Sequence[Any]):
    """Some samples of a data set, which are read when they are asked for."""

    def __init__(self, samples: Any, indices: Indices) -> None:
        self.samples = samples
        self.indices = indices

    def others(self, count: int) -> Indices:
        """The indices below `count` that are not among these."""
        return np.setdiff1d(np.arange(count), self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[int(self.indices[index])]


def read_image(path: Path) -> Any:
    """A picture as uint8 [height, width] or [height, width, 3]; raises WrongInput if it is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            grey = picture.mode in ("1", "L", "I", "I;16", "F", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise WrongInput(f"{path} is not a picture that can be read: {error}.") from None
