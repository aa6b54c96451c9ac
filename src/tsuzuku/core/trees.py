"""Plain trees, as YAML, JSON and checkpoints hold them: telling their parts apart with types."""

from __future__ import annotations

from typing import Any, TypeGuard

Tree = dict[str, Any]


def is_tree(value: Any) -> TypeGuard[Tree]:
    """Whether `value` is a mapping; its keys are taken for text, as everywhere in such trees."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether `value` is a list, or a tuple, which is one to everybody who only reads it."""
    return isinstance(value, list | tuple)
