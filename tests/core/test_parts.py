"""The folder of a checkpoint's parts: what is listed, shared, and left over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.errors import Busy, CorruptCheckpoint
from tsuzuku.core.workspace import RunDir

ONE = {"name": "one.safetensors", "size": 3, "sha256": "x"}


def folder(path: Path, *names: str) -> Path:
    made = parts.folder_of(path)
    made.mkdir(parents=True)
    for name in names:
        (made / name).write_bytes(b"abc")
    return made


def test_what_a_sidecar_lists() -> None:
    (part,) = parts.listed({"parts": [ONE]})
    assert (part.name, part.size) == ("one.safetensors", 3)
    assert parts.table([part]) == [ONE]
    assert parts.listed({}) == []
    assert parts.file_size({"size": 10, "parts": [ONE]}) == 7


@pytest.mark.parametrize(
    "table",
    [
        *(5, {}, "all", [5], [{}], [{**ONE, "size": "3"}], [{**ONE, "sha256": None}]),
        *([{**ONE, "name": name}] for name in ("../a.pt", "/etc/passwd", ".hidden", "", 5)),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(table: Any) -> None:
    with pytest.raises(CorruptCheckpoint, match="makes no sense"):
        parts.listed({"parts": table})


def test_a_link_has_the_parts_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "latest.pt").symlink_to("a.pt")
    assert parts.folder_of(tmp_path / "latest.pt").name == "a.pt.parts"


@pytest.mark.parametrize("links", [True, False])
def test_what_is_shared_outlives_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    folder(tmp_path / "a.pt", ONE["name"])
    if not links:

        def refused(*_: object, **__: object) -> None:
            raise OSError("no hard links here")

        monkeypatch.setattr(os, "link", refused)
    for _ in range(2):
        parts.share(tmp_path / "a.pt", tmp_path / "b.pt", {"parts": [ONE]})
    shared = tmp_path / "b.pt.parts" / ONE["name"]
    assert shared.samefile(tmp_path / "a.pt.parts" / ONE["name"]) == links
    parts.remove(tmp_path / "a.pt")
    assert shared.read_bytes() == b"abc"
    assert [p.name for p in shared.parent.iterdir()] == [ONE["name"]]


def test_what_nothing_lists_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    folder(path, ONE["name"], "other.safetensors", parts.DRAFT)
    removed = parts.tidy(path, {"parts": [ONE]})
    assert sorted(removed) == ["a.pt.parts/.gathered.tmp", "a.pt.parts/other.safetensors"]
    assert parts.tidy(path, {"parts": [ONE]}) == []
    with parts.gathered_alone(path):
        assert parts.tidy(path, {}) == []
        with pytest.raises(Busy, match=r"a\.pt is being gathered"), parts.gathered_alone(path):
            pass
    assert parts.tidy(path, {}) == ["a.pt.parts"]
    assert not parts.folder_of(path).exists()


def test_parts_without_a_checkpoint_are_swept(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    folder(run.checkpoints / "gone.pt", ONE["name"])
    (run.checkpoints / ".a.pt.parts.tmp").mkdir()
    (run.checkpoints / ".a.pt.parts.tmp" / "half").write_bytes(b"x")
    assert sorted(checkpoint_files.sweep(run)) == [".a.pt.parts.tmp", "gone.pt.parts"]
    assert list(run.checkpoints.iterdir()) == []
