"""A workspace folder and the run folders in it. Names become paths here and nowhere else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tsuzuku.core import lock
from tsuzuku.core.config_loader import Config, load
from tsuzuku.core.errors import NotFound, WrongInput
from tsuzuku.core.schemas import ACTIVE, Run
from tsuzuku.core.trees import is_tree

YOUNG = 8.0
"""Seconds within which the worker of a run that was just launched has to hold its lock."""

RUN_ID = re.compile(r"(\d{4}-\d{2}-\d{2})_(\d{2}-\d{2}-\d{2}(?:-\d+)?)")


class RunDir:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = f"{path.parent.name}_{path.name}"
        self.checkpoints = path / "checkpoints"
        self.logs = path / "logs"
        self.source = path / "source"
        self.lock = path / ".lock"
        self.identity = path / "run.json"
        self.journal = path / "logs" / "events.jsonl"
        self.worker_log = path / "logs" / "worker.log"
        self.weights = path / "model.safetensors"
        self.stop_mark = path / ".stop"
        self.data_files = path / "data_files.json.gz"
        self.imports = path / "imports"
        self.places = path / "ranks.json"

    def rank_log(self, rank: int) -> Path:
        """What one of several ranks prints."""
        return self.logs / f"rank-{rank}.log"

    def read_identity(self) -> dict[str, Any]:
        """What makes it this run (run.json); raises WrongInput if it cannot be read."""
        try:
            identity = json.loads(self.identity.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WrongInput(f"{self.identity} cannot be read: {error}.") from None
        if not is_tree(identity):
            raise WrongInput(f"{self.identity} is damaged: it holds no mapping.")
        return identity

    def worker(self) -> int | None:
        """The process id of the living worker, or None."""
        return lock.holder(self.lock)


class Workspace:
    """The folder that holds settings, plug-ins, data and outputs."""

    def __init__(self, root: Path, outputs: Path | None = None) -> None:
        self.root = root.absolute()
        self.config_path = self.root / "config.yaml"
        self.outputs = outputs.absolute() if outputs else self.root / "outputs"
        self.db = self.outputs / "tsuzuku.db"
        self.data = self.root / "data"
        self.imports = self.root / "imports"

    def config(self, overrides: dict[str, Any] | None = None) -> Config:
        if not self.config_path.exists():
            raise WrongInput(
                f"{self.root} is not a workspace: it has no config.yaml.",
                "`tsuzuku init` makes one there; `-w DIR` names another folder.",
            )
        return load(self.config_path, overrides)

    def run_dir(self, run_id: str) -> RunDir:
        """The folder of a run; raises NotFound if the id is malformed or unknown."""
        match = RUN_ID.fullmatch(run_id)
        path = self.outputs / match[1] / match[2] if match else None
        if path is None or not (path / "run.json").is_file():
            raise NotFound(f"There is no run {run_id!r}.", "`tsuzuku runs` lists them.")
        return RunDir(path)

    def names_of_checkpoints(self, run_id: str) -> frozenset[str]:
        """What is in a run's folder of checkpoints; nothing where there is no such folder.

        For thousands of runs at once, of which a RunDir each would take longer than the look.
        """
        match = RUN_ID.fullmatch(run_id)
        if match is None:
            return frozenset()
        try:
            with os.scandir(f"{self.outputs}/{match[1]}/{match[2]}/checkpoints") as entries:
                return frozenset(entry.name for entry in entries)
        except OSError:
            return frozenset()

    def run_dirs(self) -> Iterator[RunDir]:
        """Every run's folder, oldest first."""
        paths = [
            path
            for path in self.outputs.glob("????-??-??/*-*-*")
            if RUN_ID.fullmatch(f"{path.parent.name}_{path.name}") and (path / "run.json").exists()
        ]
        for path in sorted(paths, key=_begun):
            yield RunDir(path)

    def new_run_dir(self, now: datetime) -> RunDir:
        """Make the folder of a new run; two calls in one second get two folders."""
        day = self.outputs / now.strftime("%Y-%m-%d")
        day.mkdir(parents=True, exist_ok=True)
        clock = now.strftime("%H-%M-%S")
        for number in range(1, 10_000):
            path = day / (clock if number == 1 else f"{clock}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            run = RunDir(path)
            for folder in (run.checkpoints, run.logs, run.source):
                folder.mkdir()
            return run
        raise WrongInput(f"{day} has too many runs of {clock}.")

    def true_status(self, run: Run) -> Run:
        """`run` with the status that its lock proves: an active run without a worker crashed."""
        if run.status not in ACTIVE:
            return run
        try:
            alive = self.run_dir(run.run_id).worker() is not None
        except NotFound:
            alive = False
        # a run that was just created may not have its worker's lock yet
        young = run.status == "starting" and datetime.now().timestamp() - run.updated_at < YOUNG
        return run if alive or young else run.model_copy(update={"status": "crashed"})


def _begun(path: Path) -> tuple[str, list[int]]:
    """Orders run folders by time, then by the number of a second's runs (-2 before -10)."""
    return path.parent.name, [int(part) for part in path.name.split("-")]


def write_atomically(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Replace a small file so that it is the old one or the new one, whatever happens.

    Without `sync` its name is durable only after the next `sync_folder`; its content is anyway.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
