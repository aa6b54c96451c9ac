"""What a model's forward and validate return: the loss in it, and metrics of a validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch

from tsuzuku.training.plugins import PluginError


class Averages:
    """Means over the samples of a validation.

    A number counts once for each sample of its batch; a pair (numerator, denominator) is added up
    on both sides, as word error rates have to be. What is no mean at all, such as a correlation,
    is made of sums: a model with `summarize` gets the sum over all batches of each tensor of
    several numbers, and answers with metrics.
    """

    def __init__(self, model: Any = None) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._summarize: Any = getattr(model, "summarize", None)
        self._tensors: dict[str, torch.Tensor] = {}

    def add(self, result: Any, samples: int, model_name: str) -> None:
        if isinstance(result, torch.Tensor) and result.numel() == 1:
            result = {"loss": result}
        if not isinstance(result, Mapping):
            raise PluginError(
                f"models/{model_name}.py: validate has to return a dict of numbers; "
                f"it returned {type(result).__name__}."
            )
        for key, value in cast("Mapping[str, Any]", result).items():
            over, under = self._sums.get(key, (0.0, 0.0))
            if isinstance(value, tuple | list):
                top, bottom = (float(part) for part in cast("tuple[Any, Any]", value))
                self._sums[key] = (over + top, under + bottom)
            elif isinstance(value, int | float) or getattr(value, "numel", lambda: 0)() == 1:
                self._sums[key] = (over + float(value) * samples, under + samples)
            elif self._summarize is not None and isinstance(value, torch.Tensor):
                value = value.detach()
                self._tensors[key] = self._tensors[key] + value if key in self._tensors else value

    def means(self) -> dict[str, float]:
        """By name, with the model's `loss` as `val_loss`, and what the model makes of its sums."""
        named = {"val_loss" if k == "loss" else k: v for k, v in self._sums.items()}
        means = {k: over / under if under else math.nan for k, (over, under) in named.items()}
        if self._tensors:
            made = cast("Mapping[str, Any]", self._summarize(self._tensors))
            means |= {key: float(value) for key, value in made.items()}
        return means


def loss_and_metrics(result: Any, model_name: str) -> tuple[torch.Tensor, Mapping[str, Any]]:
    """Split what a model's forward returned; raises PluginError unless there is a loss in it."""
    loss = cast("Mapping[str, Any]", result).get("loss") if isinstance(result, Mapping) else None
    if not isinstance(loss, torch.Tensor):
        raise PluginError(what_forward_gave(result, model_name))
    extra = {
        key: value
        for key, value in cast("Mapping[str, Any]", result).items()
        if key != "loss"
        and (isinstance(value, int | float) or getattr(value, "numel", lambda: 0)() == 1)
    }
    return loss, extra


def what_forward_gave(result: Any, model_name: str) -> str:
    """One sentence on why a result of forward is no loss."""
    label = f"models/{model_name}.py"
    if isinstance(result, torch.Tensor):
        if result.numel() == 1:
            return f"{label}: the loss that forward returned depends on no parameter."
        given = f"a tensor of shape {list(result.shape)}"
    elif isinstance(result, Mapping):
        given = f"a dict with {', '.join(map(str, cast('Mapping[Any, Any]', result)))}"
    else:
        given = type(result).__name__
    return (
        f"{label}: forward has to return the scalar loss, or a dict with it; it returned {given}."
    )
