"""One look at the table for everybody: pages from memory and from the table."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from streaming import SOON, everything, logs
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server import feed as feed_module
from tsuzuku.server.feed import SPAN, Feed, Page
from tsuzuku.server.frames import framed


def with_feed(workspace: Workspace, work: Callable[[Feed], Awaitable[None]]) -> None:
    """Do `work` with an open feed that somebody listens to."""

    async def main() -> None:
        async with Feed(workspace.db) as feed, asyncio.timeout(SOON):
            with feed.listening():
                feed.begin()
                await work(feed)

    asyncio.run(main())


async def read(
    feed: Feed, after: int, run_id: str | None = None, batch: bool = False
) -> list[dict[str, Any]]:
    """All events after a cursor, page by page."""
    got: list[dict[str, Any]] = []
    while after < feed.head:
        page = await feed.page(after, run_id, batch)
        assert page.last > after
        assert page.frames == b"".join(map(framed, page.texts))
        messages = [json.loads(text) for text in page.texts]
        if batch:
            assert len(messages) <= 1
            messages = messages[0] if messages else []
        got += messages
        after = page.last
    return got


@pytest.mark.parametrize("kept", [4 << 20, 20_000, 0])
def test_pages_together_are_the_table(
    workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """However much of it is in memory, whatever the cursor, the run and the sizes."""
    monkeypatch.setattr(feed_module, "KEPT", kept)
    monkeypatch.setattr(feed_module, "PAGE", 5000)
    chance = random.Random(kept)
    runs = ["a", "b", None]

    async def work(feed: Feed) -> None:
        for _ in range(15):
            for _ in range(chance.randint(1, 4)):
                size = chance.choice([0, 0, 100, 6000])
                numbers = range(chance.choice([1, 3, 30]))
                store.append(logs(*numbers, run_id=chance.choice(runs), size=size))
            feed.poll()
            assert feed.head == store.last_seq()
            whole = everything(store)
            for _ in range(4):
                run_id, after = chance.choice(runs), chance.randint(0, feed.head)
                got = await read(feed, after, run_id, chance.random() < 0.5)
                ours = [e for e in whole if run_id is None or e["run_id"] == run_id]
                assert got == [e for e in ours if e["seq"] > after]

    store.append(logs(*range(1500)))
    with_feed(workspace, work)


def test_who_agrees_gets_the_same_page(workspace: Workspace, store: Store) -> None:
    """From the table and from memory: read once, encoded once."""
    store.append(logs(*range(100)))

    async def work(feed: Feed) -> None:
        for after in (50, 100):
            pages = await asyncio.gather(*(feed.page(after) for _ in range(20)))
            assert {id(page) for page in pages} == {id(pages[0])}
            assert await feed.page(after) is pages[0]
            store.append(logs(1))
            feed.poll()

    async def prepare(feed: Feed) -> None:
        store.append(logs(1))
        feed.poll()
        await work(feed)

    with_feed(workspace, prepare)


def test_pages_from_different_places_become_the_same(workspace: Workspace, store: Store) -> None:
    store.append(logs(*range(3 * SPAN)))

    async def work(feed: Feed) -> None:
        assert {(await feed.page(after)).last for after in (3, 500, SPAN - 1)} == {SPAN}

    with_feed(workspace, work)


def test_who_goes_away_takes_no_page_from_others(workspace: Workspace, store: Store) -> None:
    store.append(logs(*range(500)))

    async def work(feed: Feed) -> None:
        first, second = (asyncio.create_task(feed.page(0)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        page = await second
        assert page.last == 500
        assert first.cancelled()

    with_feed(workspace, work)


def test_waiting_ends_with_what_is_committed(workspace: Workspace, store: Store) -> None:
    async def work(feed: Feed) -> None:
        for number in range(1, 6):
            waiting = [asyncio.create_task(feed.wait(feed.head)) for _ in range(10)]
            await asyncio.sleep(0)
            waiting.pop().cancel()
            assert not any(task.done() for task in waiting)
            store.append(logs(number))
            await asyncio.gather(*waiting)
            assert feed.head == number

    with_feed(workspace, work)


def test_nobody_listens_so_nobody_looks(workspace: Workspace, store: Store) -> None:
    async def main() -> None:
        async with Feed(workspace.db) as feed:
            with feed.listening():
                feed.begin()
            store.append(logs(*range(10)))
            await asyncio.sleep(5 * feed_module.PAUSE)
            assert feed.head == 0
            with feed.listening():
                assert feed.begin() == 10
                assert feed.begin(3) == 3
                assert await read(feed, 3) == everything(store, after=3)

    asyncio.run(main())


def test_a_commit_without_events_wakes_nobody(workspace: Workspace, store: Store) -> None:
    async def work(feed: Feed) -> None:
        feed.poll()
        store.add_points("a", "loss", [1, 2], [0.5, 0.25])
        assert not feed.poll()
        store.append(logs(1))
        assert feed.poll()

    with_feed(workspace, work)


def test_a_table_that_shrank(workspace: Workspace, store: Store) -> None:
    """A cursor beyond its end goes on with what comes."""

    async def work(feed: Feed) -> None:
        page = await feed.page(99)
        assert page == Page((), 4)
        await feed.wait(99)  # returns at once

    store.append(logs(1, 2, 3, 4))
    with_feed(workspace, work)


def test_events_as_json(workspace: Workspace, store: Store) -> None:
    store.append(logs(1, 2, 3, run_id="a"))
    store.append(logs(4, 5, run_id="b"))

    async def work(feed: Feed) -> None:
        async def asked(*args: Any) -> tuple[list[int], int]:
            answer = json.loads(await feed.events_json(*args))
            assert answer.keys() == {"events", "next"}
            assert all(e in everything(store) for e in answer["events"])
            return [e["seq"] for e in answer["events"]], answer["next"]

        assert await asked(0) == ([1, 2, 3, 4, 5], 5)
        assert await asked(0, None, 2) == ([1, 2], 2)
        assert await asked(0, "a") == ([1, 2, 3], 5)
        assert await asked(0, "b", 1) == ([4], 4)
        assert await asked(5) == ([], 5)
        assert await asked(99) == ([], 5)
        store.close()
        workspace.db.unlink()
        with pytest.raises(TsuzukuError, match="There is no"):
            await feed.events_json(0)

    with_feed(workspace, work)
