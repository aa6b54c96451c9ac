"""Models as graphs that run without their source: ONNX, TorchScript and PT2 (torch.export)."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree
from tsuzuku.training.networks import Network, Outputs
from tsuzuku.training.onnx_files import NOTE, open_onnx

KINDS = ("onnx", "torchscript", "pt2")
"""Formats that hold a graph."""

LARGEST = 2**31 - 2**24
"""Bytes of weights that one ONNX file can hold: protobuf ends at 2 GiB."""

Run = Callable[[Sequence[Tensor]], Outputs]

jit = cast(Any, torch.jit)  # its stubs say nothing


@dataclass(frozen=True)
class Sizes:
    """Which axes of the inputs are free, by the names of their sizes."""

    shapes: tuple[tuple[Any, ...], ...]
    """For each input: a number, a symbol or an expression of symbols for each axis."""
    examples: Mapping[Any, int]
    """The size that each symbol has in the example."""
    least: Mapping[Any, int]
    """The smallest size that torch.export has seen to."""
    names: Mapping[Any, str]
    """`batch` for the first axis of the first input; `length`, `length_2`, … for others."""

    def shape(self, number: int, sizes: Mapping[Any, int]) -> list[int]:
        """The shape of an input for sizes of the symbols."""
        return [
            size if isinstance(size, int) else int(size.subs(dict(sizes)))
            for size in self.shapes[number]
        ]

    def named(self, text: str) -> str:
        """An expression of symbols, with their names."""
        for symbol, name in self.names.items():
            text = re.sub(rf"\b{re.escape(str(symbol))}\b", name, text)
        return text


def trace(network: Network) -> tuple[Any, Sizes]:
    """The network as an exported program, in which every axis that can be free is.

    Raises WrongInput (`not_exportable`) for a model whose operations depend on its values.
    """
    automatic = torch.export.Dim.AUTO  # pyright: ignore[reportAttributeAccessIssue]
    free = (tuple(dict.fromkeys(range(x.dim()), automatic) for x in network.example),)
    with _quiet():
        program = _made(
            network,
            lambda: torch.export.export(
                network.module, network.example, dynamic_shapes=free, strict=False
            ),
        )
    return program, _sizes(program, network.example)


def written(kind: str, network: Network, program: Any, sizes: Sizes, note: Tree) -> bytes:
    """The content of a file of that kind, with `note` in it.

    Raises WrongInput: `not_exportable` for what the format cannot express, `unsupported_format`
    for what it cannot hold.
    """
    text = json.dumps(note, ensure_ascii=False, default=str)
    with _quiet():
        if kind == "onnx":
            return _made(network, lambda: _onnx(network, program, sizes, text))
        if kind == "torchscript":
            return _made(network, lambda: _torchscript(network, text))
        return _made(network, lambda: _pt2(program, text))


def opened(kind: str, path: Path) -> Run:
    """What a file computes, read from the disk as others will read it."""
    if kind == "onnx":
        return open_onnx(path).run
    made: Any
    with _quiet():
        if kind == "torchscript":
            made = jit.load(str(path), map_location="cpu")
        else:
            made = cast(Any, torch.export.load(path)).module()

    def run(inputs: Sequence[Tensor]) -> Outputs:
        with _quiet():
            return tuple(made(*inputs))

    return run


def _torchscript(network: Network, note: str) -> bytes:
    content = io.BytesIO()
    made: Any = jit.trace(network.module, network.example, check_trace=False)
    jit.save(made, content, _extra_files={NOTE: note})
    return content.getvalue()


def _pt2(program: Any, note: str) -> bytes:
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={NOTE: note})
    return content.getvalue()


def _onnx(network: Network, program: Any, sizes: Sizes, note: str) -> bytes:
    weights = sum(t.nbytes for t in network.module.state_dict().values())
    if weights > LARGEST:
        raise WrongInput(
            f"An ONNX file holds 2 GB, and the weights have {weights / 1e9:.1f} GB.",
            "Use --half, --format pt2 or --format safetensors.",
            code="unsupported_format",
        )
    exported: Any = cast(Any, torch.onnx).export(
        program,
        network.example,
        dynamo=True,
        verbose=False,
        input_names=network.inputs,
        output_names=network.outputs,
    )
    model = exported.model_proto
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param.isdecimal():
                axis.dim_value = int(axis.dim_param)
            elif axis.dim_param:
                axis.dim_param = sizes.named(axis.dim_param)
    model.metadata_props.add(key=NOTE, value=note)
    return model.SerializeToString()


def _sizes(program: Any, example: Sequence[Tensor]) -> Sizes:
    given = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in given]
    shapes = tuple(tuple(map(_size, node.meta["val"].shape)) for node in nodes)
    examples: dict[Any, int] = {}
    for shape, tensor in zip(shapes, example, strict=True):
        for size, now in zip(shape, tensor.shape, strict=True):
            if not isinstance(size, int) and size.is_Symbol:
                examples.setdefault(size, now)
    least = {s: int(program.range_constraints[s].lower) for s in examples}
    first = shapes[0][0] if shapes[0] else None
    others = [symbol for symbol in examples if symbol != first]
    names = {s: "length" if n == 1 else f"length_{n}" for n, s in enumerate(others, 1)}
    return Sizes(shapes, examples, least, {s: names.get(s, "batch") for s in examples})


def _size(size: Any) -> Any:
    """A number where torch.export has made one of it, else its symbol or expression."""
    expression: Any = getattr(getattr(size, "node", None), "expr", size)
    return int(expression) if getattr(expression, "is_number", True) else expression


def _made(network: Network, make: Callable[[], Any]) -> Any:
    """What `make` makes; whatever torch has to say against it becomes one sentence."""
    try:
        return make()
    except TsuzukuError:
        raise
    except Exception as error:
        plugin = network.plugin
        said = re.split(r"(?<=[.!])\s|\n", str(error).strip(), maxsplit=1)[0][:300]
        raise WrongInput(
            f"{plugin.where(error)}: it cannot be exported: {type(error).__name__}: {said}",
            "What is computed must not depend on the values of tensors (if, for, .item(), lists); "
            "torch.where and masks can say the same.",
            code="not_exportable",
        ) from error


@contextmanager
def _quiet() -> Any:
    """Keep what torch says of itself (deprecations, missing extras) away from people."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
