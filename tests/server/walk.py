"""Tries every route of a running server with what must not get through.

    walk(url, *table(app.routes), token=token)

fails with a list of everything that did.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi.routing import APIRoute
from serving import Reply, ask
from starlette.routing import Mount, Route, WebSocketRoute

OPEN = frozenset({"/api/health"})
ADMITTED_NOT = (401, 403, 429)
# asked with the right token too: those that change nothing
HARMLESS = ("GET", "HEAD", "WS")


@dataclass(frozen=True)
class Attempt:
    """Headers and query of a request that has to be refused with `status` and one of `codes`."""

    name: str
    status: tuple[int, ...]
    codes: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    host: str = ""


def table(routes: Iterable[Any], prefix: str = "") -> tuple[list[tuple[str, str]], list[str]]:
    """All (method, path) pairs and the paths of all WebSockets, in mounted apps too.

    Raises AssertionError for a kind of route it does not know, so that none is left out.
    """
    pairs: list[tuple[str, str]] = []
    sockets: list[str] = []
    for route in routes:
        if hasattr(route, "original_router"):  # FastAPI's include_router
            inner = table(route.original_router.routes, prefix + route.include_context.prefix)
        elif isinstance(route, Mount):
            inner = table(route.routes, prefix + route.path)
            inner[0].append(("GET", f"{prefix}{route.path}/anything"))
            inner[1].append(f"{prefix}{route.path}/anything")
        elif isinstance(route, WebSocketRoute):
            inner = ([], [prefix + route.path])
        else:
            assert isinstance(route, Route | APIRoute), f"what is {route!r}?"
            # without methods, a route takes any
            methods = sorted(route.methods or ("GET", "POST", "PUT", "DELETE", "PATCH"))
            inner = ([(method, prefix + route.path) for method in methods], [])
        pairs += inner[0]
        sockets += inner[1]
    return pairs, sockets


def attempts(base: str, token: str | None) -> tuple[list[Attempt], list[Attempt]]:
    """Those with a wrong token (none if the server asks for none), and those from elsewhere."""
    wrong = "x" * 40
    port = urlsplit(base).port
    right = (("Authorization", f"Bearer {token}"),) if token else ()
    bad = ((401, 429), ("wrong_token", "too_many_wrong_tokens"))
    tokens = [
        Attempt("no token", (401,), ("no_token",)),
        Attempt("wrong bearer", *bad, (("Authorization", f"Bearer {wrong}"),)),
        Attempt("wrong query", *bad, query=f"?token={wrong}"),
        Attempt("wrong cookie", *bad, (("Cookie", f"tsuzuku-{port}=9999999999.{'0' * 64}"),)),
        Attempt("right and wrong", *bad, right, query=f"?token={wrong}"),
        Attempt("another scheme", (401,), ("no_token",), (("Authorization", f"Basic {token}"),)),
    ]
    origin = ((403,), ("foreign_origin",))
    site = (("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"))
    places = [
        Attempt("foreign Origin", *origin, (*right, ("Origin", "https://evil.example"))),
        Attempt("null Origin", *origin, (*right, ("Origin", "null"))),
        Attempt("Origin of another port", *origin, (*right, ("Origin", "http://127.0.0.1:1"))),
        Attempt("another site's fetch", *origin, (*right, *site)),
        Attempt("foreign Host", (403,), ("foreign_host",), right, host=f"evil.example:{port}"),
    ]
    return (tokens if token else []), places


def walk(
    base: str,
    routes: Iterable[tuple[str, str]],
    sockets: Iterable[str] = (),
    *,
    token: str | None,
    open_paths: frozenset[str] = OPEN,
) -> int:
    """Ask all of them; returns how many requests were refused.

    `routes` are (method, path) pairs; `{parameters}` are filled in. `open_paths` need no token.
    """
    wrong, elsewhere = attempts(base, token)
    right = [("Authorization", f"Bearer {token}")] if token else []
    faults: list[str] = []
    refused = 0
    for method, template in [*routes, *(("WS", path) for path in sockets)]:
        path = re.sub(r"\{[^}]+\}", "x", template)
        for attempt in [*([] if path in open_paths else wrong), *elsewhere]:
            reply = ask(base, method, path + attempt.query, attempt.headers, host=attempt.host)
            refused += 1
            if fault := _fault(method, reply, attempt):
                faults.append(f"{method} {path} with {attempt.name}: {fault}")
        if method in HARMLESS:
            reply = ask(base, method, path, right, read=False)
            # a mounted app without WebSockets closes them with an empty 403
            if reply.status in ADMITTED_NOT and reply.body:
                faults.append(f"{method} {path} with all that is needed: {reply}")
    assert not faults, "\n".join(faults)
    return refused


def _fault(method: str, reply: Reply, attempt: Attempt) -> str:
    if reply.status not in attempt.status:
        return f"{reply.status} instead of {attempt.status}: {reply.body[:200]!r}"
    if method != "HEAD" and reply.code not in attempt.codes:
        return f"code {reply.code!r} instead of {attempt.codes}"
    return ""
