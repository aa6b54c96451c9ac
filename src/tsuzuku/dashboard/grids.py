"""Tables on a page: large ones that scroll and sort, small ones that wrap.

Streamlit's own calls take types of packages that have none; here they get some.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, cast

import streamlit as st

Kind = Literal["text", "texts", "whole", "real", "moment", "span"]
Selection = Literal["single-row-required", "multi-row"]

ROW = 35
"""Pixels."""
MOST_ROWS = 10
"""So many are seen at once; the others scroll."""

_st = cast(Any, st)
_pa: Any = import_module("pyarrow")
_KINDS: dict[Kind, Any] = {
    "text": _pa.string(),
    "texts": _pa.list_(_pa.string()),
    "whole": _pa.int64(),
    "real": _pa.float64(),
    "moment": _pa.timestamp("s", "UTC"),
    "span": _pa.duration("s"),
}


def arrow(columns: Mapping[str, tuple[Kind, Sequence[Any]]]) -> Any:
    """An Arrow table, which a browser takes as it is; a `moment` and a `span` are in whole
    seconds."""
    return _pa.table(
        {name: _pa.array(values, _KINDS[kind]) for name, (kind, values) in columns.items()}
    )


def grid(
    table: Any,
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    key: str | None = None,
    on_select: Callable[[], None] | None = None,
    selection: Selection = "single-row-required",
) -> None:
    """A table that scrolls and sorts. `name` is for those who hear the page.

    With `on_select` its rows can be chosen; which are is in the session under `key`.
    """
    chosen: dict[str, Any] = {}
    if on_select is not None:
        chosen = {"key": key, "on_select": on_select, "selection_mode": selection}
    seen = min(max(table.num_rows, 2), MOST_ROWS)
    _st.dataframe(
        table,
        height=ROW * (seen + 1) + 3,
        hide_index=True,
        column_config=config,
        placeholder="",
        alt=name,
        **chosen,
    )


def rows_chosen(key: str) -> list[int]:
    """The rows that are chosen in the grid with that key."""
    state: Any = st.session_state.get(key)
    return list(state["selection"]["rows"]) if state else []


def choose_rows(key: str, rows: Sequence[int]) -> None:
    """Choose rows in a grid that is drawn after this."""
    if rows_chosen(key) != list(rows):
        st.session_state[key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}


def facts(rows: Mapping[str, str]) -> None:
    """Names and values, in Markdown, line by line."""
    if rows:
        _st.table(dict(rows), border="horizontal", hide_header=True)


def listed(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A small table in Markdown, whose cells wrap."""
    columns = {head: [row[place] for row in rows] for place, head in enumerate(heads)}
    _st.table(columns, border="horizontal", hide_index=True)


def note(text: str) -> None:
    """A line in small print. Not `st.caption`, which is too faint to be read by everybody."""
    st.markdown(f":small[{text}]")
