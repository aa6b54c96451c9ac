"""What can be downloaded or made: the data sets that plug-ins' DOWNLOADS describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsuzuku.core import plugin_files
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import Workspace

MADE = {"digits": "data/digits", "speech": "data/speech"}
"""What `data make` can make, and where it goes."""

MADE_FOR = {"digits": "mnist", "speech": "ljspeech"}
"""The data set that reads what is made."""


def downloads(workspace: Workspace) -> dict[str, Tree]:
    """Every download that a plug-in's DOWNLOADS describes, by name."""
    known: dict[str, Tree] = {}
    for plugin in plugin_files.found("datasets", workspace.root).values():
        known |= downloads_of(plugin)
    return known


def downloads_of(plugin: PluginFile) -> dict[str, Tree]:
    """The downloads that one plug-in's DOWNLOADS describes."""
    entries: Any = plugin.literal("DOWNLOADS")
    return {k: v for k, v in entries.items() if is_tree(v)} if is_tree(entries) else {}


def target_of(workspace: Workspace, name: str, spec: Tree) -> Path:
    """The folder that a download fills."""
    return workspace.root / str(spec.get("path", f"data/{name}"))
