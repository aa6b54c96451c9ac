"""WebSocket clients that come, go and come back while the server dies under them."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

PATIENCE = 120.0
IMPATIENCE = 0.05
"""Share of messages after which a client hangs up by itself."""


class Client:
    """Keeps every event, and comes back with the number of its last."""

    def __init__(self, url: str, batch: bool, chance: random.Random) -> None:
        self.url = url + "/ws?" + ("batch=true&" if batch else "")
        self.events: list[dict[str, Any]] = []
        self.connections = 0
        self._chance = chance

    @property
    def last(self) -> int:
        return self.events[-1]["seq"] if self.events else 0

    async def stay(self) -> None:
        """Until cancelled."""
        while True:
            try:
                # an abrupt end is what is tried here: no closing handshake is waited for
                async with connect(f"{self.url}since={self.last}", close_timeout=0.1) as socket:
                    self.connections += 1
                    while self._chance.random() > IMPATIENCE:
                        message = json.loads(await socket.recv())
                        self.events += message if isinstance(message, list) else [message]
            except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError, EOFError):
                pass
            await asyncio.sleep(self._chance.random() * 0.3)


class Flock:
    """Clients in a thread of their own; every fifth takes arrays of events."""

    def __init__(self, port: int, count: int, chance: random.Random) -> None:
        seeds = [chance.randrange(10**9) for _ in range(count)]
        self.clients = [
            Client(f"ws://127.0.0.1:{port}", index % 5 == 0, random.Random(seed))
            for index, seed in enumerate(seeds)
        ]
        self._until: int | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()

    def join(self, last: int) -> list[Client]:
        """Wait until each client has got as far as event `last`, and send them home."""
        self._until = last
        self._thread.join(PATIENCE)
        return self.clients

    async def _live(self) -> None:
        tasks = [asyncio.create_task(client.stay()) for client in self.clients]
        while self._until is None or any(c.last < self._until for c in self.clients):
            for task in tasks:
                if task.done():
                    task.result()  # raises what went wrong
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
