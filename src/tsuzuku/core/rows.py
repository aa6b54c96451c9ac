"""Many rows of a table at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

TOGETHER = 100
"""Rows of one statement: far fewer values than SQLite takes."""


def insert(
    db: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]], conflict: str = ""
) -> None:
    """Add rows to a table.

    Python's lock is given away and asked for again once a statement, and a training in the same
    process wants it, too; `executemany` does so for every row, and takes nearly twice as long.
    """
    for some in (rows[i : i + TOGETHER] for i in range(0, len(rows), TOGETHER)):
        row = f"({', '.join('?' * len(some[0]))})"
        db.execute(
            f"INSERT INTO {table} VALUES {', '.join([row] * len(some))} {conflict}",
            [value for own in some for value in own],
        )
