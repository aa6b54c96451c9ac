"""The server's log: one JSON object a line, and one line for every request.

A line break, an escape sequence or a token that a client sends never gets into it as such.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tsuzuku.server.headers import SECURITY
from tsuzuku.server.refusal import Refusal, header

access = logging.getLogger("tsuzuku.access")
server = logging.getLogger("tsuzuku.server")
request_id: ContextVar[str] = ContextVar("request_id", default="")

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST = 500
CLIENT_WENT = 499
_TOKEN = re.compile(r"""(?i)(\btoken=|\bbearer\s+|\btsuzuku-\d+=)[^&\s"';,]+""")
# what json leaves as it is, and terminals or log readers take for a command or a line break
_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UVICORNS_OWN = (
    '%s - "WebSocket %s"',
    "connection open",
    "connection closed",
    # said, wrongly, of every WebSocket that is refused with an answer
    "ASGI callable returned without completing handshake",
)


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, and what `extra={"fields"}` has."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= getattr(record, "fields", {})
        if "request_id" not in line and request_id.get():
            line["request_id"] = request_id.get()
        if record.exc_info:
            line["exception"] = redacted(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = redacted(record.stack_info)
        text = json.dumps(line, ensure_ascii=False, default=repr)
        return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def redacted(text: str) -> str:
    """`text` without tokens in queries, headers and cookies."""
    return _TOKEN.sub(r"\1...", text)


def configure(level: str | int = "INFO", stream: TextIO | None = None) -> None:
    """Let every logger write JSON lines to `stream` (standard error).

    uvicorn has to be started with `log_config=None, access_log=False`.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
        logger.setLevel(logging.NOTSET)
    errors = logging.getLogger("uvicorn.error")
    errors.removeFilter(_not_said_twice)
    errors.addFilter(_not_said_twice)
    # one line for every request of ours to ourselves would say nothing new
    for name in ("httpx", "httpcore", "websockets", "multipart"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _not_said_twice(record: logging.LogRecord) -> bool:
    """Drops uvicorn's lines about WebSockets, queries included: ours say the same."""
    return not str(record.msg).startswith(_UVICORNS_OWN)


def internal_error(request: Request, error: Exception) -> JSONResponse:
    """A Starlette handler for `Exception`: 500 that says nothing of the exception.

    The exception itself is raised on by Starlette, and logged by AccessLog.
    """
    refusal = _internal(request.scope)
    content = {"detail": refusal.detail, "code": refusal.code, "hint": refusal.hint}
    return JSONResponse(content, refusal.status)


@dataclass
class _Seen:
    status: int = 0


class AccessLog:
    """The outermost layer: gives each request an id, logs it, and answers 500 for what raises.

    The id is in `scope["state"]["request_id"]`, in every log line meanwhile, and on the response
    as `X-Request-ID`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = header(scope, b"x-request-id")
        own_id = given if SANE_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = own_id
        context = request_id.set(own_id)
        began = time.perf_counter()
        # kept now: routers below change the scope
        asked = {"method": scope.get("method", "WEBSOCKET"), "path": scope["path"][:LONGEST]}
        seen = _Seen()

        async def watched(message: Message) -> None:
            started = _status(message, seen.status)
            if started and not seen.status:
                seen.status = started
                if message["type"] != "websocket.close":
                    headers = [*message.get("headers", []), (b"x-request-id", own_id.encode())]
                    message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except (ClientDisconnect, WebSocketDisconnect):
            # Starlette answers 500 to nobody before it raises this on
            seen.status = CLIENT_WENT if seen.status == 500 else seen.status
        except Exception:
            server.exception("%s %s failed", asked["method"], asked["path"])
            if not seen.status:
                await _internal(scope).answer()(scope, receive, watched)
            elif seen.status == 101:
                await _close_broken(send)
        finally:
            taken = round((time.perf_counter() - began) * 1000, 1)
            _log_access(scope, asked, own_id, seen.status or CLIENT_WENT, taken)
            request_id.reset(context)


def _log_access(
    scope: Scope, asked: dict[str, str], own_id: str, status: int, milliseconds: float
) -> None:
    client = scope.get("client")
    fields = {
        "request_id": own_id,
        **asked,
        "status": status,
        "ms": milliseconds,
        "client": str(client[0]) if client else "",
    }
    level = logging.ERROR if status >= 500 else logging.INFO
    access.log(level, "%s %s %d", *asked.values(), status, extra={"fields": fields})


def _status(message: Message, before: int) -> int:
    """HTTP's status when `message` begins a response, else 0."""
    match message["type"]:
        case "http.response.start" | "websocket.http.response.start":
            return int(message["status"])
        case "websocket.accept":
            return 101
        case "websocket.close" if not before:
            return 403  # what servers make of a close before the handshake is done
        case _:
            return 0


async def _close_broken(send: Send) -> None:
    try:
        await send({"type": "websocket.close", "code": 1011, "reason": "internal error"})
    except Exception:  # it was closed already
        return


def _internal(scope: Scope) -> Refusal:
    own_id = scope.get("state", {}).get("request_id", "")
    return Refusal(
        500,
        "internal",
        "Something went wrong in the server.",
        f"Its log says what, under request id {own_id}.",
        [(name.decode(), value.decode()) for name, value in SECURITY],
    )
