"""`tsuzuku serve`: the server as a process."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from tsuzuku.core.errors import Busy, TsuzukuError
from tsuzuku.core.lock import RunLock
from tsuzuku.core.workspace import Workspace
from tsuzuku.server import logs
from tsuzuku.server.app import create_app
from tsuzuku.server.frames import FramesProtocol
from tsuzuku.server.tokens import token_for

MAX_FRAME = 1 << 20
"""Bytes of a WebSocket message from a client."""

GOODBYE = 5
"""Seconds that requests may take to end when the server does."""


def serve(
    workspace: Workspace,
    host: str | None = None,
    port: int | None = None,
    *,
    dashboard: bool = True,
) -> int:
    """Serve a workspace until SIGINT or SIGTERM, which is 0; trainings go on after that.

    Raises WrongInput for a folder that is no workspace or wrong settings, Busy where another
    server has this workspace already, TsuzukuError where the address cannot be had.
    """
    settings = workspace.config().settings.server
    host, port = host or settings.host, port or settings.port
    token, made = token_for(workspace, settings, host)
    logs.configure()
    here = f"http://{_own_name(host)}:{port}" if dashboard else None
    app = create_app(workspace, host=host, token=token, dashboard=here)
    # not before the app is made, which may make the database again: that looks at this lock, and
    # to close the file of a lock that one holds oneself is to release it
    lock = _take(workspace)
    try:
        listening = _listen(host, port)
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            ws=FramesProtocol,
            ws_max_size=MAX_FRAME,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GOODBYE,
            timeout_keep_alive=30,
        )
        _greet(host, listening.getsockname()[1], token, made, workspace)
        server = uvicorn.Server(config)
        with _ended_by_signals(server):
            server.run(sockets=[listening])
    finally:
        lock.release()
    return 0


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Generator[None]:
    """SIGINT and SIGTERM end the server, from before it takes signals itself until after it has
    ended: uvicorn raises what it got once more then, and the process would die of it."""

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _take(workspace: Workspace) -> RunLock:
    workspace.outputs.mkdir(parents=True, exist_ok=True)
    lock = RunLock(workspace.outputs / ".server.lock")
    try:
        lock.acquire()
    except Busy:
        raise Busy(
            f"Another server has the workspace {workspace.root} already.",
            "Use that one, or stop it first.",
            code="already_serving",
        ) from None
    return lock


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that an address that is taken is said at once and in a sentence."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise TsuzukuError(
            f"The server cannot listen on {host} port {port}: {error.strerror or error}.",
            "`--port` names another one.",
            code="address_in_use",
        ) from None
    return listening


def _own_name(host: str) -> str:
    """Where a server that listens on `host` is reached from its own machine."""
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{own}]" if ":" in own else own


def _greet(host: str, port: int, token: str | None, made: bool, workspace: Workspace) -> None:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    url = f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
    lines = [f"Tsuzuku serves {workspace.root} at {url}"]
    if token is not None and made:
        lines += [
            f"Its token is shown only now, and kept in {workspace.outputs / 'server-token'}:",
            f"  {url}?token={token}",
        ]
    elif token is not None:
        lines.append("It asks for its token: log in with it, or send `Authorization: Bearer`.")
    print("\n".join(lines), file=sys.stderr, flush=True)
