"""What happens and has happened: status, runs, curves, events."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Self
from urllib.parse import quote

from tsuzuku.client.stream import Lost, patiently, stream
from tsuzuku.client.transport import Transport
from tsuzuku.core import answers as a
from tsuzuku.core.errors import NotFound
from tsuzuku.core.lineage_answers import Lineage
from tsuzuku.core.rank_answers import Placement, RankLog
from tsuzuku.core.schemas import FINAL, Event

BEYOND = 10**15
"""A number that no event has."""

PAGE = 10_000
"""Events that are asked for at once."""


class Watching:
    """The part of a client that changes nothing."""

    def __init__(self, base_url: str, token: str | None = None, timeout: float = 60.0) -> None:
        self._transport = Transport(base_url, token, timeout)
        self._call = self._transport.call

    @property
    def url(self) -> str:
        return self._transport.url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self, run_id: str | None = None) -> a.Status:
        return self._call(a.Status, "GET", "/api/status", query={"run_id": run_id})

    def progress(self, run_id: str | None = None) -> a.Progress:
        return self._call(a.Progress, "GET", "/api/progress", query={"run_id": run_id})

    def runs(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> a.RunList:
        """The runs, newest first."""
        query = {"model_name": model_name, "dataset_name": dataset_name, "status": status}
        query |= {"limit": limit, "offset": offset}
        return self._call(a.RunList, "GET", "/api/runs", query=query)

    def lineage(
        self,
        run_id: str | None = None,
        model_name: str | None = None,
        dataset_name: str | None = None,
        limit: int | None = None,
    ) -> Lineage:
        """Which runs branched from which: of the whole workspace, or the family of one run."""
        query = {"run_id": run_id, "model_name": model_name, "dataset_name": dataset_name}
        return self._call(Lineage, "GET", "/api/lineage", query=query | {"limit": limit})

    def run(self, run_id: str) -> a.RunInfo:
        return self._call(a.RunInfo, "GET", f"/api/runs/{part(run_id)}")

    def metrics(
        self,
        run_id: str,
        keys: list[str] | None = None,
        points: int | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
        lineage: bool | None = None,
        tails: bool | None = None,
    ) -> a.Metrics:
        """Curves over the global step, joined with those of the runs that it branched from.

        With `tails` also what these have trained beyond the branch.
        """
        query = {"keys": ",".join(keys) if keys is not None else None, "points": points}
        query |= {"from_step": from_step, "to_step": to_step, "lineage": lineage}
        query |= {"tails": tails}
        path = f"/api/runs/{part(run_id)}/metrics"
        return self._call(a.Metrics, "GET", path, query=query)

    def log(self, run_id: str, before: int | None = None, limit: int | None = None) -> a.RunLog:
        """What a run has said, without its progress: the newest, or what came before a number."""
        query = {"before": before, "limit": limit}
        return self._call(a.RunLog, "GET", f"/api/runs/{part(run_id)}/log", query=query)

    def ranks(self, run_id: str) -> Placement:
        """Where the ranks of a run's newest attempt are, and how they fare."""
        return self._call(Placement, "GET", f"/api/runs/{part(run_id)}/ranks")

    def rank_log(self, run_id: str, rank: int, tail: int | None = None) -> RankLog:
        """The last lines that a rank has printed."""
        path = f"/api/runs/{part(run_id)}/ranks/{rank}/log"
        return self._call(RankLog, "GET", path, query={"tail": tail})

    # Events

    def event_page(
        self, after: int = 0, run_id: str | None = None, limit: int | None = None
    ) -> a.Events:
        """The next events after a number, and the number to ask with for those after them."""
        query = {"after": after, "run_id": run_id, "limit": limit}
        return self._call(a.Events, "GET", "/api/events", query=query)

    def last_seq(self) -> int:
        """The number of the newest event; 0 if there is none."""
        return self.event_page(BEYOND, limit=1).next

    def past_events(
        self, run_id: str | None = None, since: int = 0, until: int | None = None
    ) -> Iterator[Event]:
        """The events after `since` up to `until` (by default the newest), without waiting."""
        end = self.last_seq() if until is None else until
        while since < end:
            page = self.event_page(since, run_id, PAGE)
            for event in page.events:
                if event.seq > end:
                    return
                yield event
            if page.next <= since:  # the table was made again, with fewer events
                return
            since = page.next

    def events(
        self,
        run_id: str | None = None,
        since: int | None = None,
        lost: Lost = lambda _: None,
    ) -> Iterator[Event]:
        """Events after `since` (by default from now on) as they come, each once and in order.

        It never ends: a connection that breaks is made again for as long as it is iterated, and
        `lost` is called with the reason each time. Raises Unreachable where even the first cannot
        be made, and NotFound for an unknown run.
        """
        start = self.last_seq() if since is None else since
        return stream(self._transport, run_id, start, lost)

    def follow(self, run_id: str, since: int = 0, lost: Lost = lambda _: None) -> Iterator[Event]:
        """The events of a run after `since` until it has ended; see `events`.

        An ended run's events come without waiting.
        """
        if self.run(run_id).status in FINAL:
            yield from self.past_events(run_id, since)
            return
        for event in self.events(run_id, since, lost):
            yield event
            final = event.type == "status" and event.payload.get("status") in FINAL
            if final and patiently(partial(self._is_last, run_id, event.seq), lost):
                return

    def _is_last(self, run_id: str, seq: int) -> bool:
        """Whether a run has ended with that event: earlier attempts have such events, too."""
        ended = self.run(run_id).status in FINAL
        return ended and not self.event_page(seq, run_id, 1).events


def part(name: str) -> str:
    """A name as one part of a path; raises NotFound for what can name nothing."""
    if "/" in name or name in ("", ".", ".."):
        raise NotFound(f"There is nothing called {name!r}.")
    return quote(name, safe="")
