"""What a run has said, the newest first to be found: all of its events but the many of progress."""

from __future__ import annotations

import json
import sqlite3

from tsuzuku.core.answers import RunLog
from tsuzuku.core.schemas import Event

# In these words, so that SQLite takes the index which leaves progress out: ten million steps
# between two lines cost nothing.
_QUERY = """
SELECT seq, run_id, type, time, payload FROM events
WHERE run_id = ? AND seq < ? AND type != 'progress' ORDER BY seq DESC LIMIT ?
"""


def before(db: sqlite3.Connection, run_id: str, seq: int, limit: int) -> RunLog:
    """The newest `limit` events of a run with a number below `seq`, ascending."""
    rows = db.execute(_QUERY, (run_id, seq, limit + 1)).fetchall()
    return RunLog(
        events=[
            Event(seq=number, run_id=run, type=kind, time=at, payload=json.loads(text))
            for number, run, kind, at, text in reversed(rows[:limit])
        ],
        earlier=len(rows) > limit,
    )
