"""ONNX files: opening them, and letting one take the place of a model's network."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.training.networks import Outputs
from tsuzuku.training.plugins import sentence

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What ONNX is written and compared with: the extra `export`."""

NOTE = "tsuzuku"
"""The key under which a file says what it is, as JSON."""


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
