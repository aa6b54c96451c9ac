"""A graph that differs from its model at any size the model takes is found out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_graphs import Made, body, checked, network

import tsuzuku.models
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.training import graphs, parity

__all__ = ["network"]  # a fixture

FROZEN = {
    # decided by Python: true for the example's 6, and frozen there
    "by length": "return x * 2 if x.shape[1] > 4 else x * 3",
    "by batch": "return x * 2 if x.shape[0] < 4 else x * 3",
    # a single value in the example, where torch takes it for a constant
    "one": "return x + 1",
}


@pytest.mark.parametrize(
    ("why", "kind"),
    [("by length", "onnx"), ("by length", "torchscript"), ("by batch", "pt2")],
)
def test_a_decision_that_was_frozen_is_found(
    network: Made, tmp_path: Path, why: str, kind: str
) -> None:
    made, _ = network(body(FROZEN[why]))
    with pytest.raises(TsuzukuError) as caught:
        checked(made, kind, tmp_path)
    assert caught.value.code == "export_differs"
    assert "The export was given up" in caught.value.detail
    assert "frozen" in caught.value.hint


def test_a_graph_may_refuse_what_is_too_short(network: Made, tmp_path: Path) -> None:
    made, _ = network(body(FROZEN["by length"]))
    report = checked(made, "pt2", tmp_path)
    assert (report["refused"], report["least"]) == ([{"x": [2, 2]}], {"length": 5})


def test_a_condition_that_only_pt2_checks_is_no_difference(network: Made, tmp_path: Path) -> None:
    """Frames that are counted have to be 2, which is no least size of the input itself."""
    forward = "return x.cumsum(1)[:, :: 7].cumsum(1)"
    made, _ = network(body(forward, "torch.rand(2, 70)"))
    for kind in ("pt2", "torchscript"):
        report = checked(made, kind, tmp_path)
        assert len(report["cases"]) >= 8
        assert all(case["x"][1] < 0.27 * 70 for case in report["refused"])


def test_an_example_with_a_single_item_is_found(network: Made, tmp_path: Path) -> None:
    made, _ = network(body(FROZEN["one"], "torch.rand(1, 6)"))
    with pytest.raises(TsuzukuError, match="does not take inputs of") as caught:
        checked(made, "pt2", tmp_path)
    assert "at least 2 along every free axis" in caught.value.hint


def test_chance_is_refused(network: Made, tmp_path: Path) -> None:
    made, _ = network(body("return x + torch.randn_like(x)"))
    with pytest.raises(TsuzukuError, match="another one at every call") as caught:
        checked(made, "torchscript", tmp_path)
    assert caught.value.code == "not_exportable"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y + 2e-4, "is off by 0.0002"),
        (lambda y: torch.full_like(y, float("nan")), "is off by nan"),
        (lambda y: y[..., :1], "has the shape"),
    ],
)
def test_outputs_that_differ_are_said(network: Made, change: object, said: str) -> None:
    made, _ = network(body("return x.tanh()"))
    _, sizes = graphs.trace(made)
    with pytest.raises(TsuzukuError) as caught:
        parity.compared(made, lambda inputs: tuple(change(y) for y in made.run(inputs)), sizes)  # type: ignore[operator]
    assert said in caught.value.detail
    assert "'output'" in caught.value.detail


def test_weights_that_16_bits_spoil_are_said(network: Made) -> None:
    source = body("return self.far(x) - self.far.bias").replace(
        "    def export_inputs",
        "    def __init__(self):\n        super().__init__()\n"
        "        self.far = nn.Linear(6, 2)\n"
        "        self.far.bias.data.fill_(4096.4)\n\n    def export_inputs",
    )
    made, _ = network(source.replace("- self.far.bias", "- 4096.4"))
    rounded = made.rounded()
    _, sizes = graphs.trace(rounded)
    with pytest.raises(TsuzukuError, match="with weights of 16 bits") as caught:
        parity.compared(made, rounded.run, sizes, rounded)
    assert (caught.value.code, caught.value.hint) == ("export_differs", "Leave --half out.")


@given(st.integers(2, 40), st.integers(2, 7), st.data())
def test_lengths_stay_within_their_axis(length: int, batch: int, data: st.DataObject) -> None:
    """Whatever the example: numbers in its range, lengths in their axis, tokens from its own."""
    lengths = data.draw(st.lists(st.integers(1, length), min_size=batch, max_size=batch))
    lengths[0] = length
    tokens = torch.tensor([[50, 51], [99, 7]])
    example = (torch.linspace(0, 1, batch * length).reshape(batch, length), torch.tensor(lengths))
    sizes = graphs.Sizes((), {"b": 1000, "t": length}, {}, {"b": "batch", "t": "length"})
    new = data.draw(st.integers(1, 200))
    shapes = [[3, new], [3], [3, 5]]
    generator = torch.Generator().manual_seed(0)
    made = parity._noise((*example, tokens), shapes, sizes, {"b": 3, "t": new}, generator)
    assert [list(x.shape) for x in made] == shapes
    assert bool(((made[0] >= 0) & (made[0] <= 1)).all())
    assert 1 <= int(made[1].min()) <= int(made[1].max()) == new
    assert set(made[2].reshape(-1).tolist()) <= {50, 51, 99, 7}


@pytest.mark.parametrize(
    ("name", "kind"), [("vae", "onnx"), ("conformer", "torchscript"), ("koemorph", "pt2")]
)
def test_the_models_that_come_along_can_be_exported(
    network: Made, tmp_path: Path, name: str, kind: str
) -> None:
    """With weights of 16 bits; those that hear have tests of their ONNX files beside them."""
    source = Path(tsuzuku.models.__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    settings = {
        "vae": {"hidden_sizes": [32]},
        "conformer": {
            **{"vocabulary": ["", "a", "b", " "], "width": 16, "layers": 1},
            **{"heads": 2, "kernel": 5},
        },
        "koemorph": {"width": 24, "layers": 1, "fps": 30, "blendshapes": ["jawOpen", "smile"]},
    }
    made, model = network(source, name, settings[name])
    axes = {
        "vae": {"images": ["batch", 28, 28]},
        "conformer": {"audio": ["batch", "length"], "lengths": ["batch"]},
        "koemorph": {"audio": ["batch", "length"]},
    }
    report = checked(made, kind, tmp_path, made.rounded())
    assert report["axes"] == axes[name]
    assert report["max_abs_diff"] < 1e-4
    assert len(report["cases"]) >= 8
    assert not [p for p in model.parameters() if p.dtype != torch.float32]
