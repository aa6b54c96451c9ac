"""Runs compared: a metric's curves in one chart, and the settings that differ."""

from __future__ import annotations

from typing import Any, cast

import plotly.graph_objects as go
import streamlit as st

from tsuzuku.core.answers import Metrics
from tsuzuku.core.trees import Tree
from tsuzuku.dashboard import curve_lines, epoch_axis, grids, leaves
from tsuzuku.dashboard.connection import client
from tsuzuku.dashboard.run_list import Items
from tsuzuku.dashboard.words import Both, speaker

MOST = 10
"""Curves that a person can tell apart."""
POINTS = 1000
COLOURS = (
    "#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2",
    "#72b7b2", "#9d755d", "#d6a018", "#ff6fa3", "#79706e",
)  # fmt: skip
"""Told apart on white and on black."""
FIRST = ("val_loss", "train_loss", "loss")

_st = cast(Any, st)  # Plotly has no types

say = speaker(
    {
        "title": Both("📊 比較", "📊 Comparison"),
        "too_many": Both(
            "最初の {most} 件を比較しています。", "The first {most} of them are compared."
        ),
        "metric": Both("指標", "Metric"),
        "axis": Both("横軸", "Horizontal axis"),
        "step": Both("ステップ", "Step"),
        "epoch": Both("エポック", "Epoch"),
        "lineage": Both("分岐元もつなぐ", "Join ancestors"),
        "tails": Both("分岐元のその後", "What was left behind"),
        "log": Both("対数目盛", "Log scale"),
        "no_metrics": Both(
            "選んだ学習には、まだ指標がありません。", "These runs have no metrics yet."
        ),
        "differ": Both("異なる設定", "Settings that differ"),
        "same": Both("設定はすべて同じです。", "All settings are the same."),
        "unknown": Both(
            "チェックポイントのない学習の設定は比較できません: {runs}",
            "Without a checkpoint, settings cannot be compared: {runs}",
        ),
        "setting": Both("設定", "Setting"),
    }
)


@st.fragment
def section(runs: Items) -> None:
    """Compare them; what is chosen here redraws nothing else."""
    if len(runs) > MOST:
        grids.note(say("too_many", most=MOST))
    compared = runs[:MOST]
    _curves(compared)
    if len(compared) > 1:
        _settings(compared)


def _curves(runs: Items) -> None:
    known = sorted({key for run in runs for key in client().metrics(run.run_id, keys=[]).keys})
    if not known:
        st.info(say("no_metrics"), icon="📊")
        return
    usual = [known.index(key) for key in FIRST if key in known]
    first, second, third = st.columns([3, 2, 5], vertical_alignment="bottom")
    key = first.selectbox(say("metric"), known, usual[0] if usual else 0, key="compare_metric")
    axis = second.selectbox(say("axis"), ["step", "epoch"], key="compare_axis", format_func=say)
    with third.container(horizontal=True):
        whole = st.toggle(say("lineage"), True, key="compare_lineage")
        tails = st.toggle(say("tails"), True, key="compare_tails", disabled=not whole)
        logarithmic = st.toggle(say("log"), key="compare_log")
    figure: Any = go.Figure()
    compared = {run.run_id for run in runs}
    for run, colour in zip(runs, COLOURS, strict=False):
        found = client().metrics(run.run_id, [key], POINTS, lineage=whole, tails=tails)
        # one that is compared itself is drawn whole anyway
        left = [tail for tail in found.tails.get(key, []) if tail.run_id not in compared]
        placed = _placed(found, axis)
        curve_lines.tails(figure, left, found.curves.get(key), placed, colour)
        curve_lines.joined(figure, found, key, placed, colour)
    figure.update_layout(
        height=440,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        xaxis={"title": say(axis)},
        yaxis={"title": key, "type": "log" if logarithmic else "linear", "exponentformat": "power"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        showlegend=True,
        hovermode="x unified",
    )
    _st.plotly_chart(figure, key="compare_chart", config={"displaylogo": False})


def _placed(found: Metrics, axis: str) -> curve_lines.Placed:
    """Where steps are on the axis; a run's own where it is named, else along the lineage."""
    if axis == "step":
        return lambda steps, _: steps
    known = {
        run_id: epoch_axis.stretch(client().run(run_id), client().progress(run_id))
        for run_id in found.lineage
    }

    def placed(steps: list[int], until: str | None) -> list[Any]:
        along = list(known)[: list(known).index(until) + 1] if until in known else list(known)
        stretches = [one for run_id in along if (one := known[run_id]) is not None]
        return epoch_axis.epochs(steps, stretches)

    return placed


def _settings(runs: Items) -> None:
    trees = {run.run_id: _config(run.run_id) for run in runs}
    unknown = [run_id for run_id, tree in trees.items() if not tree]
    flat = {run_id: leaves.leaves(tree) for run_id, tree in trees.items() if tree}
    st.markdown(f"**{say('differ')}**")
    if unknown:
        grids.note(say("unknown", runs=", ".join(unknown)))
    paths = list(dict.fromkeys(path for values in flat.values() for path in values))
    differ = [
        path for path in paths if len({repr(values.get(path)) for values in flat.values()}) > 1
    ]
    if len(flat) > 1 and not differ:
        st.markdown(say("same"))
    elif differ:
        rows = [
            (f"`{path}`", *(leaves.shown(values.get(path)) for values in flat.values()))
            for path in differ
        ]
        grids.listed((say("setting"), *flat), rows)


def _config(run_id: str) -> Tree:
    """A run's settings, as its newest checkpoint has them."""
    newest = client().checkpoints(run_id=run_id, limit=1).checkpoints
    return client().checkpoint(run_id, newest[0].name).config if newest else {}
