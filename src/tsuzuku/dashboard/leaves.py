"""Settings and metadata line by line: each leaf of a tree by its path."""

from __future__ import annotations

from typing import Any

from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.dashboard import figures


def leaves(tree: Tree, above: str = "") -> dict[str, Any]:
    """Each value by its path, `training.batch_size` say."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        if is_tree(value) and value:
            found |= leaves(value, f"{path}.")
        else:
            found[path] = value
    return found


def shown(value: Any) -> str:
    """A value in Markdown."""
    if value is None or value in ("", {}, []):
        return figures.NOTHING
    return f"`{str(value).replace('`', 'ʼ')}`"


def rows(tree: Tree) -> dict[str, str]:
    """Paths and values in Markdown."""
    return {f"`{path}`": shown(value) for path, value in leaves(tree).items()}
