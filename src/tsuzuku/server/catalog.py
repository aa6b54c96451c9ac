"""What every plug-in says of itself: asked of a worker, kept by the hash of the file."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading

from tsuzuku import __version__
from tsuzuku.core import plugin_files
from tsuzuku.core.asking import workspace_words
from tsuzuku.core.ending import cause
from tsuzuku.core.launch import worker_command, worker_environment
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import Workspace, write_atomically

PATIENCE = 60.0
"""Seconds that importing all plug-ins may take, until the one that hangs is left out."""


class Catalog:
    """Descriptions of plug-ins; a file is looked at once, however often it is asked about."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._path = workspace.outputs / ".cache" / "plugins.json"
        self._lock = threading.Lock()
        self._known: dict[str, Tree] = self._kept()

    def describe(self, plugins: list[PluginFile]) -> dict[str, Tree]:
        """By label (`models/vae.py`): what the worker command `plugins` answers for the file."""
        keys = {plugin.label: _key(plugin) for plugin in plugins}
        with self._lock:
            missing = [p for p in plugins if keys[p.label] not in self._known]
            if missing:
                for plugin, answer in zip(missing, self._ask(missing), strict=True):
                    self._known[keys[plugin.label]] = answer
                self._keep()
            return {label: self._known[key] for label, key in keys.items()}

    def everything(self) -> dict[str, Tree]:
        """All plug-ins of the workspace, described."""
        root = self.workspace.root
        kinds: tuple[plugin_files.Kind, ...] = ("models", "datasets")
        return self.describe([p for k in kinds for p in plugin_files.found(k, root).values()])

    def _ask(self, plugins: list[PluginFile]) -> list[Tree]:
        answers: dict[str, Tree] = {}
        left = plugins
        while left:
            code = self._look(left, answers)
            left = [p for p in left if p.label not in answers]
            if left:  # the first that has no answer has ended the process, or kept it for ever
                answers[left[0].label] = {
                    "ok": False,
                    "error": f"{left[0].label} does not let itself be imported{cause(code)}.",
                }
                left = left[1:]
        return [answers[p.label] for p in plugins]

    def _look(self, plugins: list[PluginFile], answers: dict[str, Tree]) -> int:
        items = [{"kind": p.kind, "name": p.name, "path": str(p.path)} for p in plugins]
        words = [*workspace_words(self.workspace), "plugins", "--items", json.dumps(items)]
        with subprocess.Popen(
            worker_command(*words),
            cwd=self.workspace.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=worker_environment(),
        ) as process:
            watch = threading.Timer(PATIENCE, process.kill)
            watch.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    with contextlib.suppress(ValueError):
                        answer = json.loads(line)
                        answers[f"{answer['kind']}/{answer['name']}.py"] = answer
            finally:
                watch.cancel()
        return process.returncode

    def _kept(self) -> dict[str, Tree]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        known = kept.get(__version__) if is_tree(kept) else None
        return dict(known) if is_tree(known) else {}

    def _keep(self) -> None:
        # what could not be imported may be able to be tomorrow, with another library installed
        good = {key: answer for key, answer in self._known.items() if answer.get("ok")}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps({__version__: good}, ensure_ascii=False))


def _key(plugin: PluginFile) -> str:
    return f"{plugin.label} {plugin.sha256()}"
