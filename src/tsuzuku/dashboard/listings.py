"""Long lists: all of the server's rows, and those of them that fit a wish with their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """All of a kind, newest first. It is shared by all visits: nobody changes it."""

    items: tuple[Item, ...]
    mark: str
    """What it was when it was read: something cheap that changes with the list."""
    stamp: int
    """Another one for every reading."""

    def names(self, field: str) -> list[str]:
        """The values that a field has, sorted."""
        return sorted({str(getattr(item, field)) for item in self.items})


@dataclass(frozen=True)
class Shown(Generic[Item]):
    """Those that fit a wish, and their table, row by row the same."""

    names: tuple[str, ...]
    """What each is called by in addresses and in the session."""
    items: tuple[Item, ...]
    table: Any
    """In Arrow's columns."""
    place: dict[str, int]
    """Of each name, its row."""


def shown(names: tuple[str, ...], items: tuple[Item, ...], table: Any) -> Shown[Item]:
    return Shown(names, items, table, {name: row for row, name in enumerate(names)})
