"""Models become graphs that others can run, or one sentence says why not."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.training import graphs, networks, onnx_files, parity
from tsuzuku.training.plugins import Plugin, make_model

HEAD = "import torch\nfrom torch import nn\n\n\n"

TIMED = f"""\
{HEAD}EXPORT_OUTPUTS = ["scores", "counts"]


class Timed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.same = nn.Linear(8, 8, bias=False)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.same.weight
        self.register_buffer("scale", torch.full((8,), 1.7))
        self.register_buffer("huge", torch.tensor(1e6))

    def export_forward(self, x, lengths):
        mask = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        x = self.tied(torch.tanh(self.same(self.embed(x)))) * self.scale + self.huge * 0
        return (x * mask[..., None]).cumsum(1), (lengths + 1) // 2

    def export_inputs(self):
        return torch.zeros(2, 20, 3), torch.tensor([20, 15])
"""

Made = Callable[..., tuple[networks.Network, torch.nn.Module]]


@pytest.fixture
def network(tmp_path: Path) -> Made:
    """The network of a plug-in's source."""

    def make(
        source: str, name: str = "mine", settings: Any = None
    ) -> tuple[networks.Network, torch.nn.Module]:
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        plugin = Plugin(f"models/{name}.py", path)
        torch.manual_seed(0)
        model, _ = make_model(plugin, settings or {}, None)
        return networks.network_of(plugin, model.eval().requires_grad_(False)), model

    return make


def body(forward: str, inputs: str = "torch.rand(2, 6)") -> str:
    """A model whose network is a line or two."""
    return (
        f"{HEAD}class Net(nn.Module):\n"
        f"    def export_inputs(self):\n        return {inputs}\n\n"
        f"    def export_forward(self, x):\n        {forward}\n"
    )


def checked(
    network: networks.Network, kind: str, folder: Path, rounded: networks.Network | None = None
) -> dict[str, Any]:
    """The report on a graph that was written to a file."""
    program, sizes = graphs.trace(rounded or network)
    path = folder / f"x.{kind}"
    path.write_bytes(graphs.written(kind, rounded or network, program, sizes, {"名": 1}))
    return parity.compared(network, graphs.opened(kind, path), sizes, rounded)


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_a_graph_is_compared_at_many_sizes(network: Made, tmp_path: Path, kind: str) -> None:
    report = checked(network(TIMED)[0], kind, tmp_path)
    assert report["tolerance"] == 1e-4 > report["max_abs_diff"] >= 0
    assert report["axes"] == {"x": ["batch", "length", 3], "lengths": ["batch"]}
    assert report["least"] == {"length": 2}
    shapes = {tuple(case["inputs"]["x"]) for case in report["cases"]}
    assert {b for b, _, _ in shapes} >= {1, 2, 3, 5}
    assert {n for _, n, _ in shapes} >= {1, 2, 5, 11, 20, 30, 62}
    for case in report["cases"]:
        assert case["outputs"].keys() == {"scores", "counts"}
        assert all(o["max_abs_diff"] <= 1e-2 for o in case["outputs"].values())
    if kind == "onnx":
        file = onnx_files.open_onnx(tmp_path / "x.onnx")
        assert file.note == {"名": 1}
        assert (file.inputs, file.outputs) == (["x", "lengths"], ["scores", "counts"])
        named = [given.shape for given in file.session.get_inputs()]
        assert named == [["batch", "length", 3], ["batch"]]
        assert [p.name for p in tmp_path.iterdir() if p.suffix != ".py"] == ["x.onnx"]


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_half_keeps_weights_in_16_bits_and_ties(network: Made, tmp_path: Path, kind: str) -> None:
    original, model = network(TIMED)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rounded = original.rounded()
    report = checked(original, kind, tmp_path, rounded)
    assert 0 < report["rounding"]["max_diff"] < report["rounding"]["tolerance"] == 2e-2
    stored = {k: v.dtype for k, v in rounded.module.state_dict().items()}
    assert sum(d == torch.float16 for d in stored.values()) == 5
    assert [d for k, d in stored.items() if "huge" in k] == [torch.float32]  # no room in 16 bits
    parts = dict(rounded.module.named_parameters(remove_duplicate=True))
    assert len(parts) == 3, "the tied weights are one"
    after = model.state_dict()
    assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items())


def test_the_others_carry_their_note(network: Made, tmp_path: Path) -> None:
    original, _ = network(body("return {'y': x * 2}"))
    assert (original.structure, original.outputs) == ("dict", ["y"])
    for kind in ("torchscript", "pt2"):
        checked(original, kind, tmp_path)
    extra = {onnx_files.NOTE: ""}
    torch.jit.load(str(tmp_path / "x.torchscript"), _extra_files=extra)
    assert json.loads(extra[onnx_files.NOTE]) == {"名": 1}
    extra = {onnx_files.NOTE: ""}
    torch.export.load(tmp_path / "x.pt2", extra_files=extra)
    assert json.loads(extra[onnx_files.NOTE]) == {"名": 1}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (f"{HEAD}class Net(nn.Module):\n    pass\n", "has no export_inputs()"),
        (body("return x", "[]"), "has to return a tensor or a tuple"),
        (body("return x", "{'x': 3}"), "has to return a tensor or a tuple"),
        (body("return 3"), "export_forward has to return a tensor"),
        (body("return x, x").replace("\n\n\n", '\n\nEXPORT_OUTPUTS = "y"\n', 1), "are 2 and call"),
        (body("return {'x': x}"), "a name of its own, which no input has"),
    ],
)
def test_what_is_no_network_is_said(network: Made, source: str, said: str) -> None:
    with pytest.raises(WrongInput) as caught:
        network(source)
    assert said in caught.value.detail
    assert caught.value.code == "not_exportable"


def test_an_error_of_the_example_names_its_line(network: Made) -> None:
    with pytest.raises(WrongInput, match=r"models/mine\.py, line 10: no room"):
        network(body("raise ValueError('no room')"))


def test_operations_that_depend_on_values_are_said(network: Made) -> None:
    made, _ = network(body("return x[: int(x.sum())] if x.sum() > 0 else x"))
    with pytest.raises(WrongInput) as caught:
        graphs.trace(made)
    assert caught.value.code == "not_exportable"
    assert caught.value.detail.startswith("models/mine.py, line 10: it cannot be exported")
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "onnx" in name else real(name)
    )
    with pytest.raises(TsuzukuError) as caught:
        onnx_files.require_packages(*onnx_files.PACKAGES)
    assert caught.value.code == "missing_package"
    assert "onnx and onnxscript and onnxruntime, which are not installed" in caught.value.detail
    assert caught.value.hint == "pip install 'tsuzuku[export]'"


def test_weights_that_fill_an_onnx_file_are_refused(
    network: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "LARGEST", 100)
    made, _ = network(TIMED)
    program, sizes = graphs.trace(made)
    with pytest.raises(WrongInput, match="holds 2 GB") as caught:
        graphs.written("onnx", made, program, sizes, {})
    assert caught.value.code == "unsupported_format"


def test_what_is_no_onnx_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"nonsense")
    with pytest.raises(WrongInput, match="is not an ONNX file that can be run"):
        onnx_files.open_onnx(path)
