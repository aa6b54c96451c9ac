"""Numbers as a person reads them: sizes, moments, durations, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

MOMENT = "%Y-%m-%d %H:%M"
MOMENT_COLUMN = "YYYY-MM-DD HH:mm"
"""The same, as a table's column takes it."""
METRIC_COLUMN = "%.4g"
BYTES = {"MB": 1e6, "GB": 1e9}
SIZE_COLUMN = "%.3g {unit}"
"""Sizes in a table have one unit, so that they can be compared at a glance."""
NOTHING = "–"
"""Where there is no number."""

say = speaker(
    {
        "days": Both("{first}日 {second}時間", "{first} d {second} h"),
        "hours": Both("{first}時間 {second}分", "{first} h {second} min"),
        "minutes": Both("{first}分 {second}秒", "{first} min {second} s"),
        "seconds": Both("{first}秒", "{first} s"),
    }
)


def zone() -> str:
    """The name of the visitor's time zone."""
    return st.context.timezone or "UTC"


def moment(timestamp: float) -> str:
    """A time since the epoch by the visitor's clock, to the minute."""
    return datetime.fromtimestamp(timestamp, _clock(zone())).strftime(MOMENT)


def _clock(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a browser may know zones that this machine does not
        return UTC


def size(count: float) -> str:
    """Bytes with three digits: `37.8 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{_three_digits(count) if unit != 'B' else int(count)} {unit}"
        count /= 1000
    return f"{_three_digits(count)} TB"


def unit(sizes: Iterable[float]) -> str:
    """The unit for a table of sizes."""
    return "GB" if max(sizes, default=0) >= BYTES["GB"] else "MB"


def _three_digits(number: float) -> str:
    return f"{number:.{0 if number >= 99.95 else 1 if number >= 9.995 else 2}f}"


def duration(seconds: float) -> str:
    """The two largest units of a time span: `2 h 5 min`."""
    whole = max(0, round(seconds))
    for key, large, small in (("days", 86400, 3600), ("hours", 3600, 60), ("minutes", 60, 1)):
        if whole >= large:
            return say(key, first=whole // large, second=whole % large // small)
    return say("seconds", first=whole)


def metric(value: Any) -> str:
    """A measurement with four digits."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NOTHING
    return f"{value:.4g}"


def count(number: float) -> str:
    """A whole number, `12,345`."""
    return f"{int(number):,}"


def moment_column(label: str) -> Any:
    """A table's column of moments, by the visitor's clock."""
    kind = st.column_config
    return kind.DatetimeColumn(label, format=MOMENT_COLUMN, timezone=zone())


def measured_columns(names: Iterable[str], size_label: str) -> dict[str, Any]:
    """How a table shows its columns `metric:<name>` and `size:<unit>`."""
    kind = st.column_config
    found: dict[str, Any] = {}
    for name in names:
        what, _, rest = name.partition(":")
        if what == "metric":
            found[name] = kind.NumberColumn(rest, format=METRIC_COLUMN)
        elif what == "size":
            found[name] = kind.NumberColumn(size_label, format=SIZE_COLUMN.format(unit=rest))
    return found
