"""Lines of runs compared: joined curves, where they went on, and what was left behind."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from tsuzuku.core.answers import Metrics, Resume, Tail
from tsuzuku.core.schemas import Curve
from tsuzuku.dashboard.words import Both, speaker

Placed = Callable[[list[int], str | None], list[Any]]
"""Steps of a lineage up to a run (None: up to its end) as places on the horizontal axis."""

FEW = 50
"""With fewer points than this each of them is shown."""
FAINT = 0.55

say = speaker(
    {
        "tail_of": Both("分岐元のその後 {run}", "Left behind: {run}"),
        "resumed": Both("再開 {origin}", "Resumed from {origin}"),
        "branched": Both("分岐 {origin}", "Branched from {origin}"),
    }
)


def joined(figure: Any, found: Metrics, key: str, placed: Placed, colour: str) -> None:
    """A run's curve with its ancestors', and a stroke wherever a training went on."""
    curve = found.curves.get(key)
    if curve is None or not curve.step:
        return
    figure.add_scatter(
        x=placed(curve.step, None),
        y=curve.value,
        name=found.run_id,
        legendgroup=found.run_id,
        mode="lines+markers" if len(curve.step) < FEW else "lines",
        line={"color": colour, "width": 2},
        hovertemplate="%{y:.4g}",
    )
    # at the last point that the resumed run had, which is at or before the step
    resumes = [one for one in found.resumes if curve.step[0] <= one.step]
    near = [bisect_right(curve.step, one.step) - 1 for one in resumes]
    figure.add_scatter(
        x=placed([curve.step[place] for place in near], None),
        y=[curve.value[place] for place in near],
        name=found.run_id,
        legendgroup=found.run_id,
        showlegend=False,
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 18, "color": colour, "line": {"width": 2.5}},
        text=[escape(_said(one)) for one in resumes],
        hovertemplate="%{text}",
    )


def _said(one: Resume) -> str:
    own = (one.resumed_from or "").startswith(f"{one.run_id}/")
    return say("resumed" if own else "branched", origin=one.resumed_from or "")


def tails(
    figure: Any, left: Sequence[Tail], curve: Curve | None, placed: Placed, colour: str
) -> None:
    """What ancestors trained beyond the branch: thin, faint, a legend entry for each of them."""
    named = {trace.legendgroup for trace in figure.data}
    for tail in left:
        name = say("tail_of", run=tail.run_id)
        # from the last point that both histories have, so that nothing lies between
        at = bisect_right(curve.step, tail.after) if curve else 0
        common = slice(max(0, at - 1), at)
        step, value = (curve.step[common], curve.value[common]) if curve else ([], [])
        figure.add_scatter(
            x=placed([*step, *tail.step], tail.run_id),
            y=[*value, *tail.value],
            name=name,
            legendgroup=name,
            showlegend=name not in named,
            mode="lines",
            legendrank=2000,  # after the runs themselves
            opacity=FAINT,
            line={"color": colour, "width": 1.5},
            hovertemplate="%{y:.4g}",
        )
