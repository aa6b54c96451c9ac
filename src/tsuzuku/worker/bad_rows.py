"""Rows that a data set leaves out, as its `report` names them."""

from __future__ import annotations

from typing import Any

from tsuzuku.core.trees import Tree, is_list, is_tree

NAMED = 10
"""Of very many, so many are named; the data set's report has them all."""


def left_out(dataset: Any) -> list[Tree]:
    """Entries of a data set's `report` that say that a row is not used."""
    entries = getattr(dataset, "report", None)
    if not is_list(entries):
        return []
    return [entry for entry in entries if is_tree(entry) and entry.get("used") is False]


def named(rows: list[Tree]) -> str:
    """Which rows, and what is wrong with each, in one line."""
    texts = [_words(row) for row in rows[:NAMED]]
    return "; ".join([*texts, "…"] if len(rows) > NAMED else texts)


def _words(row: Tree) -> str:
    """Such as `line 7 (LJ001-0007): wavs/LJ001-0007.wav is missing`."""
    place = f"line {row['row']} " if "row" in row else ""
    who = f"({row['id']}) " if row.get("id") else ""
    return f"{place}{who}".rstrip() + f": {row.get('problem', '')}"
