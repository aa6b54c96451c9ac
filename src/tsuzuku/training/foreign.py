"""Beginning a training with what a file of another program has: its values for a model's weights
and an optimizer's moments, checked before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tsuzuku.core.errors import CorruptCheckpoint, TsuzukuError
from tsuzuku.core.foreign import ForeignFile, Optimizer, described
from tsuzuku.core.name_fit import Fit, fit, some
from tsuzuku.core.pickle_outline import Stored
from tsuzuku.core.shortages import ran_out_of_memory, says_nothing_of_the_file
from tsuzuku.core.tensor_files import TensorFile, open_tensors
from tsuzuku.training.state import TrainingState

Key = TypeVar("Key")
PARTIAL = "`training.initialize.partial=true` begins with what fits."


@dataclass
class Beginning:
    """What a file gives, in the form of a checkpoint, and what it does not."""

    saved: dict[str, Any]
    lost: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    """Weights of the model that begin anew."""
    unused: list[str] = field(default_factory=list[str])
    """Weights of the file that the model does not have."""
    converted: list[str] = field(default_factory=list[str])
    """Weights of another floating-point type than the model's."""


def read_beginning(
    path: Path, model: torch.nn.Module, kind: str, *, epoch: int, partial: bool
) -> Beginning:
    """Read what a file has for `model` and for an optimizer of that kind.

    Raises CorruptCheckpoint where it does not fit the model (`other_model`), holds values that
    are not finite, or cannot be read; TsuzukuError where memory or rights lack.
    """
    try:
        file = open_tensors(path)
        foreign = described(file, path.stat().st_size)
        return _read(file, foreign, model, kind, epoch, partial)
    except (OSError, MemoryError, RuntimeError) as error:
        if says_nothing_of_the_file(error):
            code = "out_of_memory" if ran_out_of_memory(error) else "unreadable"
            raise TsuzukuError(f"{path.name} cannot be opened now: {error}.", code=code) from None
        raise CorruptCheckpoint(f"{path.name} cannot be read: {error}.") from None


def begin(state: TrainingState, beginning: Beginning, name: str) -> None:
    """Let a training begin where a file ends; the schedule stands where its settings have it."""
    moments = beginning.saved["optimizer_state_dict"]
    if moments is not None:
        moments["param_groups"] = state.optimizer.state_dict()["param_groups"]
    lost = state.restore(beginning.saved, name, same_run=False)
    if "optimizer" in lost and "optimizer" not in beginning.lost:
        beginning.lost.insert(0, "optimizer")
    done = state.epoch * state.steps_per_epoch
    if state.global_step == 0:
        state.global_step = done  # what the file does not say
    scheduler = state.scheduler
    if scheduler is not None and done and not isinstance(scheduler, ReduceLROnPlateau):
        # the schedules are functions of the step
        scheduler.last_epoch = done - 1
        scheduler._step_count = done  # pyright: ignore[reportPrivateUsage]
        scheduler.step()


def _read(
    file: TensorFile,
    foreign: ForeignFile,
    model: torch.nn.Module,
    kind: str,
    epoch: int,
    partial: bool,
) -> Beginning:
    state: dict[str, Any] = dict(model.state_dict())
    own = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    fitting = fit(foreign.weights, own)
    wrong = {
        mine: theirs
        for mine, theirs in fitting.names.items()
        if not _fits(foreign.weights[theirs], own[mine])
    }
    if not partial or len(wrong) == len(fitting.names):
        _require_fitting(foreign, fitting, wrong, own)
    names = {mine: theirs for mine, theirs in fitting.names.items() if mine not in wrong}
    values = _tensors(file, {mine: foreign.weights[theirs] for mine, theirs in names.items()})
    _require_finite(values, foreign.name)
    weights = {mine: values.get(mine, value) for mine, value in state.items()}
    beginning = Beginning(
        {"epoch": epoch, "model_state_dict": weights, "global_step": foreign.global_step or 0},
        left=[*fitting.missing, *wrong],
        unused=fitting.unexpected,
        converted=[mine for mine in names if values[mine].dtype != own[mine].dtype],
    )
    moments = None
    if fitting.whole and not wrong:
        moments = _optimizer(file, foreign.optimizer, kind, model, list(foreign.weights), fitting)
    if moments is None:
        beginning.lost.append("optimizer")
    beginning.saved["optimizer_state_dict"] = moments
    return beginning


def _fits(theirs: Stored, own: torch.Tensor) -> bool:
    """Whether values of a file can be the model's: floats for floats, else of the same type."""
    dtype: torch.dtype = getattr(torch, theirs.dtype)
    floats = dtype.is_floating_point and own.is_floating_point()
    return theirs.shape == tuple(own.shape) and (floats or dtype == own.dtype)


def _require_fitting(
    foreign: ForeignFile, fitting: Fit, wrong: dict[str, str], own: dict[str, torch.Tensor]
) -> None:
    """Raise CorruptCheckpoint, saying what differs, unless all is there and nothing else."""
    if not fitting.names:
        raise CorruptCheckpoint(
            f"{foreign.name} is of another model: it has {some(foreign.weights)}, and this one "
            f"has {some(own)}.",
            code="other_model",
        )
    if wrong:
        mine, name = next(iter(wrong.items()))
        theirs = foreign.weights[name]
        raise CorruptCheckpoint(
            f"{foreign.name} is of another model: {len(wrong)} of {len(own)} weights differ in "
            f"shape or type; {name!r} is {theirs.dtype} {list(theirs.shape)} there and "
            f"{str(own[mine].dtype).removeprefix('torch.')} {list(own[mine].shape)} here.",
            PARTIAL,
            code="other_model",
        )
    said: list[str] = []
    if fitting.missing:
        said.append(f"{len(fitting.missing)} weights are missing ({some(fitting.missing)})")
    if fitting.unexpected:
        said.append(f"{len(fitting.unexpected)} are unexpected ({some(fitting.unexpected)})")
    if said:
        raise CorruptCheckpoint(
            f"{foreign.name} is of another model: {' and '.join(said)}.",
            PARTIAL,
            code="other_model",
        )


def _optimizer(
    file: TensorFile,
    theirs: Optimizer | None,
    kind: str,
    model: torch.nn.Module,
    order: list[str],
    fitting: Fit,
) -> dict[str, Any] | None:
    """The state for an optimizer of the same kind over the same parameters in the same order;
    None where it does not fit."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    names = [fitting.names.get(name) for name, _ in trained]
    place = {name: i for i, name in enumerate(order)}
    places = [place.get(name, -1) if name is not None else -1 for name in names]
    if theirs is None or not theirs.is_of(kind) or theirs.count != len(trained):
        return None
    if -1 in places or places != sorted(places):  # the file's parameters have another order
        return None
    stored: dict[tuple[int, str], Stored] = {}
    for number, kept in theirs.states.items():
        shape = tuple(trained[number][1].shape)
        for key, value in kept.items():
            if key == "step":
                fits = not isinstance(value, Stored) or value.shape in ((), (1,))
                fits = fits and isinstance(value, Stored | int | float)
            else:
                fits = isinstance(value, Stored) and value.shape == shape
                fits = fits and "float" in value.dtype
            if not fits:
                return None
            if isinstance(value, Stored):
                stored[number, key] = value
    read = _tensors(file, stored)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in read.values()):
        return None
    states = {
        number: {key: _kept(key, read.get((number, key), value)) for key, value in kept.items()}
        for number, kept in theirs.states.items()
    }
    return {"state": states}


def _kept(key: str, value: Any) -> Any:
    """A part of an optimizer's state; older versions of torch counted steps in plain numbers."""
    return torch.as_tensor(value, dtype=torch.float32).reshape(()) if key == "step" else value


def _tensors(file: TensorFile, stored: dict[Key, Stored]) -> dict[Key, torch.Tensor]:
    """The values of some tensors, each with memory of its own."""
    found: dict[Key, torch.Tensor] = {}
    raw: dict[str, torch.Tensor] = {}
    content = file.read({one.key for one in stored.values() if one.count})
    for name, one in stored.items():
        dtype: torch.dtype = getattr(torch, one.dtype)
        if not one.count:
            found[name] = torch.empty(one.shape, dtype=dtype)
            continue
        if one.key not in raw:
            part = bytearray(content.pop(one.key))
            if len(part) != one.count * dtype.itemsize:
                raise CorruptCheckpoint(f"{file.path.name} was cut: {name!r} is not all there.")
            raw[one.key] = torch.frombuffer(part, dtype=dtype)
        found[name] = raw[one.key].as_strided(one.shape, one.stride, one.offset).clone()
    return found


def _require_finite(values: dict[str, torch.Tensor], name: str) -> None:
    for key, tensor in values.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CorruptCheckpoint(
                f"{name} was refused: the weights {key!r} hold values that are not finite.",
                code="non_finite",
            )
