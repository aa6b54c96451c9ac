"""Curves on the page: lines by name, and all of them at once where they are many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "seconds": Both("時間（秒）", "time (seconds)"),
        "steps": Both("フレーム", "frame"),
        "choose": Both("線で表示する曲線", "Curves drawn as lines"),
        "lines": Both("曲線: {names}", "Curves: {names}"),
        "all": Both("全 {count} 曲線の一覧", "All {count} curves at a glance"),
        "size": Both("{count} 曲線 · {length} フレーム", "{count} curves · {length} frames"),
        "length": Both(" · {seconds} 秒", " · {seconds} s"),
        "nothing": Both("曲線にデータがありません。", "The curves are empty."),
    }
)

FEW = 10
"""Curves whose lines can be told apart: that many colours there are."""
FIRST = 6
"""Of more than that, those which are drawn as lines before anybody has chosen."""
LONGEST = 2000
"""Points of a curve that are sent; of longer ones, means."""
DASHES = ("solid", "dash", "dot", "dashdot")

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


def show(value: Any, names: Sequence[str], fps: float | None, key: str) -> None:
    """Curves [curves, time], by `names`; `fps` values a second, if that is known."""
    rows, names = checked(value, names)
    if not rows.size:
        st.caption(say("nothing"))
        return
    count, length = rows.shape
    rows, step = shortened(rows)
    times: Floats = np.arange(rows.shape[1], dtype=np.float64) * (step / (fps or 1))
    axis = say("seconds") if fps else say("steps")
    chosen = list(range(count))
    if count > FEW:
        busiest = np.argsort(-spread(rows), kind="stable")[:FIRST]
        preset = sorted(int(i) for i in busiest)
        chosen = st.multiselect(
            say("choose"), chosen, default=preset, format_func=names.__getitem__, key=f"{key}-names"
        )
    if chosen:
        named = ", ".join(names[i] for i in chosen)
        figure = _lines(rows[chosen], [names[i] for i in chosen], times, axis)
        _chart(figure, f"{key}-lines", 320 + 22 * (len(chosen) // 4), say("lines", names=named))
    if count > FEW:
        st.caption(say("all", count=count))
        label = say("all", count=count)
        _chart(_map(rows, names, times, axis), f"{key}-map", 70 + 16 * count, label)
    said = say("size", count=count, length=length)
    st.caption(said + (say("length", seconds=f"{length / fps:.2f}") if fps else ""))


def checked(value: Any, names: Sequence[str]) -> tuple[Rows, list[str]]:
    """[curves, time] with a name for each; nothing (null) is a gap. Raises ValueError."""
    rows = np.array(value, dtype=np.float32)
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2:
        raise ValueError(f"curves are [curves, time], not {list(rows.shape)}")
    known = [str(name) for name in names][: len(rows)]
    return rows, known + [str(number) for number in range(len(known), len(rows))]


def shortened(rows: Rows) -> tuple[Rows, int]:
    """At most `LONGEST` values each, and how many one stands for."""
    step = math.ceil(rows.shape[1] / LONGEST)
    if step <= 1:
        return rows, 1
    missing = -rows.shape[1] % step
    padded = np.pad(rows, ((0, 0), (0, missing)), mode="edge")
    return padded.reshape(len(rows), -1, step).mean(axis=2), step


def spread(rows: Rows) -> NDArray[np.float32]:
    """How far each curve moves; 0 for one that is all gaps."""
    finite = np.isfinite(rows)
    high = np.where(finite, rows, -np.inf).max(axis=1)
    low = np.where(finite, rows, np.inf).min(axis=1)
    return np.where(finite.any(axis=1), high - low, 0.0).astype(np.float32)


def _lines(rows: Rows, names: list[str], times: Floats, axis: str) -> dict[str, Any]:
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": times,
            "y": row,
            "line": {"dash": DASHES[number // FEW % len(DASHES)], "width": 2},
        }
        for number, (name, row) in enumerate(zip(names, rows, strict=True))
    ]
    layout = {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": {"title": {"text": axis}, "automargin": True},
        "yaxis": {"automargin": True},
        "showlegend": True,
        "legend": {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0},
    }
    return {"data": traces, "layout": layout}


def _map(rows: Rows, names: list[str], times: Floats, axis: str) -> dict[str, Any]:
    """Each curve a row, brighter where it is higher."""
    trace = {"type": "heatmap", "x": times, "z": rows, "colorscale": "Viridis"}
    trace |= {"hovertemplate": "%{y}: %{z:.3g} (%{x:.2f})<extra></extra>"}
    trace |= {"y": list(range(len(names))), "colorbar": {"thickness": 10}}
    places = list(range(len(names)))
    layout = {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": {"title": {"text": axis}, "automargin": True},
        "yaxis": {
            "automargin": True,
            "autorange": "reversed",
            "tickvals": places,
            "ticktext": names,
            "tickfont": {"size": 11},
            "showgrid": False,
        },
    }
    return {"data": [trace], "layout": layout}


def _chart(figure: dict[str, Any], key: str, height: int, label: str) -> None:
    config = {"displaylogo": False, "scrollZoom": False}
    cast(Any, st).plotly_chart(figure, key=key, height=height, config=config, alt=label)
