"""What can be downloaded or made: the data sets that plug-ins' DOWNLOADS describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core import plugin_files
from tsuzuku.core.config_loader import suggest
from tsuzuku.core.errors import NotFound, WrongInput, full_stop
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import Workspace

MADE = {"digits": "data/digits", "speech": "data/speech", "face": "data/face"}
"""What `data make` can make, and where it goes."""

MADE_FOR = {"digits": "mnist", "speech": "ljspeech", "face": "arkit"}
"""The data set that reads what is made."""

TAKES = {"digits": (), "speech": ("count", "seed", "text"), "face": ("count", "seed")}
"""What can be said about each."""


@dataclass(frozen=True)
class Making:
    """What is to be made; `TAKES` says what may be said about it."""

    name: str
    count: int | None = None
    """Utterances."""
    seed: int | None = None
    text: Path | None = None
    """A file with the lines to speak."""

    def words(self, target: Path) -> list[str]:
        """The worker's command; raises NotFound or WrongInput for what cannot be made."""
        if self.name not in MADE:
            known = suggest(self.name, sorted(MADE))
            detail = full_stop(f"{self.name!r} cannot be made{known}")
            raise NotFound(detail, code="unknown_dataset")
        words = ["make", "--name", self.name, "--target", str(target)]
        for option in ("count", "seed", "text"):
            value = getattr(self, option)
            if value is not None and option not in TAKES[self.name]:
                others = " and ".join(name for name, takes in TAKES.items() if option in takes)
                do = "does" if " " not in others else "do"
                raise WrongInput(f"{self.name} takes no {option}; {others} {do}.")
            if value is not None:
                # one word: a value may begin with a dash
                words.append(f"--{option}={value}")
        return words


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
