"""A real server of `/ws` in a thread, and clients that keep all they get."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection

from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.feed import Feed
from tsuzuku.server.frames import WEBSOCKETS, FramesProtocol
from tsuzuku.server.websocket import event_routes

SOON = 30.0
"""Seconds after which what should have happened will not happen any more."""


class Served:
    """A running server: where it is, and what it serves."""

    def __init__(self, server: uvicorn.Server, feed: Feed) -> None:
        self.server = server
        self.feed = feed
        port: int = server.servers[0].sockets[0].getsockname()[1]
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/ws"

    def stop(self) -> None:
        self.server.should_exit = True


@contextmanager
def serving(workspace: Workspace, ws: Any = FramesProtocol, **settings: Any) -> Iterator[Served]:
    """A server of the events of `workspace`, until the block is left."""
    feed = Feed(workspace.db)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with feed:
            yield

    app = Starlette(routes=event_routes(feed, workspace), lifespan=lifespan)
    config = uvicorn.Config(app, port=0, log_config=None, ws=ws, **WEBSOCKETS | settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.005)
        yield Served(server, feed)
    finally:
        server.should_exit = True
        thread.join(SOON)
        assert not thread.is_alive(), "the server did not end"


def logs(*numbers: int, run_id: str | None = None, size: int = 0) -> list[Event]:
    """An event for each number, which is its message; larger by `size` characters."""
    return [
        Event(
            type="log",
            payload={"level": "info", "message": str(number), "more": "x" * size},
            run_id=run_id,
            time=number + 0.1,
        )
        for number in numbers
    ]


def as_sent(events: list[Event]) -> list[dict[str, Any]]:
    """What a client should get for stored events."""
    return [event.model_dump() for event in events]


def everything(store: Store, run_id: str | None = None, after: int = 0) -> list[dict[str, Any]]:
    return as_sent(store.events(run_id=run_id, after=after, limit=1_000_000))


async def take(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    """The next `count` events, in messages of one or of many."""
    got: list[dict[str, Any]] = []
    async with asyncio.timeout(SOON):
        while len(got) < count:
            message = json.loads(await client.recv())
            got += message if isinstance(message, list) else [message]
    return got
