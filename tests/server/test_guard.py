"""Every route and socket of a real server, tried with what must not get through."""

from __future__ import annotations

import asyncio
import re

import pytest
from fastapi import APIRouter, FastAPI
from guarded_app import (
    BEARER,
    EVERYWHERE,
    HTML,
    LOCAL,
    MOUNTED,
    TOKEN,
    Served,
    bare_broken,
    build,
    page,
    talk,
)
from serving import send_raw, serve
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Message
from walk import table, walk

from tsuzuku.core.errors import WrongInput
from tsuzuku.server.guard import Guard, Policy

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
ROUTES = [
    ("GET", "/"),
    *((method, "/api/echo") for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")),
    ("POST", "/api/inference"),
    ("GET", "/api/health"),
    ("GET", "/dash/page"),
    ("GET", "/api/files/{name:path}"),
    ("GET", "/no/such/route"),
]
SOCKETS = ["/ws", "/dash/stream"]


def test_nothing_gets_past_a_server_with_a_token(everywhere: Served) -> None:
    refused = walk(everywhere.url, ROUTES, SOCKETS, token=TOKEN)
    assert refused == (len(ROUTES) + len(SOCKETS) - 1) * 11 + 5
    harmless = sum(method in ("GET", "HEAD") for method, _ in ROUTES) + len(SOCKETS)
    assert len(everywhere.counter.reached) == harmless


def test_nothing_foreign_gets_past_a_local_server(local: Served) -> None:
    assert walk(local.url, ROUTES, SOCKETS, token=None) == (len(ROUTES) + len(SOCKETS)) * 5


def test_the_table_has_every_kind_of_route() -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    router = APIRouter(prefix="/b")
    router.add_api_route("/c/{id}", page, methods=["DELETE", "GET"])
    router.add_api_websocket_route("/s", talk)
    outer = APIRouter()
    outer.include_router(router, prefix="/a")
    app.include_router(outer, prefix="/api")
    app.router.routes.append(Mount("/dash", Starlette(routes=MOUNTED)))
    pairs, sockets = table(app.routes)
    assert {("DELETE", "/api/a/b/c/{id}"), ("GET", "/dash/page")} < set(pairs)
    assert {"/api/a/b/s", "/dash/stream"} < set(sockets)
    for method, path in pairs:  # they are where the table says
        with TestClient(app) as client:
            answer = client.request(method, path.replace("{id}", "1"))
            assert answer.status_code in ((404,) if path.endswith("anything") else (200, 422))
    with pytest.raises(AssertionError, match="what is"):
        table([object()])


def test_the_walk_notices_a_route_beside_the_guard() -> None:
    app, _ = build(EVERYWHERE)

    async def leaky(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        inner = app.app.app if scope.get("path") == "/dash/stream" else app  # type: ignore[attr-defined]
        await inner(scope, receive, send)

    with serve(leaky) as url, pytest.raises(AssertionError) as caught:
        walk(url, ROUTES[:2], SOCKETS, token=TOKEN)
    faults = str(caught.value)
    assert faults.count("WS /dash/stream with") == 11
    assert "/ws " not in faults
    assert "GET" not in faults


def test_every_answer_has_the_headers(everywhere: Served) -> None:
    cases = [
        ("GET", "/", [BEARER]), ("GET", "/api/echo", [BEARER]), ("GET", "/dash/page", [BEARER]),
        ("GET", "/nothing", [BEARER]), ("GET", "/api/echo", []), ("WS", "/ws", []),
        ("GET", "/api/broken", [BEARER]), ("GET", "/login", []), ("GET", "/", [HTML]),
        ("GET", "/api/echo", [("Origin", "null")]), ("GET", "/api/;", []), ("WS", "/no", [BEARER]),
    ]  # fmt: skip
    for method, path, headers in cases:
        reply = everywhere.ask(method, path, *headers)
        if (method, path, reply.status) == ("WS", "/no", 403):
            continue  # uvicorn's own answer to a WebSocket nobody took
        assert {name: reply[name] for name in SECURITY} == SECURITY, path
        assert re.fullmatch("[0-9a-f]{16}", reply["X-Request-ID"])
        assert path[:5] != "/api/" or reply["Cache-Control"] == "no-store"


@pytest.mark.parametrize("given", ["abc-1.2_X", "x" * 64])
def test_a_sane_request_id_is_kept(local: Served, given: str) -> None:
    reply = local.ask("GET", "/api/echo", ("X-Request-ID", given))
    assert reply["X-Request-ID"] == reply.json["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a<b>", 'a"b', "ä"])
def test_any_other_request_id_is_replaced(local: Served, given: str) -> None:
    request = f"GET /api/echo HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {given}\r\n\r\n"
    answer = send_raw(local.url, request.encode())
    found = re.search(rb"(?i)\r\nx-request-id: ([0-9a-f]{16})\r\n", answer)
    assert found


def test_an_open_server_needs_a_token() -> None:
    for host in ("0.0.0.0", "", "192.168.1.5", "::"):
        with pytest.raises(WrongInput, match="needs a token"):
            Guard(bare_broken, Policy(host=host))
    for token in ("", "short", " " * 40):
        with pytest.raises(WrongInput, match="shorter than 16"):
            Guard(bare_broken, Policy(host="127.0.0.1", token=token))


async def _nothing() -> Message:
    return {"type": "websocket.connect"}


def test_a_websocket_without_http_answers_is_closed() -> None:
    """For servers that cannot answer a handshake: uvicorn can, so the messages are read here."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(dict(message))

    scope = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "query_string": b"",
             "headers": [(b"host", b"evil.example")], "scheme": "ws"}  # fmt: skip
    asyncio.run(Guard(bare_broken, LOCAL)(scope, _nothing, send))
    assert [(m["type"], m["code"]) for m in sent] == [("websocket.close", 1008)]
