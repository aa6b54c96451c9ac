"""Reading the events table as messages, for those who only look on."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tsuzuku.core.database import explained, last_seq
from tsuzuku.core.errors import NotFound

_QUERY = "SELECT seq, run_id, type, time, payload FROM events WHERE"


class Message(NamedTuple):
    """An event as everybody gets it."""

    seq: int
    run_id: str | None
    text: bytes
    """A JSON object in ASCII: `type, payload, seq, run_id, time`."""


class EventReader:
    """A read-only connection to the events of a database, opened when it is first needed.

    It never makes or mends a database, and waits for nobody. When another file has taken the place
    of the one that it has open (`tsuzuku runs --rebuild`), it goes on with that one. After an
    error, which is a `TsuzukuError` or one of sqlite3, the next call starts over. One thread at a
    time may use it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: int = 0
        """How often a file was opened; when it grows, the numbers of events may be others."""
        self._db: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._version = (0, 0)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def changed(self) -> bool:
        """Whether anything was committed, or another file opened, since the last call."""
        with self._reading() as db:
            version = (self.opened, db.execute("PRAGMA data_version").fetchone()[0])
        same, self._version = version == self._version, version
        return not same

    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        with self._reading() as db:
            return last_seq(db)

    def messages(
        self,
        after: int,
        until: int,
        run_id: str | None = None,
        *,
        size: int = 1 << 18,
        limit: int = -1,
    ) -> tuple[list[Message], int]:
        """Events with `after < seq <= until`, ascending, and the number up to which that is all.

        It ends early before the texts exceed `size` bytes (not before the first) or after `limit`.
        """
        where, bound = "seq > ? AND seq <= ?", [after, until]
        if run_id is not None:
            where, bound = f"{where} AND run_id = ?", [*bound, run_id]
        found: list[Message] = []
        with self._reading() as db:
            rows = db.execute(f"{_QUERY} {where} ORDER BY seq LIMIT ?", (*bound, limit))
            with closing(rows):  # an open statement would keep the WAL from being reset
                for seq, run, kind, time, payload in rows:
                    text = _text(seq, run, kind, time, payload)
                    size -= len(text)
                    if size < 0 and found:
                        return found, found[-1].seq
                    found.append(Message(seq, run, text))
        return found, found[-1].seq if len(found) == limit else max(after, until)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            with explained(self.path):
                yield self._connection()
        except BaseException:
            self.close()
            raise

    def _connection(self) -> sqlite3.Connection:
        try:
            now = self.path.stat()
        except FileNotFoundError:
            raise NotFound(f"There is no {self.path}.", code="no_database") from None
        file = (now.st_dev, now.st_ino)
        if file != self._file:
            self.close()
        if self._db is None:
            # Read-only: another mode would make a file while `rebuild` puts its own there.
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(
                uri, timeout=0.05, isolation_level=None, check_same_thread=False, uri=True
            )
            self._file = file
            self.opened += 1
        return self._db


def _text(seq: int, run_id: str | None, kind: str, time: float, payload: str) -> bytes:
    """The payload is JSON already: parsing and writing it again would be most of the work."""
    at = repr(time) if math.isfinite(time) else "null"
    return (
        f'{{"type":{_quoted(kind)},"payload":{payload},"seq":{seq},'
        f'"run_id":{_quoted(run_id)},"time":{at}}}'
    ).encode()


@lru_cache(maxsize=1024)
def _quoted(text: str | None) -> str:
    return json.dumps(text)
