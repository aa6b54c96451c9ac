"""HTTP servers on this machine that downloads come from: honest, broken and hostile ones."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Serves `files` with ranges; each fault makes it lie or fail in one way."""

    daemon_threads = True

    def __init__(self, **faults: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults = faults
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.go_on = threading.Event()
        """Until it is set, `stall_after` so many bytes of an answer no more are sent."""
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        faults, files = self.server.faults, self.server.files
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        self.server.seen.append((self.path, asked, condition))
        number = len(self.server.seen)
        if number <= faults.get("busy_first", 0):
            return self.answer(503, b"")
        if "redirect" in faults:
            return self.answer(302, b"", {"Location": faults["redirect"] + self.path})
        if self.path not in files:
            return self.answer(404, b"no")
        body = files[self.path]
        tag = '"' + hashlib.md5(body).hexdigest() + '"'
        headers = {"ETag": tag}
        if asked and not faults.get("no_ranges") and condition in (None, tag):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(body) or faults.get("always_416"):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            shown = faults.get("wrong_start", start)
            headers["Content-Range"] = f"bytes {shown}-{len(body) - 1}/{len(body)}"
            return self.answer(206, body[start:], headers, number)
        return self.answer(200, body, headers, number)

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, number: int = 0
    ) -> None:
        faults = self.server.faults
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if not faults.get("no_length"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = faults.get("cut_after") if number and number <= faults.get("cuts", 10**6) else None
        with contextlib.suppress(OSError):  # the client may refuse to read on
            if stall := faults.get("stall_after"):
                self.wfile.write(body[:stall])
                self.wfile.flush()
                self.server.go_on.wait(60)
                body = body[stall:]
            self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def mirrors() -> Iterator[Callable[..., Server]]:
    """Starts servers, each with the faults it is given; ends them all."""
    servers: list[Server] = []

    def start(**faults: Any) -> Server:
        servers.append(Server(**faults))
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            server.go_on.set()
            server.shutdown()
            server.server_close()
