"""Reading and writing the tables of `tsuzuku.db`: transactions, rows, cells."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel

from tsuzuku.core.database import connect, explained
from tsuzuku.core.schemas import jsonable

R = TypeVar("R", bound=BaseModel)
_JSON_COLUMNS = frozenset({"metrics", "kept_because", "verdict"})


class Tables:
    """One open `tsuzuku.db`, made when it is not there; may be used from several threads.

    Every method raises `DiskFull` when there is no room, `Busy` when others write for more than
    `PATIENCE`, and `TsuzukuError` when the file is damaged or cannot be read or written. What
    failed is then undone as a whole, and the store stays usable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db = connect(path)

    def close(self) -> None:
        with self._lock, explained(self.path):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The connection, for one statement; nothing else uses it meanwhile."""
        with self._lock, explained(self.path):
            yield self._db

    @contextmanager
    def writing(self, durable: bool = False) -> Generator[sqlite3.Connection]:
        """A transaction that is committed as a whole or not at all."""
        with self._lock, explained(self.path):
            if durable:  # has no effect once a transaction has begun
                self._db.execute("PRAGMA synchronous=FULL")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self.forget()
                if self._db.in_transaction:  # after some errors SQLite has rolled back itself
                    self._db.execute("ROLLBACK")
                raise
            finally:
                if durable:
                    self._db.execute("PRAGMA synchronous=NORMAL")

    def put(self, table: str, row: dict[str, Any]) -> None:
        """Insert a row, or replace the one with its key."""
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self.writing() as db:
            db.execute(
                f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",
                [cell(value) for value in row.values()],
            )

    def rows(
        self, table: str, columns: Iterable[str], order: str, limit: int | None, **equal: Any
    ) -> list[dict[str, Any]]:
        """Rows whose columns are `equal` to the given values; None stands for any value."""
        names = tuple(columns)
        wanted = {name: value for name, value in equal.items() if value is not None}
        where = " AND ".join(f"{name} = ?" for name in wanted) or "1"
        with self.reading() as db:
            rows = db.execute(
                f"SELECT {', '.join(names)} FROM {table} WHERE {where} ORDER BY {order} LIMIT ?",
                (*wanted.values(), -1 if limit is None else limit),
            ).fetchall()
        return [
            {
                name: json.loads(value) if name in _JSON_COLUMNS else value
                for name, value in zip(names, row, strict=True)
            }
            for row in rows
        ]

    def forget(self) -> None:
        """Forget what was remembered of the tables: a transaction was undone."""


def models(model: type[R], rows: list[dict[str, Any]]) -> list[R]:
    """Rows as what they are about."""
    return [model.model_validate(row) for row in rows]


def cell(value: Any) -> Any:
    """A value as SQLite stores it: containers as JSON, no NaN, no half characters."""
    plain = jsonable(value)
    if isinstance(plain, dict | list):
        return json.dumps(plain, allow_nan=False)
    if isinstance(plain, str):  # an undecodable file name in a message must not stop a run
        return plain.encode("utf-8", "backslashreplace").decode()
    return plain
