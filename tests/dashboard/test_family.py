"""The picture of a family: which runs are in it, and where they are drawn."""

from __future__ import annotations

from typing import Any

from tsuzuku.core.lineage_answers import Branch, Mark, Relative, Stretch
from tsuzuku.dashboard.family import MOST, figure, nearest


def relative(number: int, branch: Branch | None = None, depth: int = 1, **more: Any) -> Relative:
    return Relative(
        run_id=str(number), model_name="m", dataset_name="d", status="stopped", created_at=1.0,
        epoch=1, total_epochs=2, global_step=100, best_metric=None, branch=branch,
        depth=depth if branch else 0, **({"attempts": [], "checkpoints": []} | more),
    )  # fmt: skip


def branch(of: int, step: int | None, state: Any = "there") -> Branch:
    return Branch(run_id=str(of), checkpoint="<b>.pt", global_step=step, state=state)


def test_of_a_large_family_those_are_shown_that_matter() -> None:
    """The run that is looked at, those that it descends from, and what is near to them."""
    chain = [relative(0), *(relative(n, branch(n - 1, 10), n) for n in range(1, 6))]
    others = [relative(n, branch(0, 10)) for n in range(100, 200)]
    children = [relative(n, branch(5, 50), 6) for n in range(50, 53)]
    shown = [one.run_id for one in nearest([*chain, *children, *others], {"5": "red"})]
    assert len(shown) == MOST
    assert shown[:9] == ["0", "1", "2", "3", "4", "5", "50", "51", "52"]
    assert nearest(chain, {}) == chain


def test_lanes_begin_where_the_runs_do() -> None:
    mark = Mark(name="<i>.pt", epoch=1, global_step=40, is_best=True, is_latest=False, pinned=True,
                there=False)  # fmt: skip
    begun = Stretch(attempt=1, from_step=70, to_step=100, status="stopped", resumed_from="x/y.pt")
    again = begun.model_copy(update={"attempt": 2, "from_step": 80})
    family = [
        relative(0, checkpoints=[mark]),
        relative(1, branch(0, 40, "checkpoint_deleted"), attempts=[begun, again]),
        relative(2, branch(9, None, "run_deleted"), 0, attempts=[begun]),
        relative(3, branch(9, None, "run_deleted"), 0),
    ]
    drawn = figure(family, {"1": "#ff0000"})
    lanes = [t for t in drawn.data if t.mode == "lines" and t.y[0] == t.y[1]]
    assert [list(lane.x) for lane in lanes] == [[0, 100], [40, 100], [70, 100], [0, 100]]
    assert [lane.line.color == "#ff0000" for lane in lanes] == [False, True, False, False]
    ways = [(t.x[0], t.y) for t in drawn.data if t.mode == "lines" and t.x[0] == t.x[1]]
    assert ways == [(40, (0, 1)), (70, (1.7, 2)), (0, (2.7, 3))]
    (first, *_) = [t for t in drawn.data if t.mode == "markers" and len(t.x)]
    assert (first.marker.symbol, list(first.x)) == (("circle-open",), [40])
    assert first.text[0].startswith("&lt;i&gt;.pt")
    texts = [note.text for note in drawn.layout.annotations]
    assert "<b>▶ 1 · " in texts[1]
    assert "&lt;b&gt;.pt" in texts[2]
    assert all("<b>.pt" not in text for text in texts)
