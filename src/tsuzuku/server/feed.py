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

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.event_reader import EventReader, Message
from tsuzuku.server.frames import framed

log = logging.getLogger("tsuzuku.feed")

PAUSE = 0.025
"""Seconds between two looks at the database."""

REST = 3.0
"""Handing out takes at most one part in 1 + REST of the time: training wants the rest."""

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

    @property
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
        self.head = 0
        """The number of the newest event that is known."""
        self._tail = EventReader(path)
        self._opened = 0
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
        """The cursor of one who has seen all up to `since`; of one who wants only what comes."""
        if since is None or since > self.head:
            self.poll()
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
        if page is not None:
            return page
        if after >= self._floor:
            return self._keep(key, self._recent(*key))
        if key not in self._reading:
            self._reading[key] = asyncio.create_task(self._older(key))
        # Others wait for the same page; who goes away must not take it from them.
        return await asyncio.shield(self._reading[key])

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
            return self._tail.changed() and self._take_in()
        except (TsuzukuError, sqlite3.Error, OSError) as error:
            self._complain(error)
            return False

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._heard.wait()
            began, pause = loop.time(), PAUSE
            if self.poll():
                # All who waited come before us: in the first round they write, in the second
                # the loop has sent it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                pause = min(max(PAUSE, REST * (loop.time() - began)), LONGEST)
            await asyncio.sleep(pause)

    def _take_in(self) -> bool:
        head = self._tail.last_seq()
        known, self.head = self.head, head
        if self._tail.opened != self._opened:
            self._opened = self._tail.opened
            self._pages.clear()
            self._reading.clear()
            self._start_over()
        elif head - known > SPAN:  # so many at once that the loop would stand still
            self._start_over()
        else:
            messages, last = self._tail.messages(known, head, size=KEPT // 4)
            if last == head:
                self._remember(messages)
            else:
                self._start_over()
        if head != known:
            news, self._news = self._news, asyncio.Event()
            news.set()
        return head != known

    def _start_over(self) -> None:
        """Leave all that there is now to the table."""
        self._newest, self._size, self._floor = [], 0, self.head

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

    async def _older(self, key: Key) -> Page:
        after, run_id, batch = key
        until = self._end(after, run_id)

        def read() -> Page:
            page = _page(*self._past.messages(after, until, run_id, size=PAGE), batch)
            _ = page.frames  # made here rather than in the loop's thread
            return page

        loop = asyncio.get_running_loop()
        try:
            return self._keep(key, await loop.run_in_executor(self._thread, read))
        except (TsuzukuError, sqlite3.Error, OSError) as error:
            self._complain(error)
            await asyncio.sleep(AGAIN)
            return Page((), after)
        finally:
            self._reading.pop(key, None)

    def _end(self, after: int, run_id: str | None) -> int:
        return self.head if run_id else min(self.head, (after // SPAN + 1) * SPAN)

    def _keep(self, key: Key, page: Page) -> Page:
        """Have a page ready for others. It never gets wrong, only shorter than it could be."""
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
