"""What a run has said, read from its end."""

from __future__ import annotations

from made_runs import begin
from tsuzuku.core import run_log
from tsuzuku.core.answers import RunLog
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


def said(store: Store, run_id: str, before: int, limit: int) -> RunLog:
    with store.reading() as db:
        return run_log.before(db, run_id, before, limit)


def test_the_log_is_read_page_by_page_from_its_end(workspace: Workspace, store: Store) -> None:
    run, other = begin(workspace, store).run_id, begin(workspace, store).run_id
    events: list[Event] = []
    for number in range(60):
        progress = {"global_step": number, "loss": 1.0}
        events += [Event(type="progress", payload=progress, run_id=run, time=number)] * 5
        for run_id in (run, other, None):
            line = {"level": "info", "message": str(number)}
            events.append(Event(type="log", payload=line, run_id=run_id, time=number))
    first = store.last_seq()
    store.append(events)

    found: list[Event] = []
    before, earlier = 10**15, True
    while earlier:
        page = said(store, run, before, 7)
        assert 1 <= len(page.events) <= 7
        found[:0] = page.events
        before, earlier = page.events[0].seq, page.earlier
    assert [e.seq for e in found] == sorted(e.seq for e in found)
    mine = [e for e in found if e.seq > first]
    assert [e.payload["message"] for e in mine] == [str(number) for number in range(60)]
    assert {e.run_id for e in found} == {run}
    assert said(store, run, found[0].seq, 7) == RunLog(events=[], earlier=False)


def test_the_log_needs_no_look_at_the_steps_in_between(workspace: Workspace, store: Store) -> None:
    """A run may have ten million of them."""
    with store.reading() as db:
        query = f"EXPLAIN QUERY PLAN {run_log._QUERY}"  # pyright: ignore[reportPrivateUsage]
        plan = " ".join(str(row[-1]) for row in db.execute(query, ("run", 1, 1)))
    assert "events_but_progress" in plan
    assert "TEMP B-TREE" not in plan
