"""Exports over HTTP: made, listed, fetched, and tried beside their checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import ask, cli

from plain_plugins import EXPORTABLE, make_workspace
from servers import Served, serving
from tsuzuku.client import Client
from tsuzuku.core.answers import Exported
from tsuzuku.core.errors import NotFound, WrongInput

NAME = "tiny-noise-best.pt"
HOSTILE = "return self.net(x) if x.sum() > 3 else self.net(x) + 1"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With one completed run of a model that can be exported."""
    root = make_workspace(tmp_path_factory.mktemp("exports") / "workspace")
    (root / "models" / "tiny.py").write_text(EXPORTABLE, encoding="utf-8")
    with serving(root, "--no-dashboard") as one:
        with Client(one.url) as client:
            started = client.start("tiny", "noise", epochs=1)
            assert [e.payload for e in client.follow(started.run_id)][-1]["status"] == "completed"
        yield one


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with Client(served.url) as one:
        yield one


@pytest.fixture(scope="module")
def run_id(client: Client) -> str:
    return client.runs().runs[0].run_id


@pytest.fixture(scope="module")
def onnx(client: Client, run_id: str) -> Exported:
    return client.export(run_id, NAME, "onnx", half=True)


def test_an_export_says_what_it_was_compared_with(onnx: Exported) -> None:
    report = onnx.report
    assert (onnx.format, onnx.half) == ("onnx", True)
    assert report["max_abs_diff"] <= report["tolerance"]
    assert report["rounding"]["max_diff"] <= report["rounding"]["tolerance"]
    assert report["axes"] == {"x": ["batch", 6]}
    assert len(report["cases"]) >= 6


def test_exports_are_listed_and_fetched(
    client: Client, onnx: Exported, run_id: str, tmp_path: Path
) -> None:
    folder = Path(onnx.path).parent
    (folder / "stray.onnx").write_bytes(b"without a report")
    (file,) = client.exports(run_id).exports
    assert client.exports().exports == [file]
    assert (file.run_id, file.model_name, file.sha256) == (run_id, "tiny", onnx.sha256)
    assert file.checkpoint.startswith("tiny-noise-")
    assert (file.name, file.report) == (Path(onnx.path).name, onnx.report)
    saved = client.download_export(file, tmp_path / "m.onnx")
    assert saved.stat().st_size == file.size
    with pytest.raises(NotFound):
        client.exports("2000-01-01_00-00-00")


def test_an_export_is_tried_beside_its_checkpoint(
    client: Client, served: Served, onnx: Exported, run_id: str, tmp_path: Path
) -> None:
    name = Path(onnx.path).name
    one = client.infer(sample=1, run_id=run_id, checkpoint=NAME)
    other = client.infer(sample=1, run_id=run_id, export=name)
    assert (one.export, other.export) == (None, name)
    assert other.checkpoint == client.exports(run_id).exports[0].checkpoint
    (expected,), (found,) = one.outputs["logits"].value, other.outputs["logits"].value
    assert found == pytest.approx(expected, abs=2e-2)
    assert found != expected, "weights of 16 bits are others"
    assert client.infer(sample=2, run_id=run_id, export=name).warm
    (answer,) = ask(tmp_path, "--server", served.url, "predict", f"{run_id}/{name}", 1)
    assert Path(answer["outputs"]["logits"]).is_file()


def test_what_cannot_be_tried_is_said(client: Client, onnx: Exported, run_id: str) -> None:
    name = Path(onnx.path).name
    (Path(onnx.path).parent / "stray.onnx").write_bytes(b"no graph")
    for wrong, said in (
        ({"export": name}, "named by itself and its run"),
        ({"export": name, "run_id": run_id, "checkpoint": NAME}, "named by itself and its run"),
        ({"export": f"{name}.json", "run_id": run_id}, "cannot be tried here"),
        ({"export": "../run.json", "run_id": run_id}, "There is no export"),
        ({"export": "stray.onnx", "run_id": run_id}, "is not an ONNX file that can be run"),
    ):
        with pytest.raises(WrongInput, match=said):
            client.infer(sample=0, **wrong)


def test_a_model_that_cannot_be_exported_leaves_nothing(
    served: Served, client: Client, run_id: str, tmp_path: Path
) -> None:
    """Its source is the run's own."""
    source = Path(client.checkpoint(run_id, NAME).path).parent.parent / "source/models/tiny.py"
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("return self.net(x)", HOSTILE), encoding="utf-8")
    try:
        words = ("--server", served.url, "export", NAME, "--format", "pt2")
        said = " ".join(cli(tmp_path, *words, code=2).split())
        assert "models/tiny.py, line 18: it cannot be exported" in said
    finally:
        source.write_text(text, encoding="utf-8")
    assert not list(source.parent.parent.parent.glob("exports/*pt2*"))
    assert not list(tmp_path.iterdir())
