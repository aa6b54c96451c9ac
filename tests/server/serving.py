"""A real uvicorn in a thread, and requests to it that no client library repairs."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

PATIENCE = 20.0
HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


@contextmanager
def serve(app: ASGIApp, **options: Any) -> Iterator[str]:
    """Serve `app` on a free port of 127.0.0.1; yields its URL."""
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=2, **options
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        # connections wait in the listener's queue until the server takes them
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        assert not thread.is_alive()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """A header's value, or an empty text."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} was sent {len(values)} times"
        return values[0] if values else ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["code"]


def ask(
    base: str,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | Iterator[bytes] | None = None,
    *,
    host: str | None = "",
    read: bool = True,
) -> Reply:
    """One request, exactly as written; `host` None sends no Host header.

    Without `read`, the body of an answer that is no error is left alone (it may never end).
    With `method` "WS" a WebSocket's handshake is sent: 101 says that it was taken.
    """
    url = urlsplit(base)
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=PATIENCE)
    try:
        verb = "GET" if method == "WS" else method
        connection.putrequest(verb, target, skip_host=True, skip_accept_encoding=True)
        if host is not None:
            connection.putheader("Host", host or url.netloc)
        for name, value in [*headers, *(HANDSHAKE if method == "WS" else [])]:
            connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None and not any(name.lower() == "content-length" for name, _ in headers):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body, encode_chunked=chunked)
        response = connection.getresponse()
        wanted = response.status != 101 and (read or response.status >= 400)
        return Reply(response.status, response.getheaders(), response.read() if wanted else b"")
    finally:
        connection.close()


def send_raw(base: str, request: bytes) -> bytes:
    """What the server answers to these bytes until it closes (or the request is answered)."""
    url = urlsplit(base)
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            head, found, rest = answer.partition(b"\r\n\r\n")
            length = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            if found and length and len(rest) >= length[0]:
                break
        return answer
