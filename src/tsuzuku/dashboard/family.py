"""The family of a run as a picture: a lane for each run, over the steps that it trained.

A branch leaves its parent's lane at the step of the checkpoint that it went on from, so that what
was left behind is seen as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, cast

import plotly.graph_objects as go
import streamlit as st

from tsuzuku.core.lineage_answers import Branch, Mark, Relative
from tsuzuku.dashboard import figures, grids, run_words
from tsuzuku.dashboard.connection import client
from tsuzuku.dashboard.run_list import Items
from tsuzuku.dashboard.words import Both, speaker

MOST = 24
"""Lanes of a picture; of a larger family those nearest to the runs that are looked at."""
LANE = 66
"""Pixels."""
QUIET = "#8a8f98"
"""Of the runs that are not looked at; seen on white and on black."""
LONGEST = 44
"""Characters of a checkpoint's name in the picture; whole when pointed at."""

_st = cast(Any, st)  # Plotly has no types

say = speaker(
    {
        "title": Both("🌿 系統", "🌿 Family"),
        "step": Both("ステップ", "Step"),
        "epochs": Both("エポック {epoch}/{total}", "epoch {epoch}/{total}"),
        "best": Both("最良 {value}", "best {value}"),
        "from": Both("{name}（ステップ {step}）から分岐", "branched from {name} (step {step})"),
        "tuned": Both("{name} から微調整", "fine-tuned from {name}"),
        "imported": Both("ファイル {name} から開始", "begun from the file {name}"),
        "from_somewhere": Both("{name} から分岐", "branched from {name}"),
        "checkpoint_deleted": Both("（削除済み）", " (deleted)"),
        "run_deleted": Both("（分岐元の実行は削除済み）", " (that run is deleted)"),
        "circular": Both("（親子関係が循環しています）", " (it descends from itself)"),
        "mark": Both("エポック {epoch}・ステップ {step}", "epoch {epoch}, step {step}"),
        "mark_best": Both("最良", "best"),
        "mark_pinned": Both("固定", "pinned"),
        "mark_gone": Both("ファイルは削除済み", "its file is deleted"),
        "resumed": Both(
            "試行 {attempt}: ステップ {step} から再開", "attempt {attempt} went on from step {step}"
        ),
        "key": Both(
            "横線は実行、● はチェックポイント（★ 最良、○ 削除済み）、縦の短い線は同じ実行の再開。",
            "A line is a run, ● a checkpoint (★ the best, ○ deleted), a short stroke where the same"
            " run went on.",
        ),
        "fewer": Both("ほか {count} 件の実行は省略しました。", "{count} more runs are left out."),
    }
)  # fmt: skip


def section(runs: Items, colours: Sequence[str]) -> None:
    """The families of these runs, as far as they have branches; each run in its colour."""
    marked = dict(zip((run.run_id for run in runs), colours, strict=False))
    seen: set[str] = set()
    shown = 0
    for run_id in marked:
        if run_id in seen:
            continue
        family = client().lineage(run_id).runs
        seen.update(one.run_id for one in family)
        if len(family) > 1 or any(one.branch for one in family):
            if not shown:
                st.markdown(f"**{say('title')}**")
            shown += 1
            _drawn(family, marked, f"family_{shown}")
    if shown:
        grids.note(say("key"))


def _drawn(family: list[Relative], marked: Mapping[str, str], key: str) -> None:
    near = nearest(family, marked)
    chart = figure(near, marked)
    config = {"displayModeBar": False, "scrollZoom": False}
    alt = "; ".join(f"{one.run_id} {_origin(one.branch) if one.branch else ''}" for one in near)
    _st.plotly_chart(chart, key=key, config=config, alt=f"{say('title')}: {alt}")
    if len(near) < len(family):
        grids.note(say("fewer", count=figures.count(len(family) - len(near))))


def nearest(family: list[Relative], marked: Mapping[str, str]) -> list[Relative]:
    """At most `MOST` of a family, in its order: the marked ones, their ancestors, then the rest."""
    if len(family) <= MOST:
        return family
    origin = {one.run_id: one.branch.run_id if one.branch else None for one in family}
    first: dict[str, None] = {}
    for run_id in (one.run_id for one in family if one.run_id in marked):
        above: str | None = run_id
        while above is not None and above in origin and above not in first:
            first[above] = None
            above = origin[above]
    # branches of what is shown, before those of anybody else
    ordered = sorted(
        family, key=lambda one: one.run_id not in first and origin[one.run_id] not in first
    )
    for one in ordered:
        first.setdefault(one.run_id)
    kept = set(list(first)[:MOST])
    return [one for one in family if one.run_id in kept]


def figure(family: Sequence[Relative], marked: Mapping[str, str]) -> Any:
    """The picture, the first run on top."""
    row = {one.run_id: place for place, one in enumerate(family)}
    last = max((one.global_step for one in family), default=0) or 1
    made: Any = go.Figure()
    for one in family:
        _connected(made, one, row)
    for one in family:
        _lane(made, one, row[one.run_id], marked.get(one.run_id))
        _labelled(made, one, row[one.run_id], one.run_id in marked, last)
    made.update_layout(
        height=LANE * len(family) + 70,
        margin={"l": 12, "r": 12, "t": 8, "b": 8},
        showlegend=False,
        hovermode="closest",
        dragmode=False,
        xaxis={
            "title": say("step"),
            "range": [-0.015 * last, 1.03 * last],
            "fixedrange": True,
            "zeroline": False,
            "showgrid": True,
        },
        yaxis={"visible": False, "range": [len(family) - 0.45, -0.75], "fixedrange": True},
    )
    return made


def _begin(run: Relative) -> int:
    """The step at which its lane begins."""
    known = run.branch.global_step if run.branch and not run.branch.fine_tuning else 0
    if known is None:
        known = next((a.from_step for a in run.attempts if a.from_step), 0)
    return known


def _connected(made: Any, run: Relative, row: Mapping[str, int]) -> None:
    """The way down from the parent's lane; from nowhere, where the parent is gone."""
    if run.branch is None:
        return
    at, own = _begin(run), row[run.run_id]
    above = row.get(run.branch.run_id) if run.depth else None
    left = run.branch.global_step if run.branch.fine_tuning and above is not None else at
    dash = "solid" if run.branch.state == "there" else "dot"
    made.add_scatter(
        x=[left if left is not None else at, at],
        y=[own - 0.3 if above is None else above, own],
        mode="lines",
        line={"color": QUIET, "width": 1.5, "dash": dash},
        hoverinfo="skip",
    )


def _lane(made: Any, run: Relative, row: int, colour: str | None) -> None:
    begin = _begin(run)
    line = {"color": colour or QUIET, "width": 5 if colour else 2.5}
    ends = [begin, max(begin, run.global_step)]
    made.add_scatter(
        x=ends,
        y=[row, row],
        mode="lines",
        line=line,
        hovertemplate=f"{escape(_summary(run))}<extra></extra>",
    )
    marks = run.checkpoints
    made.add_scatter(
        x=[mark.global_step for mark in marks],
        y=[row] * len(marks),
        mode="markers",
        marker={
            "color": colour or QUIET,
            "size": [12 if mark.is_best else 8 for mark in marks],
            "symbol": [_symbol(mark) for mark in marks],
            "opacity": 1,
        },
        text=[escape(_told(mark)) for mark in marks],
        hovertemplate="%{text}<extra></extra>",
    )
    again = [one for one in run.attempts if one.from_step and one.from_step > begin]
    made.add_scatter(
        x=[one.from_step for one in again],
        y=[row] * len(again),
        mode="markers",
        marker={
            "symbol": "line-ns-open", "size": 16, "color": colour or QUIET, "line": {"width": 2},
        },
        text=[
            say("resumed", attempt=one.attempt, step=figures.count(one.from_step or 0))
            for one in again
        ],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _labelled(made: Any, run: Relative, row: int, looked_at: bool, last: int) -> None:
    text = escape(_summary(run))
    made.add_annotation(
        x=0,
        xref="paper",
        y=row,
        yshift=17,
        xanchor="left",
        text=f"<b>▶ {text}</b>" if looked_at else text,
        showarrow=False,
        font={"size": 13},
    )
    if run.branch is None:
        return
    at = _begin(run)
    late = at > 0.5 * last
    made.add_annotation(
        x=at,
        y=row,
        yshift=-13,
        xanchor="right" if late else "left",
        text=escape(_origin(run.branch)),
        showarrow=False,
        font={"size": 11},
    )


def _summary(run: Relative) -> str:
    return " · ".join(
        (
            run.run_id,
            run_words.status(run.status),
            say("epochs", epoch=run.epoch, total=run.total_epochs),
            say("best", value=figures.metric(run.best_metric)),
        )
    )


def _origin(branch: Branch) -> str:
    name = branch.checkpoint
    if len(name) > LONGEST:
        half = LONGEST // 2 - 1
        name = f"{name[:half]}…{name[-half:]}"
    if branch.state == "imported":
        return say("imported", name=name)
    if branch.state in ("run_deleted", "circular"):
        name = f"{branch.run_id}/{name}"
    if branch.fine_tuning:
        said = say("tuned", name=name)
    elif branch.global_step is None:
        said = say("from_somewhere", name=name)
    else:
        said = say("from", name=name, step=figures.count(branch.global_step))
    return said if branch.state == "there" else said + say(branch.state)


def _symbol(mark: Mark) -> str:
    if not mark.there:
        return "circle-open"
    return "star" if mark.is_best else "circle"


def _told(mark: Mark) -> str:
    words = [mark.name, say("mark", epoch=mark.epoch, step=figures.count(mark.global_step))]
    known = (
        ("mark_best", mark.is_best),
        ("mark_pinned", mark.pinned),
        ("mark_gone", not mark.there),
    )
    return " · ".join([*words, *(say(key) for key, true in known if true)])
