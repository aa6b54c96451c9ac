"""The events of the workspace for any number of clients, each with a cursor of its own."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Self

from tsuzuku.core.database import explained
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.event_reader import EventReader, Message
from tsuzuku.server.frames import framed

log = logging.getLogger("tsuzuku.feed")

PAUSE = 0.025
"""Seconds between two looks at the database."""

REST = 1.0
"""Handing out takes at most one part in 1 + REST of a processor: training wants the rest."""

SPAN = 1024
"""A page ends where a multiple of it begins, so that clients from different places come to share
their pages."""

PAGE = 1 << 18
"""Bytes of messages in a page, unless a single one is larger."""

KEPT = 4 << 20
"""Bytes of the newest messages, and of pages in use, that are kept in memory."""

LONGEST = 0.25
"""Seconds between two looks at most."""

AGAIN = 0.5
"""Seconds before what could not be read is tried again."""

Key = tuple[int, str | None, bool]
"""Cursor, run and whether as one message: who agrees in them gets the same page."""

_by_seq = attrgetter("seq")


@dataclass(frozen=True)
class Page:
    """What comes after a cursor; the next one begins after `last`."""

    texts: Sequence[bytes]
    """WebSocket messages: an event each, or one array of all."""
    last: int

    @cached_property
    def size(self) -> int:
        """Bytes, about, that it keeps from others."""
        return sum(map(len, self.texts)) + 500

    @cached_property
    def frames(self) -> bytes:
        """All messages as they go over the wire."""
        return b"".join([framed(text) for text in self.texts])


class Feed:
    """Reads the events table once for all clients.

    async with Feed(path) as feed:
        with feed.listening():
            cursor = feed.begin()
            while True:
                page = await feed.page(cursor)
                cursor = page.last
                await feed.wait(cursor)

    Nothing has to be kept in memory for it to be complete: what a cursor has fallen behind by
    comes from the table. A database that cannot be read is said in the log, and tried again. A
    cursor beyond the newest event (of a table that was made anew) goes on with the newest.
    """

    def __init__(self, path: Path) -> None:
        self.head: int = 0
        """The number of the newest event that is known."""
        self._tail = EventReader(path)
        self._opened: int = 0
        self._newest: list[Message] = []
        """All events from after `_floor` up to `head`."""
        self._floor = 0
        self._size = 0
        self._pages: dict[Key, Page] = {}
        self._pages_size = 0
        self._reading: dict[Key, asyncio.Task[Page]] = {}
        self._complaint = ("", 0.0)
        self._news = asyncio.Event()
        self._listeners = 0
        self._heard = asyncio.Event()
        # One thread, so that many who come back at once are served in turn and leave the
        # processors to the training.
        self._past = EventReader(path)
        self._thread = ThreadPoolExecutor(1, "feed")
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._tail.close()
        self._past.close()

    @contextmanager
    def listening(self) -> Generator[None]:
        """Only while somebody listens is the table looked at."""
        self._listeners += 1
        self._heard.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._heard.clear()

    def begin(self, since: int | None = None) -> int:
        """The cursor of one who has seen all up to `since`; of one who wants only what comes.

        Raises `TsuzukuError` where that cannot be told because the database cannot be read.
        """
        if since is None or since > self.head:
            with explained(self._tail.path):
                self._look()
        return self.head if since is None else min(since, self.head)

    async def wait(self, after: int) -> None:
        """Until there may be something for a cursor that has seen all up to `after`."""
        while self.head == after:
            await self._news.wait()

    async def page(self, after: int, run_id: str | None = None, batch: bool = False) -> Page:
        """The next events, of one run or of all, as messages; with `batch` as one message."""
        if after >= self.head:
            return Page((), self.head)
        key = (after, run_id, batch)
        page = self._pages.get(key)
        if page is None and after >= self._floor:
            page = self._keep(key, self._recent(*key))
        elif page is None:
            # Others wait for the same page; who goes away must not take it from them.
            page = await asyncio.shield(self._begin_reading(key))
        ahead = (page.last, run_id, batch)
        if after < page.last < self._floor and ahead not in self._pages:
            self._begin_reading(ahead)  # while this one is being sent
        return page

    async def events_json(self, after: int, run_id: str | None = None, limit: int = 1000) -> bytes:
        """`{"events": [...], "next": N}`: at most `limit` events, and `after` for the next call.

        Fewer than `limit` when they get larger than `KEPT`. Raises `TsuzukuError` where the
        database cannot be read.
        """

        def read() -> tuple[list[Message], int]:
            until = self._past.last_seq()
            return self._past.messages(min(after, until), until, run_id, size=KEPT, limit=limit)

        messages, last = await asyncio.get_running_loop().run_in_executor(self._thread, read)
        return b'{"events":%b,"next":%d}' % (_array(messages), last)

    def poll(self) -> bool:
        """Take in what has been committed; whether there was anything."""
        try:
            return self._look()
        except (TsuzukuError, sqlite3.Error, OSError) as error:
            self._complain(error)
            return False

    async def _follow(self) -> None:
        while True:
            await self._heard.wait()
            # Not wall time: where the machine is busy, it is not we who are to become slow.
            began, pause = time.thread_time(), PAUSE
            if self.poll():
                # All who waited come before us: in the first round they write, in the second
                # the loop has sent it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                pause = min(max(PAUSE, REST * (time.thread_time() - began)), LONGEST)
            await asyncio.sleep(pause)

    def _look(self) -> bool:
        return self._tail.changed() and self._take_in()

    def _take_in(self) -> bool:
        head, opened = self._tail.last_seq(), self._opened
        fresh: list[Message] | None = None
        if self._tail.opened == opened and head - self.head <= SPAN:
            messages, last = self._tail.messages(self.head, head, size=KEPT // 4)
            fresh = messages if last == head else None
        # Nothing is changed before all has been read, which may fail.
        known, self.head, self._opened = self.head, head, self._tail.opened
        if self._opened != opened:  # what has been read may be of another file
            self._pages, self._pages_size, self._reading = {}, 0, {}
            fresh = None
        if fresh is not None:
            self._remember(fresh)
        else:  # or so many at once that the loop would stand still: the table has them
            self._newest, self._size, self._floor = [], 0, head
        if head != known:
            news, self._news = self._news, asyncio.Event()
            news.set()
        return head != known

    def _remember(self, messages: list[Message]) -> None:
        self._newest += messages
        self._size += sum(len(message.text) for message in messages)
        if self._size > KEPT:
            half = (len(self._newest) + 1) // 2
            self._floor = self._newest[half - 1].seq
            del self._newest[:half]
            self._size = sum(len(message.text) for message in self._newest)

    def _recent(self, after: int, run_id: str | None, batch: bool) -> Page:
        chosen: list[Message] = []
        size, until = 0, self._end(after, run_id)
        for index in range(bisect_right(self._newest, after, key=_by_seq), len(self._newest)):
            message = self._newest[index]
            if message.seq > until:
                break
            if run_id is not None and message.run_id != run_id:
                continue
            size += len(message.text)
            if size > PAGE and chosen:
                return _page(chosen, chosen[-1].seq, batch)
            chosen.append(message)
        return _page(chosen, until, batch)

    def _begin_reading(self, key: Key) -> asyncio.Task[Page]:
        if key not in self._reading:
            task = self._reading[key] = asyncio.create_task(self._older(key))
            task.add_done_callback(lambda _: self._done_reading(key, task))
        return self._reading[key]

    def _done_reading(self, key: Key, task: asyncio.Task[Page]) -> None:
        if self._reading.get(key) is task:  # and not one that was begun on another file
            del self._reading[key]

    async def _older(self, key: Key) -> Page:
        after, run_id, batch = key
        until = self._end(after, run_id)

        def read() -> Page:
            page = _page(*self._past.messages(after, until, run_id, size=PAGE), batch)
            _ = page.frames  # made here rather than in the loop's thread
            return page

        loop, opened = asyncio.get_running_loop(), self._opened
        try:
            page = await loop.run_in_executor(self._thread, read)
            return self._keep(key, page) if opened == self._opened else page
        except (TsuzukuError, sqlite3.Error, OSError) as error:
            self._complain(error)
            await asyncio.sleep(AGAIN)
            return Page((), after)

    def _end(self, after: int, run_id: str | None) -> int:
        return self.head if run_id else min(self.head, (after // SPAN + 1) * SPAN)

    def _keep(self, key: Key, page: Page) -> Page:
        """Have a page ready for others. It never gets wrong, only shorter than it could be."""
        if (old := self._pages.pop(key, None)) is not None:
            self._pages_size -= old.size
        self._pages[key] = page
        self._pages_size += page.size
        while self._pages_size > KEPT and len(self._pages) > 1:
            self._pages_size -= self._pages.pop(next(iter(self._pages))).size
        return page

    def _complain(self, error: Exception) -> None:
        text, now = str(error), time.monotonic()
        if text != self._complaint[0] or now - self._complaint[1] > 60.0:
            self._complaint = (text, now)
            log.warning("Events cannot be read, which is tried again: %s", text)


def _page(messages: list[Message], last: int, batch: bool) -> Page:
    if batch and messages:
        return Page([_array(messages)], last)
    return Page([message.text for message in messages], last)


def _array(messages: list[Message]) -> bytes:
    return b"[%b]" % b",".join([message.text for message in messages])
