"""export, as the server starts it and as a person types it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import attempts
import pytest
import torch
from safetensors.torch import load_file
from terminal import ask, cli

from plain_plugins import TINY, make_workspace
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training import export as module
from tsuzuku.training.export import export
from tsuzuku.training.opening import load
from worker_process import worker

# its folder is full of what it prints; nobody may wait for a reader of that
CHATTY = TINY.replace("import torch\n", 'import torch\nprint("word " * 100_000)\n', 1).replace(
    'sample["x"]', 'sample["item"]["x"]'
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, RunDir, Path]:
    root = make_workspace(tmp_path_factory.mktemp("export") / "workspace")
    (root / "models" / "tiny.py").write_text(CHATTY, encoding="utf-8")
    workspace = Workspace(root)
    with Store(workspace.db) as store:
        run = attempts.straight(workspace, store, "num_epochs=1")
    return workspace, run, attempts.last(run)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_worker_writes_what_it_has_compared(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    workspace, run, checkpoint = trained
    state = load(checkpoint)["model_state_dict"]
    path = tmp_path / "out" / "重み.safetensors"
    words = ("--run", run.run_id, "--checkpoint", checkpoint, "--output", path)
    (answer,) = worker(workspace.root, "export", *words, "--format", "safetensors")
    assert answer == {
        "path": str(path),
        "size": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "safetensors",
        "half": False,
        "report": {"tensors": len(state), "max_abs_diff": 0.0},
    }
    found = load_file(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k]) for k in state)
    report = json.loads(Path(f"{path}.json").read_text("utf-8"))
    assert answer.items() <= report.items()
    assert (report["run_id"], report["epoch"]) == (run.run_id, 1)
    assert leftovers(path.parent) == ["重み.safetensors", "重み.safetensors.json"]


def test_half_precision_says_how_far_it_is_off(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    state = load(trained[2])["model_state_dict"]
    answer = export(trained[2], "safetensors", tmp_path / "half.safetensors", half=True)
    found = load_file(tmp_path / "half.safetensors")
    assert {t.dtype for t in found.values()} == {torch.float16}
    off = max((found[k].double() - state[k].double()).abs().max().item() for k in state)
    assert answer["report"]["max_abs_diff"] == off > 0


@pytest.mark.parametrize(
    ("kind", "output", "code", "said"),
    [
        ("onnx", "a.onnx", "unsupported_format", "onnx holds a model's graph, and this checkpoint"),
        ("pt2", "a.pt2", "unsupported_format", "pt2 holds a model's graph"),
        ("gguf", "a.gguf", "unsupported_format", "'gguf' is not a format"),
        ("safetensors", "a.pt", "wrong_input", "cannot be what is exported to"),
        ("safetensors", ".", "wrong_input", "cannot be what is exported to"),
    ],
)
def test_what_cannot_be_exported_is_said(
    trained: tuple[Workspace, RunDir, Path],
    tmp_path: Path,
    kind: str,
    output: str,
    code: str,
    said: str,
) -> None:
    with pytest.raises(TsuzukuError, match=said) as caught:
        export(trained[2], kind, tmp_path / output)
    assert caught.value.code == code
    assert leftovers(tmp_path) == []


def test_a_worker_answers_errors_in_one_line(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    workspace, run, checkpoint = trained
    words = ("--checkpoint", checkpoint, "--output", tmp_path / "x")
    graph = ("--run", run.run_id, *words, "--format", "pt2")
    (answer,) = worker(workspace.root, "export", *graph, code=2)
    assert answer["code"] == "not_exportable"
    assert answer["error"].startswith("models/tiny.py has no export_inputs()")
    words = (*words, "--run", "2000-01-01_00-00-00", "--format", "safetensors")
    (answer,) = worker(workspace.root, "export", *words, code=2)
    assert answer["code"] == "not_found"


def write_wrongly(change: Any) -> Any:
    """`_write`, with what reaches the disk changed, as a failing disk would."""
    right = module._write

    def write(state: Any, draft: Path, note: dict[str, str], *, half: bool) -> Path:
        return right({k: change(k, v) for k, v in state.items()}, draft, note, half=half)

    return write


@pytest.mark.parametrize(
    ("change", "half", "said"),
    [
        (lambda k, v: v + 1e-6 if k == "net.0.bias" else v, False, "has other values"),
        (lambda k, v: v + 1e-2 if k == "net.0.bias" else v, True, "further off than half"),
        (lambda k, v: v[:1] if k == "net.0.bias" else v, False, "has the shape [1]"),
        (lambda k, v: v.double(), False, "has the type torch.float64"),
        (lambda k, v: v.half(), False, "has the type torch.float16"),
        (lambda k, v: "lost" if k == "net.0.bias" else v, True, "is not in the file"),
    ],
)
def test_a_file_that_differs_is_not_left_behind(
    trained: tuple[Workspace, RunDir, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    half: bool,
    said: str,
) -> None:
    monkeypatch.setattr(module, "_write", write_wrongly(change))
    with pytest.raises(TsuzukuError) as caught:
        export(trained[2], "safetensors", tmp_path / "x.safetensors", half=half)
    assert caught.value.code == "export_differs"
    assert said in caught.value.detail
    assert leftovers(tmp_path) == []


def test_weights_of_every_kind_are_right(tmp_path: Path) -> None:
    """NaN, infinity, empty, scalar, whole, complex, tied, odd in memory; another program's file."""
    tied = torch.randn(4, 4)
    state = {
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "whole": torch.arange(10)[::2],
        "flags": torch.tensor([True, False]),
        "bf16": torch.randn(5).bfloat16(),
        "tiny": torch.tensor([1e-9, 6e-8, 65503.0, -1e-5]),
        "large": torch.tensor([1e6]),
        "double": torch.randn(5, dtype=torch.float64),
        "turned": torch.randn(3, 4).T,
        "tied": tied,
        "same": tied,
    }
    path = tmp_path / "other.pt"
    torch.save({"model_state_dict": state, "epoch": 1, "config": {}}, path)
    for half in (False, True):
        out = tmp_path / f"{half}.safetensors"
        assert export(path, "safetensors", out, half=half)["report"]["tensors"] == len(state)
        found = load_file(out)
        assert ("tied" in found) != ("same" in found)
        kinds = {"nan": torch.float32, "large": torch.float32, "whole": torch.int64}
        assert kinds.items() <= {k: t.dtype for k, t in found.items()}.items()


def test_an_altered_checkpoint_is_not_exported(
    trained: tuple[Workspace, RunDir, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "in" / "copy.pt"
    copy.parent.mkdir()
    copy.write_bytes(trained[2].read_bytes() + b"x")
    Path(f"{copy}.json").write_bytes(Path(f"{trained[2]}.json").read_bytes())
    with pytest.raises(TsuzukuError, match="cut or overwritten"):
        export(copy, "safetensors", tmp_path / "x.safetensors")
    assert leftovers(tmp_path) == ["in"]


def test_the_command_writes_where_one_stands(trained: tuple[Workspace, RunDir, Path]) -> None:
    here = trained[0].root
    said = cli(here, "export", "tiny-noise-best.pt")
    assert "4 tensors, read back and compared: the same bits" in said
    assert (here / "tiny-noise-best.safetensors").is_file()
    answer = ask(here, "export", str(trained[2]), "--half", "-o", "data/half.safetensors")
    assert Path(answer["path"]) == here / "data" / "half.safetensors"
    assert answer["half"] is True
    said = cli(here, "export", "tiny-noise-best.pt", "--format", "onnx", code=2)
    assert "models/tiny.py has no export_inputs()" in said
    assert "There is no checkpoint 'no.pt'" in cli(here, "export", "no.pt", code=2)


def test_a_model_that_prints_much_can_be_tried(trained: tuple[Workspace, RunDir, Path]) -> None:
    (answer,) = ask(trained[0].root, "predict", "tiny-noise-best.pt", "0")
    assert answer["outputs"]["text"] in ("0", "1", "2")
