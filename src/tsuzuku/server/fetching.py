"""Downloads of data sets: each is a worker of its own that tells its progress as events."""

from __future__ import annotations

import json
import subprocess
import threading

from tsuzuku.core.asking import workspace_words
from tsuzuku.core.config_loader import suggest
from tsuzuku.core.downloadable import downloads, target_of
from tsuzuku.core.errors import Busy, NotFound, full_stop
from tsuzuku.core.launch import worker_command, worker_environment
from tsuzuku.core.workspace import Workspace


class Fetching:
    """Starts downloads; like trainings, they outlive the server."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Raises NotFound where no download of that name is known, Busy if it is under way."""
        known = downloads(self.workspace)
        if name not in known:
            raise NotFound(
                full_stop(f"No download is known for {name!r}{suggest(name, sorted(known))}"),
                code="unknown_dataset",
            )
        with self._lock:
            if name in self.running():
                raise Busy(f"{name} is being downloaded already.", code="already_running")
            words = [*workspace_words(self.workspace), "fetch", "--name", name, "--tell"]
            words += ["--spec", json.dumps(known[name])]
            words += ["--target", str(target_of(self.workspace, name, known[name]))]
            self.workspace.outputs.mkdir(parents=True, exist_ok=True)
            self._children[name] = subprocess.Popen(
                worker_command(*words),
                cwd=self.workspace.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=worker_environment(),
                start_new_session=True,
            )

    def running(self) -> list[str]:
        """Downloads that this server has started and that have not ended."""
        return [name for name, child in self._children.items() if child.poll() is None]
