"""What the server answers by itself, before any route is asked: refusals and redirects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import Receive, Scope, Send

from tsuzuku.core.errors import TsuzukuError

Headers = list[tuple[bytes, bytes]]
POLICY_VIOLATION = 1008


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes = b""
    media: str = "application/json"
    headers: Iterable[tuple[str, str]] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. A WebSocket is refused with it before it is accepted."""
        prefix = ""
        if scope["type"] == "websocket":
            prefix = "websocket."
            await receive()  # the handshake, which comes before any answer
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                reason = HTTPStatus(self.status).phrase
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
                return
        headers: Headers = [
            (b"content-type", self.media.encode()),
            (b"content-length", str(len(self.body)).encode()),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers),
        ]
        body = b"" if scope.get("method") == "HEAD" else self.body
        await send(
            {"type": f"{prefix}http.response.start", "status": self.status, "headers": headers}
        )
        await send({"type": f"{prefix}http.response.body", "body": body})


class Refusal(TsuzukuError):
    """A request that goes no further; `status` is HTTP's."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail, hint, code=code)
        self.status = status
        self.headers = headers

    def answer(self) -> Answer:
        """As JSON: `detail`, `code`, `hint`."""
        body = {"detail": self.detail, "code": self.code, "hint": self.hint}
        text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return Answer(self.status, text, headers=self.headers)


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a request header, in their order; `name` in lower case."""
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def header(scope: Scope, name: bytes) -> str:
    """The first value of a request header, or an empty text."""
    return next(iter(header_values(scope, name)), "")
