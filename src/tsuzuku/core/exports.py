"""What has been exported from the checkpoints of a run: the files in its `exports/`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tsuzuku.core.answers import ExportedFile
from tsuzuku.core.errors import NotFound
from tsuzuku.core.trees import is_tree
from tsuzuku.core.workspace import RunDir


def folder(run: RunDir) -> Path:
    return run.path / "exports"


def download_path(run: RunDir, name: str) -> str:
    """Where the API has an export."""
    return f"/api/exports/{run.run_id}/{name}"


def exported(run: RunDir) -> Iterator[ExportedFile]:
    """The exports of a run, newest first; files without a usable report are none."""
    found: list[ExportedFile] = []
    for path in folder(run).glob("*"):
        try:
            if path.is_symlink() or path.suffix in (".json", ".tmp") or not path.is_file():
                continue
            said = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
            own = {
                "name": path.name,
                "run_id": run.run_id,
                "download": download_path(run, path.name),
                "created_at": path.stat().st_mtime,
            }
            found.append(ExportedFile.model_validate((said if is_tree(said) else {}) | own))
        except (OSError, ValueError, ValidationError):
            continue
    return iter(sorted(found, key=lambda file: (file.created_at, file.name), reverse=True))


def find(run: RunDir, name: str) -> Path:
    """The path of an export by its name; raises NotFound."""
    known = {p.name: p for p in folder(run).glob("*") if p.is_file() and not p.is_symlink()}
    if name not in known or name.startswith("."):
        raise NotFound(f"There is no export {name[:80]!r} of run {run.run_id}.", "Export it first.")
    return known[name]
