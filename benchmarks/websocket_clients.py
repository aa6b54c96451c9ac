"""Many WebSocket clients in one process, which cost as little as they can (see websocket_load).

Commands come on stdin, one a line; each is answered by a line of JSON on stdout.

open COUNT          connect that many, each from now on
report              latencies since the last report, and whether every client has every event
close               disconnect all
replay SINCE LAST QUERY   connect one, and read until event LAST
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from array import array
from typing import Any

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
TEXT = 0x81
SEQ, TIME = b'"seq":', b'"time":'


class Arrived:
    """What one chunk of bytes holds; nearly all clients get the same chunks.

    Of a chunk of many messages, and of a batch, only the first and the last event are looked at.
    """

    __slots__ = ("complete", "first", "last", "rest", "times")

    def __init__(self, data: bytes) -> None:
        bounds: list[tuple[int, int]] = []
        at, end = 0, len(data)
        while at + 2 <= end:
            size, begins = data[at + 1], at + 2
            if size == 126:
                size, begins = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, begins = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if begins + size > end:
                break
            if data[at] == TEXT:  # not a ping
                bounds.append((begins, begins + size))
            at = begins + size
        self.rest = data[at:]
        self.first = self.last = 0
        self.times: list[float] = []
        self.complete = True
        if not bounds:
            return
        self.first, self.last = _seq(data, *bounds[0], False), _seq(data, *bounds[-1], True)
        batch = data[bounds[0][0]] == ord("[")
        self.complete = batch or self.last - self.first + 1 == len(bounds)
        looked_at = bounds if len(bounds) < 50 else [bounds[0], bounds[-1]]
        for begins, ends in looked_at:
            where = data.rindex(TIME, begins, ends) + len(TIME)
            self.times.append(float(data[where:ends].rstrip(b"]}")))


def _seq(data: bytes, begins: int, ends: int, last: bool) -> int:
    """The number of the first or the last event of a message."""
    find = data.rindex if last else data.index
    where = find(SEQ, begins, ends) + len(SEQ)
    return int(data[where : data.index(b",", where)])


class Load:
    """What all clients of this process have seen."""

    def __init__(self) -> None:
        self.latencies = array("d")
        self.gaps = 0
        self.chunks: dict[bytes, Arrived] = {}
        self.clients: list[Client] = []

    def arrived(self, data: bytes) -> Arrived:
        found = self.chunks.get(data)
        if found is None:
            if len(self.chunks) > 256:
                self.chunks.clear()
            found = self.chunks[data] = Arrived(data)
        return found


class Client(asyncio.Protocol):
    def __init__(self, load: Load, port: int, query: str, until: int = 0) -> None:
        self.load, self.port, self.query, self.until = load, port, query, until
        loop = asyncio.get_running_loop()
        self.open: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[float] = loop.create_future()
        self.rest, self.last = b"", 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(
            f"GET /ws{self.query} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{KEY}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        now = time.time()
        if self.rest:
            data, self.rest = self.rest + data, b""
        if not self.open.done():
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self.rest = head
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self.open.set_result(None)
        if not data:
            return
        got = self.load.arrived(data)
        self.rest = got.rest
        if got.times:
            if not got.complete or (self.last and got.first != self.last + 1):
                self.load.gaps += 1
            self.last = got.last
            self.load.latencies.extend([now - sent for sent in got.times])
            if got.last == self.until:
                self.done.set_result(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_exception(exc or ConnectionError("refused"))


async def connect(load: Load, port: int, query: str = "", until: int = 0) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(
        lambda: Client(load, port, query, until), "127.0.0.1", port
    )
    await client.open
    return client


async def obey(load: Load, port: int, command: str, *words: str) -> dict[str, Any]:
    match command:
        case "open":
            began = time.perf_counter()
            while (missing := int(words[0]) - len(load.clients)) > 0:
                wanted = [connect(load, port) for _ in range(min(50, missing))]
                load.clients += await asyncio.gather(*wanted)
            return {"seconds": time.perf_counter() - began}
        case "report":
            latencies, load.latencies = sorted(load.latencies), array("d")
            at = {str(p): latencies[int((len(latencies) - 1) * p / 100)] for p in (50, 99, 100)}
            ends = {client.last for client in load.clients}
            return {"count": len(latencies), "gaps": load.gaps, "ends": len(ends), **at}
        case "close":
            for client in load.clients:
                client.transport.close()
            load.clients = []
            load.latencies = array("d")
            return {}
        case "replay":
            since, last, query = words
            began = time.time()
            client = await connect(load, port, f"?since={since}{query[1:]}", int(last))
            ended = await client.done
            client.transport.close()
            gaps, load.gaps, load.latencies = load.gaps, 0, array("d")
            return {"seconds": ended - began, "gaps": gaps}
    raise ValueError(command)


async def main(port: int) -> None:
    load = Load()
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await obey(load, port, *line.split())), flush=True)


if __name__ == "__main__":
    import uvloop

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(main(int(sys.argv[1])))
