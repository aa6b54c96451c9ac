"""What a page of the dashboard may do in a browser, said by headers."""

from __future__ import annotations

import base64
import hashlib
import re

from starlette.types import Message, Send

from tsuzuku.server.refusal import Headers

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page_headers(index: str) -> Headers:
    """Headers for pages that begin as the HTML `index`: nothing comes from another host, and no
    script runs that the server has not sent.

    Streamlit loads a component's script from a `blob:` that it makes of what the server sends; its
    styles are made as the page goes.
    """
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in _INLINE_SCRIPT.findall(index)
    ]
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", "blob:", *(f"'sha256-{one}'" for one in hashes)]),
        "worker-src": "'self' blob:",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' data: blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'self'",
    }
    said = "; ".join(f"{name} {sources}" for name, sources in policy.items())
    return [
        (b"content-security-policy", said.encode("latin-1")),
        (
            b"permissions-policy",
            b"microphone=(self), camera=(), geolocation=(), payment=(), usb=()",
        ),
    ]


def with_page_headers(send: Send, headers: Headers) -> Send:
    """`send`, adding `headers` to a response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return sending
