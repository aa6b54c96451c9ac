"""Bodies of bounded size, whether the client declares their length or sends them in chunks."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tsuzuku.server.refusal import Refusal, header_values

_LENGTH = re.compile(r"[0-9]{1,18}")


async def with_bounded_body(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, bound: int
) -> None:
    """Call `app`; raises Refusal if the body is declared, or turns out, to exceed `bound` bytes."""
    if _declared_length(scope) > bound:
        raise _too_large(bound)
    read = 0
    started = False

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > bound:
                raise _too_large(bound)
        return message

    async def watched(message: Message) -> None:
        nonlocal started
        if read > bound and not started:
            return  # whatever the app makes of a body that breaks off, the answer is 413
        started = True
        await send(message)

    try:
        await app(scope, bounded, watched)
    except Exception:  # of any kind: an application may fail as it likes on a body that breaks off
        if read <= bound:
            raise
    if read > bound and not started:
        raise _too_large(bound)


def _declared_length(scope: Scope) -> int:
    values = header_values(scope, b"content-length")
    if not values:
        return 0
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise Refusal(400, "bad_length", "Content-Length is not one whole number.")
    return int(values[0])


def _too_large(bound: int) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"The body is larger than {bound:,} bytes.",
        "`server.max_upload_mb` is the bound for files sent to a model.",
    )
