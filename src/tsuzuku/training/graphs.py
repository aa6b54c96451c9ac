"""Models as graphs that run without their source: ONNX, TorchScript and PT2 (torch.export)."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import inspect
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
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree, is_list, is_tree
from tsuzuku.training.plugins import Plugin, guarded, sentence

KINDS = ("onnx", "torchscript", "pt2")
"""Formats that hold a graph."""

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What ONNX is written and compared with: the extra `export`."""

NOTE = "tsuzuku"
"""The key under which a file says what it is, as JSON."""

LARGEST = 2**31 - 2**24
"""Bytes of weights that one ONNX file can hold: protobuf ends at 2 GiB."""

Outputs = tuple[Tensor, ...]
Run = Callable[[Sequence[Tensor]], Outputs]

jit = cast(Any, torch.jit)  # its stubs say nothing

_DOCS = "docs/plugins.md says what a model needs for it."


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

    Raises WrongInput: `not_exportable` for what the format cannot express, `too_large`.
    """
    text = json.dumps(note, ensure_ascii=False, default=str)
    content = io.BytesIO()
    with _quiet():
        if kind == "onnx":
            return _made(network, lambda: _onnx(network, program, sizes, text))
        if kind == "torchscript":
            tracing = cast(Any, torch.jit).trace  # its stubs say nothing
            made = _made(
                network, lambda: tracing(network.module, network.example, check_trace=False)
            )
            jit.save(made, content, _extra_files={NOTE: text})
        else:
            torch.export.save(program, content, extra_files={NOTE: text})
    return content.getvalue()


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


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that is ready to run on this processor."""

    session: Any
    note: Tree
    """What Tsuzuku has written of it; empty for others' files."""

    @property
    def inputs(self) -> list[str]:
        return [given.name for given in self.session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        return [made.name for made in self.session.get_outputs()]

    def run(self, inputs: Sequence[Tensor]) -> Outputs:
        """Its outputs for tensors in the order of its inputs."""
        arrays = [tensor.detach().cpu().numpy() for tensor in inputs]
        found = self.session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        return tuple(torch.as_tensor(array) for array in found)


class StandIn:
    """Takes the place of a model's `export_forward`: the same arguments, the same outputs."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.calls = 0

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls += 1
        found = self.file.run(inputs)
        match self.file.note.get("structure"):
            case "dict":
                return dict(zip(self.file.outputs, found, strict=True))
            case "tensor":
                return found[0]
            case _:
                return found


def open_onnx(path: Path) -> OnnxFile:
    """Open an ONNX file. Raises WrongInput if it is none, TsuzukuError (`missing_package`)."""
    require_packages("onnxruntime")
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WrongInput(f"{path} is not an ONNX file that can be run: {sentence(error)}") from None
    try:
        note = json.loads(session.get_modelmeta().custom_metadata_map.get(NOTE, "{}"))
    except ValueError:
        note = {}
    return OnnxFile(session, note if is_tree(note) else {})


def require_packages(*names: str) -> None:
    """Raise TsuzukuError (`missing_package`) unless they are installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise TsuzukuError(
            f"ONNX needs {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed.",
            "pip install 'tsuzuku[export]'",
            code="missing_package",
        )


def _onnx(network: Network, program: Any, sizes: Sizes, note: str) -> bytes:
    weights = sum(t.nbytes for t in network.module.state_dict().values())
    if weights > LARGEST:
        raise WrongInput(
            f"An ONNX file holds 2 GB, and the weights have {weights / 1e9:.1f} GB.",
            "Use --half, --format pt2 or --format safetensors.",
            code="too_large",
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


def _fits_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(torch.isfinite(tensor.detach().half()).all())


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
