"""What a model says of how it is exported: its network, as a module of tensors."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.training.plugins import Plugin, guarded

Outputs = tuple[Tensor, ...]

_DOCS = "docs/plugins.md says what a model needs for it."


@dataclass(frozen=True)
class Network:
    """What a graph is made of: a model's `export_forward`, as a module of tensors."""

    plugin: Plugin
    module: nn.Module
    """Takes tensors and returns a tuple of them."""
    example: tuple[Tensor, ...]
    inputs: list[str]
    outputs: list[str]
    structure: str
    """How `export_forward` returns its outputs: `tensor`, `list` or `dict`."""

    def run(self, inputs: Sequence[Tensor]) -> Outputs:
        """The model's own outputs."""
        with torch.no_grad():
            return cast(Outputs, self.module(*inputs))

    def rounded(self) -> Network:
        """A copy that keeps its weights in 16 bits and computes with them in 32."""
        module = copy.deepcopy(self.module)
        for part in list(module.modules()):
            kept = set(part.state_dict(keep_vars=True))
            named = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
            for name, tensor in named:
                if name in kept and _fits_half(tensor):
                    tensor.data = tensor.data.half()
                    parametrize.register_parametrization(part, name, _Widened(), unsafe=True)
        return dataclasses.replace(self, module=module.eval().requires_grad_(False))


class _Graph(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Outputs:
        return tuple(flat(_forward(self.model)(*inputs)))


class _Widened(nn.Module):
    def forward(self, stored: Tensor) -> Tensor:
        return stored.float()


def network_of(plugin: Plugin, model: nn.Module) -> Network:
    """The network of a model in evaluation mode on the CPU.

    Raises WrongInput (`not_exportable`) where the model does not say how it is exported.
    """
    example = _example(plugin, model)
    with torch.no_grad():
        result: Any = guarded(plugin, lambda: _forward(model)(*example))
    structure = "dict" if is_tree(result) else "list" if is_list(result) else "tensor"
    inputs = _input_names(model, len(example))
    outputs = _output_names(plugin, result, inputs)
    return Network(plugin, _Graph(model).eval(), example, inputs, outputs, structure)


def flat(result: Any) -> list[Any]:
    """The outputs of a network one by one."""
    if is_tree(result):
        return list(result.values())
    return list(result) if is_list(result) else [result]


def _forward(model: Any) -> Callable[..., Any]:
    return getattr(model, "export_forward", None) or model


def _example(plugin: Plugin, model: Any) -> tuple[Tensor, ...]:
    made: Any = getattr(model, "export_inputs", None)
    if made is None:
        raise WrongInput(
            f"{plugin.label} has no export_inputs(), which an exported graph needs.",
            f"Use --format safetensors; {_DOCS}",
            code="not_exportable",
        )
    found = guarded(plugin, made)
    inputs = flat(found)
    if not inputs or not all(isinstance(x, Tensor) for x in inputs):
        raise WrongInput(
            f"{plugin.label}: export_inputs() has to return a tensor or a tuple of tensors.",
            _DOCS,
            code="not_exportable",
        )
    return tuple(x.detach().cpu() for x in inputs)


def _input_names(model: Any, count: int) -> list[str]:
    named = [
        name
        for name, parameter in inspect.signature(
            getattr(model, "export_forward", None) or model.forward
        ).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return named[:count] + [f"input_{number}" for number in range(len(named), count)]


def _output_names(plugin: Plugin, result: Any, inputs: list[str]) -> list[str]:
    """The keys of a dict, the constant `EXPORT_OUTPUTS`, or `output`, `output_2`, …"""
    outputs = flat(result)
    if not outputs or not all(isinstance(x, Tensor) for x in outputs):
        raise WrongInput(
            f"{plugin.label}: export_forward has to return a tensor, or a tuple or dict of them.",
            _DOCS,
            code="not_exportable",
        )
    said: Any = getattr(plugin.module, "EXPORT_OUTPUTS", None)
    if is_tree(result):
        names = [str(key) for key in result]
    elif said is None:
        names = ["output", *(f"output_{number}" for number in range(2, len(outputs) + 1))]
    else:
        names = [str(name) for name in flat(said)]
    if len(set(names)) != len(outputs) or set(names) & set(inputs):
        raise WrongInput(
            f"{plugin.label}: the outputs of export_forward are {len(outputs)} and called "
            f"{', '.join(names)}; each needs a name of its own, which no input has.",
            f"EXPORT_OUTPUTS has their names; {_DOCS}",
            code="not_exportable",
        )
    return names


def _fits_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(torch.isfinite(tensor.detach().half()).all())
