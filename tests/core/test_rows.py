"""Many rows at once, in as many statements as it takes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.core.rows import TOGETHER, insert

ROWS = st.lists(st.tuples(st.integers(-50, 50), st.floats(allow_nan=False)), max_size=3 * TOGETHER)


@given(rows=ROWS)
def test_all_rows_are_there_and_the_last_of_a_key_counts(rows: list[tuple[int, float]]) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, value REAL)")
        insert(db, "t", rows, "ON CONFLICT DO UPDATE SET value = excluded.value")
        assert dict(db.execute("SELECT key, value FROM t").fetchall()) == dict(rows)


def test_rows_keep_their_order_and_their_columns() -> None:
    rows = [(number, f"row {number}", None) for number in range(2 * TOGETHER + 1)]
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (a, b, c)")
        insert(db, "t (a, b, c)", rows)
        assert db.execute("SELECT * FROM t ORDER BY rowid").fetchall() == rows
