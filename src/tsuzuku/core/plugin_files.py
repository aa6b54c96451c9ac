"""Which models and data sets there are, found by file name without importing any of them."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tsuzuku.core.config_loader import suggest
from tsuzuku.core.errors import WrongInput, full_stop

Kind = Literal["models", "datasets"]
BUILTIN = Path(__file__).parent.parent
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class PluginFile:
    """One plain Python file that holds a model or a data set."""

    kind: Kind
    name: str
    path: Path
    builtin: bool

    @property
    def label(self) -> str:
        """How messages call it: `models/vae.py`."""
        return f"{self.kind}/{self.name}.py"

    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def literal(self, constant: str) -> Any:
        """The value of a module constant that is a plain literal; None if there is none.

        Read from the source, so that asking costs no import and runs nobody's code.
        """
        try:
            tree = ast.parse(self.path.read_bytes())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # importing it will say what is wrong, with the line
        for node in tree.body:
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets, value = [node.target], node.value
            else:
                continue
            if any(isinstance(t, ast.Name) and t.id == constant for t in targets):
                try:
                    return ast.literal_eval(value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    return None
        return None


def found(kind: Kind, root: Path) -> dict[str, PluginFile]:
    """Every plug-in by name: the built-in ones, shadowed by the workspace's."""
    plugins: dict[str, PluginFile] = {}
    for folder, builtin in ((BUILTIN / kind, True), (root / kind, False)):
        for path in sorted(folder.glob("*.py")):
            if NAME.fullmatch(path.stem) and path.is_file():
                plugins[path.stem] = PluginFile(kind, path.stem, path, builtin)
    return plugins


def find(kind: Kind, name: str, root: Path, available: list[str] | None = None) -> PluginFile:
    """The plug-in of that name; raises WrongInput with the names there are."""
    plugins = found(kind, root)
    offered = [n for n in sorted(plugins) if available is None or n in available]
    if name in offered:
        return plugins[name]
    word = "model" if kind == "models" else "data set"
    if name in plugins:
        raise WrongInput(
            f"The {word} {name!r} is not among available_{kind} in config.yaml.",
            f"There are: {', '.join(offered) or 'none'}.",
            code=f"unknown_{kind[:-1]}",
        )
    raise WrongInput(
        full_stop(f"There is no {word} {name!r}{suggest(name, offered)}"),
        f"Your own go to {kind}/<name>.py in the workspace.",
        code=f"unknown_{kind[:-1]}",
    )
