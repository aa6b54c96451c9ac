"""The headers that every response has, and which other sites may read it."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from tsuzuku.server.origins import Origins
from tsuzuku.server.refusal import Answer, Headers, header

SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
NOT_STORED = (b"cache-control", b"no-store")
# no Allow-Credentials: a page of another site shows the token itself
SHARED = (b"access-control-expose-headers", b"X-Request-ID, Retry-After")
PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, X-Request-ID"),
    (b"access-control-max-age", b"600"),
]
PREFLIGHT_ANSWER = Answer(200, media="text/plain; charset=utf-8")
RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what a page of another site may do, before it lets it."""
    return scope.get("method") == "OPTIONS" and bool(
        header(scope, b"access-control-request-method")
    )


def with_headers(scope: Scope, send: Send, origins: Origins) -> Send:
    """`send`, adding what a response lacks. CORS headers of the app below are replaced."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    wanted = [*SECURITY, NOT_STORED] if f"{path}/".startswith("/api/") else SECURITY
    cors = _cors(scope, origins)

    async def sending(message: Message) -> None:
        if message["type"] in RESPONSE_STARTS:
            # a mounted app does not decide which sites may read its answers
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if not name.lower().startswith(b"access-control-")
            ]
            names = {name.lower() for name, _ in kept}
            added = [(name, value) for name, value in wanted if name not in names]
            message = {**message, "headers": [*kept, *added, *cors]}
        await send(message)

    return sending


def _cors(scope: Scope, origins: Origins) -> Headers:
    if not origins:
        return []
    found: Headers = [(b"vary", b"Origin")]
    if origins.allows(scope):
        origin = header(scope, b"origin").encode("latin-1")
        found += [(b"access-control-allow-origin", origin), SHARED]
        found += PREFLIGHT if is_preflight(scope) else []
    return found
