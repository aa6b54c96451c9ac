"""Exports of trained runs as commands make them, and ONNX files that answer as checkpoints do."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import attempts
import numpy as np
import pytest
import torch
from terminal import ask, cli

from plain_plugins import EXPORTABLE, make_workspace
from tsuzuku.core import checkpoint_files
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.export import export
from tsuzuku.worker.use import open_trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, RunDir, Path]:
    """A run of a model that can be exported, and its ONNX file."""
    root = make_workspace(tmp_path_factory.mktemp("exported") / "workspace")
    (root / "models" / "tiny.py").write_text(EXPORTABLE, encoding="utf-8")
    (root / "x.txt").write_text("0.1 0.2 0.3 -1 2 3")
    workspace = Workspace(root)
    with Store(workspace.db) as store:
        run = attempts.straight(workspace, store, "num_epochs=1")
    said = cli(root, "export", "tiny-noise-best.pt", "--format", "onnx", "-o", "m.onnx")
    assert " cases: off by " in said
    assert "allowed: 0.0001" in said
    return workspace, run, root / "m.onnx"


def predicted(workspace: Workspace, what: object, *given: object) -> list[Any]:
    """The curves that were written for inputs."""
    answers = ask(workspace.root, "predict", what, *given, "-o", "made")
    return [np.load(answer["outputs"]["logits"]) for answer in answers]


def test_the_report_lies_beside_the_file(trained: tuple[Workspace, RunDir, Path]) -> None:
    report = json.loads(Path(f"{trained[2]}.json").read_text())
    assert report["run_id"] == trained[1].run_id
    assert (report["format"], report["half"], report["model_name"]) == ("onnx", False, "tiny")
    assert report["report"]["axes"] == {"x": ["batch", 6]}
    assert report["report"]["max_abs_diff"] <= report["report"]["tolerance"]
    assert "config" not in report


def test_an_onnx_file_answers_as_its_checkpoint(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    """Wherever the file is, on files and on samples."""
    workspace, _, onnx = trained
    other = shutil.copy(onnx, tmp_path / "other.onnx")
    (workspace.root / "prior.txt").write_text("prior")
    (workspace.root / "aside.txt").write_text("aside")
    given = (workspace.root / "x.txt", 1, workspace.root / "prior.txt")
    expected = predicted(workspace, "tiny-noise-best.pt", *given)
    np.testing.assert_allclose(predicted(workspace, other, *given), expected, atol=1e-5)
    said = cli(workspace.root, "predict", other, "aside.txt", code=2)
    assert "models/tiny.py: inference does not call export_forward" in said


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_the_other_graphs_are_files_of_torch(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path, kind: str
) -> None:
    workspace, run, _ = trained
    out = tmp_path / f"m.{kind}"
    answer = ask(
        workspace.root, "export", str(attempts.last(run)), "--format", kind, "--half", "-o", out
    )
    assert answer["report"]["rounding"]["max_diff"] < 2e-2
    x = torch.zeros(3, 6)
    made: Any = (
        torch.jit.load(str(out)) if kind == "torchscript" else torch.export.load(out).module()
    )
    assert made(x)[0].shape == (3, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [out.name, f"{out.name}.json"]


def test_what_cannot_be_written_leaves_nothing(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    """Neither where there is no room, nor where what was written cannot be read."""
    workspace, run, _ = trained
    found = checkpoint_files.read(attempts.last(run))
    made = open_trained(workspace, run, found)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(TsuzukuError) as caught:
            export(
                found.path,
                "torchscript",
                tmp_path / "x.torchscript",
                opening=lambda: (made.plugin, made.model),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "write_failed"
    assert list(tmp_path.iterdir()) == []


def test_without_its_source_it_takes_arrays(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    away = Workspace(make_workspace(tmp_path / "away"))
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    one, other = predicted(away, trained[2], tmp_path / "x.npy", tmp_path / "x.npz")
    assert one.shape == (2, 3)
    np.testing.assert_array_equal(one, other)
    np.savez(tmp_path / "y.npz", y=x)
    for given, said in (
        ("x.txt", "its model's source is not here"),
        ("y.npz", "has no array 'x', which m.onnx takes"),
        ("gone.npy", "m.onnx cannot use"),
    ):
        text = cli(away.root, "predict", str(trained[2]), str(tmp_path / given), code=2)
        assert said in " ".join(text.split())
        assert "Traceback" not in text


def test_without_its_checkpoint_the_graph_still_answers(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    """But nothing is computed with weights that are not there."""
    root = tmp_path / "copy"
    shutil.copytree(trained[0].root, root)
    copy = Workspace(root)
    expected = predicted(trained[0], trained[2], 1)
    for path in root.glob("outputs/*/*/checkpoints/*"):
        if path.is_symlink() or path.suffix == ".pt":
            checkpoint_files.remove(path)
    np.testing.assert_array_equal(predicted(copy, root / "m.onnx", 1), expected)
    (root / "prior.txt").write_text("prior")
    said = " ".join(cli(root, "predict", "m.onnx", "prior.txt", code=2).split())
    assert "uses weights outside export_forward" in said
    assert "is gone" in said
