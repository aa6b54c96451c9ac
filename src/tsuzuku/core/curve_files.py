"""Curves with names as text files: tables for anybody, and what animation tools read for a face."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tsuzuku.core.blendshapes import NAMES, ROTATIONS, are_blendshapes

Rows = Sequence[Sequence[float | None]]
"""A row for each moment; None is a gap."""

TICKS = 60
"""Frames a second of timecodes, as Live Link Face counts them."""


def files_of(rows: Rows, names: Sequence[str], fps: float | None) -> dict[str, str]:
    """What to write, by the files' endings: `csv` and `jsonl`.

    Curves of ARKit's names at a rate are written as Live Link Face records them (61 columns), and
    as lines `{"timestamp": seconds, "blendshapes": [52 values]}`; the data set `arkit` reads both.
    Others have a column each, after `seconds`, or `frame` where there is no rate.
    """
    if fps and are_blendshapes(names):
        columns = [names.index(name) if name in names else None for name in NAMES]
        faces = [[0.0 if c is None else row[c] or 0.0 for c in columns] for row in rows]
        return {"csv": live_link(faces, fps), "jsonl": "".join(jsonl(faces, fps))}
    moment = "seconds" if fps else "frame"
    times = [_short(number / fps) if fps else number for number in range(len(rows))]
    head = ",".join(_quoted(name) for name in (moment, *names))
    lines = [
        ",".join("" if value is None else repr(value) for value in (time, *row))
        for time, row in zip(times, rows, strict=True)
    ]
    records = (
        json.dumps({moment: time, "values": list(row)}, allow_nan=False) + "\n"
        for time, row in zip(times, rows, strict=True)
    )
    return {"csv": "\n".join([head, *lines, ""]), "jsonl": "".join(records)}


def live_link(faces: Rows, fps: float) -> str:
    """A recording of Live Link Face: rows of the 52 blendshapes, head and eyes looking ahead."""
    columns = [name[0].upper() + name[1:] for name in NAMES]
    lines = [",".join(["Timecode", "BlendshapeCount", *columns, *ROTATIONS])]
    still = ["0.0"] * len(ROTATIONS)
    count = str(len(columns) + len(still))
    for number, face in enumerate(faces):
        values = [str(_short(value or 0.0)) for value in face]
        lines.append(",".join([timecode(number / fps), count, *values, *still]))
    return "\n".join([*lines, ""])


def jsonl(faces: Rows, fps: float) -> Iterable[str]:
    """A line of JSON for each row of the 52 blendshapes."""
    for number, face in enumerate(faces):
        values = [_short(value or 0.0) for value in face]
        yield json.dumps({"timestamp": _short(number / fps), "blendshapes": values}) + "\n"


def timecode(seconds: float) -> str:
    """`HH:MM:SS:FF.fff`, sixty frames to the second."""
    thousandths = round(seconds * TICKS * 1000)
    whole, rest = divmod(thousandths, TICKS * 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}:{rest // 1000:02}.{rest % 1000:03}"


def _short(value: float) -> float:
    return round(float(value), 6)


def _quoted(name: str) -> str:
    plain = not any(c in name for c in ',"\r\n')
    return name if plain else '"' + name.replace('"', '""') + '"'
