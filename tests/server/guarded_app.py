"""A small application behind the guard: routes, a WebSocket, and a mounted app with its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from serving import Reply, ask, serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from tsuzuku.server.guard import Guard, Policy
from tsuzuku.server.logs import AccessLog, internal_error

TOKEN = "a-token-for-the-tests-0123456789"
SECRET = "the server's own business"
MAX_BODY = 1000
MAX_UPLOAD = 200_000
LAB = "https://lab.example.com:8443"
LOCAL = Policy(
    host="127.0.0.1",
    allowed_hosts=["training.example.com"],
    allowed_origins=[LAB],
    max_body=MAX_BODY,
    max_upload=MAX_UPLOAD,
)
EVERYWHERE = replace(LOCAL, host="0.0.0.0", token=TOKEN)
BEARER = ("Authorization", f"Bearer {TOKEN}")
HTML = ("Accept", "text/html,application/xhtml+xml")


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "path": request.url.path,
            "query": request.url.query,
            "body": len(body),
            "request_id": request.state.request_id,
        }
    )


async def forgiving(request: Request) -> Response:
    """Answers 400 to whatever goes wrong with the body, as FastAPI does."""
    try:
        await request.body()
    except Exception:
        return PlainTextResponse("There was an error parsing the body", 400)
    return PlainTextResponse("fine")


READ: list[int] = []


async def greedy(request: Request) -> Response:
    """Goes on reading whatever happens, and notes how many bytes it was given."""
    READ.append(0)
    async for part in request.stream():
        READ[-1] += len(part)
    return PlainTextResponse("full")


async def page(request: Request) -> Response:
    return Response("<h1>page</h1>", media_type="text/html")


async def broken(request: Request) -> Response:
    raise RuntimeError(SECRET)


async def shared(request: Request) -> Response:
    headers = {"Access-Control-Allow-Origin": "*", "X-Frame-Options": "DENY"}
    return PlainTextResponse("to all", headers=headers)


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"hello {socket.url.query}")
    await socket.close()


async def broken_talk(socket: WebSocket) -> None:
    await socket.accept()
    raise RuntimeError(SECRET)


async def broken_handshake(socket: WebSocket) -> None:
    raise RuntimeError(SECRET)


async def bare_broken(scope: Scope, receive: Receive, send: Send) -> None:
    """An app without Starlette's own error page."""
    raise RuntimeError(SECRET)


MOUNTED: list[BaseRoute] = [
    Route("/page", page),
    Route("/shared", shared),
    WebSocketRoute("/stream", talk),
]
ROUTES: list[BaseRoute] = [
    Route("/", page, methods=["GET"]),
    Route("/api/health", page),
    Route("/api/echo", echo, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    Route("/api/forgiving", forgiving, methods=["POST"]),
    Route("/api/greedy", greedy, methods=["POST"]),
    Route("/api/inference", echo, methods=["POST"]),
    Route("/api/broken", broken),
    Route("/api/files/{name:path}", echo),
    WebSocketRoute("/ws", talk),
    WebSocketRoute("/ws/broken", broken_talk),
    WebSocketRoute("/ws/unready", broken_handshake),
    Mount("/dash", Starlette(routes=MOUNTED)),
]


class Counter:
    """Counts what reaches the application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.reached: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self.reached.append(scope["path"])
        await self.app(scope, receive, send)


def build(policy: Policy) -> tuple[ASGIApp, Counter]:
    """The application as it is served, and the counter inside the guard."""
    app = Starlette(routes=ROUTES, exception_handlers={Exception: internal_error})
    counter = Counter(app)
    return AccessLog(Guard(counter, policy)), counter


@dataclass(frozen=True)
class Served:
    url: str
    counter: Counter

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def ask(self, method: str, target: str, *headers: tuple[str, str], **rest: object) -> Reply:
        return ask(self.url, method, target, headers, **rest)  # type: ignore[arg-type]

    def status(self, method: str, target: str, *headers: tuple[str, str], **rest: object) -> int:
        """The status, after seeing that what was refused did not reach the application."""
        before = len(self.counter.reached)
        reply = self.ask(method, target, *headers, **rest)
        refused = reply.status in (401, 403, 429) or reply.body.startswith(b'{"detail"')
        assert (len(self.counter.reached) == before) == refused
        return reply.status


@contextmanager
def served(policy: Policy) -> Iterator[Served]:
    """That application behind the guard, on a real socket."""
    app, counter = build(policy)
    with serve(app) as url:
        yield Served(url, counter)
