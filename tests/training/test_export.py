"""The weights that a completed run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model

from tsuzuku.core.settings import RunSettings, TrainingSettings
from tsuzuku.training.export import final_weights

SETTINGS = RunSettings(
    model_name="m", dataset_name="d", model={"名前": 3}, training=TrainingSettings()
)


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 4)
        self.out = torch.nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_weights_come_back_as_they_were_tied_ones_too(path: Path) -> None:
    model, other = Tied(), Tied()
    final_weights(model.state_dict(), path, half=False, settings=SETTINGS)
    load_model(other, str(path))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[key])
    assert other.out.weight is other.embedding.weight
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_the_file_says_what_it_is(path: Path) -> None:
    final_weights(Tied().state_dict(), path, half=False, settings=SETTINGS)
    with safe_open(str(path), "pt") as file:
        note = file.metadata()
    assert (note["model_name"], note["dataset_name"], note["format"]) == ("m", "d", "pt")
    assert json.loads(note["config"]) == {"名前": 3}


def test_half_precision_halves_the_file_and_leaves_the_model(path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(100, 100), torch.nn.BatchNorm1d(100))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    final_weights(model.state_dict(), path, half=False, settings=SETTINGS)
    whole = path.stat().st_size
    final_weights(model.state_dict(), path, half=True, settings=SETTINGS)
    assert path.stat().st_size < 0.55 * whole
    found = load_file(path)
    assert found["0.weight"].dtype == torch.float16
    assert found["1.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(found["0.weight"], before["0.weight"].half())
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == before[key].dtype
        assert torch.equal(tensor, before[key])


def test_half_precision_keeps_ties(path: Path) -> None:
    final_weights(Tied().state_dict(), path, half=True, settings=SETTINGS)
    assert sum("weight" in k for k in load_file(path)) == 2  # the tied one, and that of the norm
    load_model(Tied().half(), str(path))


def test_a_value_too_large_for_half_precision_does_not_become_infinite_silently(path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(1e6)
    try:
        final_weights(model.state_dict(), path, half=True, settings=SETTINGS)
    except Exception:
        assert not path.exists()  # refused is fine
    else:
        assert all(torch.isfinite(t).all() for t in load_file(path).values())


def test_odd_memory_is_no_problem(path: Path) -> None:
    model = torch.nn.Module()
    model.a = torch.nn.Parameter(torch.randn(3, 4).T)
    model.b = torch.nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    model.register_buffer("c", torch.arange(10)[::2])
    model.register_buffer("scalar", torch.tensor(2.5))
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    final_weights(model.state_dict(), path, half=False, settings=SETTINGS)
    found = load_file(path)
    assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_a_failure_leaves_the_old_file(path: Path) -> None:
    final_weights(torch.nn.Linear(1, 1).state_dict(), path, half=False, settings=SETTINGS)
    before = path.read_bytes()
    model = torch.nn.Module()
    model.register_buffer("meta", torch.empty(3, device="meta"))
    with pytest.raises(Exception, match=r".+"):
        final_weights(model.state_dict(), path, half=False, settings=SETTINGS)
    assert path.read_bytes() == before
