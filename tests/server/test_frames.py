"""Frames as clients read them, and the protocol at its limits, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from streaming import SOON, logs, serving, take
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.frames import FramesProtocol, framed

SIZES = st.one_of(st.sampled_from([0, 125, 126, 65535, 65536, 70000]), st.integers(0, 70000))


@given(sizes=st.lists(SIZES, max_size=4))
def test_every_client_reads_what_was_framed(sizes: list[int]) -> None:
    texts = [bytes([97 + number % 26]) * size for number, size in enumerate(sizes)]
    client = Protocol(CLIENT, state=OPEN)
    client.receive_data(b"".join(map(framed, texts)))
    frames: list[Any] = client.events_received()
    assert [bytes(frame.data) for frame in frames] == texts
    assert all(frame.opcode is Opcode.TEXT and frame.fin for frame in frames)


def deaf(port: int, path: str = "/ws?since=0", receive_buffer: int = 4096) -> socket.socket:
    """A client that shakes hands and never reads again."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(SOON)
    client.connect(("127.0.0.1", port))
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert client.recv(12) == b"HTTP/1.1 101"
    return client


class Watched(FramesProtocol):
    """Keeps the most that was ever waiting to be sent to somebody."""

    patience = 0.5
    most = 0
    lost = 0

    def pause_writing(self) -> None:
        super().pause_writing()
        Watched.most = max(Watched.most, self.transport.get_write_buffer_size())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        Watched.lost += 1


def test_who_does_not_read_is_dropped_and_harms_nobody(workspace: Workspace, store: Store) -> None:
    stored = store.append(logs(*range(3000), size=2000))

    async def reads_all(url: str) -> None:
        async with connect(f"{url}?since=0") as client:
            assert [e["seq"] for e in await take(client, 3000)] == [e.seq for e in stored]
            more = store.append(logs(1, 2, 3))
            assert [e["seq"] for e in await take(client, 3)] == [e.seq for e in more]

    async def dropped() -> None:
        async with asyncio.timeout(SOON):
            while Watched.lost < 3:
                await asyncio.sleep(0.01)

    Watched.most = Watched.lost = 0
    with serving(workspace, ws=Watched, ws_ping_interval=None) as served:
        not_reading = [deaf(served.port) for _ in range(2)]
        asyncio.run(reads_all(served.url))
        asyncio.run(dropped())  # the one who read, and then they
        for client in not_reading:
            received = 0
            while chunk := client.recv(1 << 20):
                received += len(chunk)
            assert received < 1 << 20, "the end came after all that there was"
            client.close()
    assert 0 < Watched.most <= 1 << 20


def test_who_reads_slowly_is_not_dropped_and_misses_nothing(
    workspace: Workspace, store: Store
) -> None:
    class Impatient(FramesProtocol):
        patience = 0.2
        send_buffer = 4096

    stored = store.append(logs(*range(150), size=2000))
    with serving(workspace, ws=Impatient) as served:
        client = deaf(served.port)
        parser, got = Protocol(CLIENT, state=OPEN), 0
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        while got < len(stored):
            chunk = client.recv(16384)
            assert chunk, "it was dropped"
            parser.receive_data(chunk)
            got += len(parser.events_received())
            time.sleep(0.02)  # so that the whole takes much longer than the patience
        client.close()


def test_pings_that_nobody_reads_the_answers_of_fill_no_memory(
    workspace: Workspace, store: Store
) -> None:
    """Otherwise each would add a pong to what waits to be sent."""

    class Counting(FramesProtocol):
        sizes: list[int] = []  # noqa: RUF012

        def handle_ping(self) -> None:
            super().handle_ping()
            Counting.sizes.append(self.transport.get_write_buffer_size())

    store.append(logs(*range(3000), size=2000))
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    with serving(workspace, ws=Counting) as served:
        client = deaf(served.port)
        for _ in range(200):
            client.sendall(ping * 100)
        while len(Counting.sizes) < 20_000:
            time.sleep(0.01)
        client.close()
    assert Counting.sizes[-1] <= 1 << 20
    assert Counting.sizes[-1] == Counting.sizes[-10_000]


def test_pings_are_answered(workspace: Workspace, store: Store) -> None:
    async def main(url: str) -> None:
        async with connect(url, ping_interval=None) as client, asyncio.timeout(SOON):
            await (await client.ping())

    with serving(workspace) as served:
        asyncio.run(main(served.url))


def test_the_server_pings_and_drops_who_does_not_answer(workspace: Workspace, store: Store) -> None:
    class Leaving(FramesProtocol):
        leave = 0.1

    with serving(workspace, ws=Leaving, ws_ping_interval=0.1, ws_ping_timeout=0.1) as served:
        client = deaf(served.port, "/ws", receive_buffer=65536)
        received = b""
        while chunk := client.recv(4096):
            received += chunk
        client.close()
    _, _, frames = received.partition(b"\r\n\r\n")
    assert frames.startswith(b"\x89\x04")  # a ping
    assert b"keepalive ping timeout" in frames


def test_shutdown_says_that_the_server_restarts(workspace: Workspace, store: Store) -> None:
    async def main(url: str, stop: Any) -> int:
        async with connect(url) as client, asyncio.timeout(SOON):
            stop()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code

    with serving(workspace) as served:
        assert asyncio.run(main(served.url, served.stop)) == 1012


def test_shutdown_does_not_wait_for_who_does_not_read(workspace: Workspace, store: Store) -> None:
    class Leaving(FramesProtocol):
        leave = 0.1

    store.append(logs(*range(3000), size=2000))
    with serving(workspace, ws=Leaving) as served:
        client = deaf(served.port)
    client.close()  # `serving` has seen that the server ended


def test_no_token_gets_into_the_log(
    workspace: Workspace, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(url: str) -> None:
        async with connect(f"{url}?token=secret-token"):
            pass

    with caplog.at_level(logging.INFO), serving(workspace) as served:
        asyncio.run(main(served.url))
    assert "secret-token" not in caplog.text
