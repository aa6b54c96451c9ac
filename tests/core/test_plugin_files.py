"""Plug-ins are found by their file names, and asked without being run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.plugin_files import BUILTIN, PluginFile, find, found
from tsuzuku.core.workspace import Workspace


def plugin_of(folder: Path, source: str | bytes) -> PluginFile:
    path = folder / "mine.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return PluginFile("models", "mine", path, builtin=False)


def test_plug_ins_of_the_workspace_stand_beside_the_built_in_ones(workspace: Workspace) -> None:
    models, datasets = found("models", workspace.root), found("datasets", workspace.root)
    assert (models["tiny"].builtin, datasets["noise"].builtin) == (False, False)
    assert models["tiny"].path == workspace.root / "models" / "tiny.py"
    assert models["tiny"].label == "models/tiny.py"
    assert models["vae"].builtin
    assert datasets["mnist"].path == BUILTIN / "datasets" / "mnist.py"


def test_a_file_of_the_workspace_shadows_the_built_in_one(workspace: Workspace) -> None:
    mine = workspace.root / "models" / "vae.py"
    mine.write_text("x = 1\n", encoding="utf-8")
    assert find("models", "vae", workspace.root) == PluginFile("models", "vae", mine, builtin=False)
    mine.unlink()
    assert find("models", "vae", workspace.root).builtin


def test_what_is_no_plug_in_is_not_found(workspace: Workspace) -> None:
    folder = workspace.root / "models"
    for name in ("__init__.py", "_hidden.py", ".swap.py", "a b.py", "x.txt", "x.py~", "é.py"):
        (folder / name).write_text("", encoding="utf-8")
    (folder / "folder.py").mkdir()
    (folder / "broken.py").symlink_to("nowhere.py")
    mine = {n for n, p in found("models", workspace.root).items() if not p.builtin}
    assert mine == {"tiny"}
    assert "__init__" not in found("models", workspace.root)


def test_a_workspace_without_plug_ins_has_the_built_in_ones(tmp_path: Path) -> None:
    assert "vae" in found("models", tmp_path)
    assert all(p.builtin for p in found("models", tmp_path).values())


@pytest.mark.parametrize("name", ["../models/tiny", "tiny.py", "/etc/passwd", "", "tiny\n"])
def test_a_name_never_becomes_another_path(workspace: Workspace, name: str) -> None:
    with pytest.raises(WrongInput, match="There is no model"):
        find("models", name, workspace.root)


def test_an_unknown_name_gets_a_suggestion(workspace: Workspace) -> None:
    with pytest.raises(WrongInput, match=r"no model 'tinny'; did you mean tiny\?") as caught:
        find("models", "tinny", workspace.root)
    assert caught.value.code == "unknown_model"
    with pytest.raises(WrongInput, match=r"no data set 'zzz'; there are: .*noise") as caught:
        find("datasets", "zzz", workspace.root)
    assert caught.value.code == "unknown_dataset"


def test_only_what_is_available_is_offered(workspace: Workspace) -> None:
    assert find("models", "tiny", workspace.root, ["tiny"]).name == "tiny"
    with pytest.raises(WrongInput, match="not among available_models") as caught:
        find("models", "vae", workspace.root, ["tiny"])
    assert caught.value.hint == "There are: tiny."
    with pytest.raises(WrongInput, match="There is no model 'nope'; there are: tiny"):
        find("models", "nope", workspace.root, ["tiny", "nope"])


def test_a_constant_is_read_from_the_source(tmp_path: Path) -> None:
    source = 'TRAINING = {"a": [1, 2.5, None], "b": (True, "x")}\nB: dict = {"c": -1}\nC = D = 3\n'
    plugin = plugin_of(tmp_path, source)
    assert plugin.literal("TRAINING") == {"a": [1, 2.5, None], "b": (True, "x")}
    assert plugin.literal("B") == {"c": -1}
    assert (plugin.literal("C"), plugin.literal("D")) == (3, 3)
    assert plugin.literal("E") is None


@pytest.mark.parametrize(
    "source",
    [
        "TRAINING = {'a': f()}\n",
        "TRAINING = dict(a=1)\n",
        "TRAINING = {[]: 1}\n",
        "TRAINING = {**x}\n",
        "TRAINING = f'{1}'\n",
        "TRAINING: dict\n",
        "def TRAINING(): pass\n",
        "class A:\n    TRAINING = 1\n",
        "TRAINING = (\n",
        "TRAINING = '\x00'\n",
        "TRAINING = " + "-" * 5000 + "1\n",
        b"TRAINING = '\xff'\n",
        b"# coding: nonsense\nTRAINING = 1\n",
        b"",
    ],
)
def test_a_constant_that_is_no_literal_is_none(tmp_path: Path, source: str | bytes) -> None:
    assert plugin_of(tmp_path, source).literal("TRAINING") is None


def test_asking_for_a_constant_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    call = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    plugin = plugin_of(tmp_path, f"{call}\nTRAINING = [{call}]\nOTHER = 1\n")
    assert plugin.literal("TRAINING") is None
    assert plugin.literal("OTHER") == 1
    assert not mark.exists()


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    assert plugin_of(tmp_path, b"x = 1\r\n").sha256() == hashlib.sha256(b"x = 1\r\n").hexdigest()
