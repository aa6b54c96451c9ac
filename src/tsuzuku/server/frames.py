"""WebSocket frames that are made once for many clients, and the protocol that sends them.

Given to uvicorn as `Config(ws=FramesProtocol, **WEBSOCKETS)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import MutableMapping
from typing import Any, cast

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "tsuzuku.frames"
"""In `scope["extensions"]` where `{"type": "websocket.send", "frames": bytes}` is understood."""

WEBSOCKETS: dict[str, Any] = {
    "ws_ping_interval": 20.0,
    "ws_ping_timeout": 20.0,
    # Compressing for each client anew would cost more than all the rest of sending.
    "ws_per_message_deflate": False,
}
"""What uvicorn's Config needs besides the protocol."""

_TEXT = 0x81
"""First byte of a text frame that is a whole message."""

# uvicorn writes the query, where a token may be, into its log at INFO.
_log = logging.getLogger("uvicorn.error.websocket")
_log.setLevel(logging.WARNING)


def framed(text: bytes) -> bytes:
    """A text message as a server sends it: one frame, not masked, not compressed."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + text
    return b"\x81\x7f" + size.to_bytes(8, "big") + text


class FramesProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which also takes ready frames, and gives up on clients that do not read."""

    patience = 30.0
    """Seconds after which a client that has read nothing, while there was something, is dropped."""

    leave = 2.0
    """Seconds that a client has for reading the last that was sent to it."""

    send_buffer = 1 << 17
    """Bytes that the kernel may keep for a client; it uses up to twice as many."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _log
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        if (connected := transport.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):  # a UNIX socket may not know it
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            scope = cast("MutableMapping[str, Any]", self.scope)
            scope["extensions"] = {**scope["extensions"], EXTENSION: {}}

    async def send(self, message: ASGISendEvent) -> None:
        frames = cast("MutableMapping[str, Any]", message).get("frames")
        if frames is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(frames)

    def handle_ping(self) -> None:
        # Who sends pings and reads no pongs would fill the memory with them.
        output = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(output)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        self._leave()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._leave()

    def _leave(self) -> None:
        # Closing alone waits for ever for one who does not read what is still to be sent.
        self.loop.call_later(self.leave, self.transport.abort)

    def _watch(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.patience, self._judge, left)

    def _unwatch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _judge(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch()  # slow, but it reads
        else:
            self.transport.abort()
