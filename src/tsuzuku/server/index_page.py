"""The dashboard's HTML page: Streamlit's own, which also learns where its server is."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from starlette.types import Message, Scope, Send

_PAGE = "tsuzuku-page"
# Streamlit's script would try every part of the address for its server, and fill the console with
# what is not there. Before our path there may be one that a proxy has taken away.
_SCRIPT = f"""<script>
      const page = document.querySelector('meta[name="{_PAGE}"]').content;
      const before = location.pathname.slice(0, -page.length);
      window.__streamlit = {{ BACKEND_BASE_URL: location.origin + before + "/" }};
    </script>
    <script>"""


def prepared(html: str, language: str) -> str:
    """Streamlit's index.html in this language, with a place for the page's path."""
    html = html.replace('<html lang="en">', f'<html lang="{language}">', 1)
    html = html.replace("<head>", f'<head>\n    <meta name="{_PAGE}" content="{{path}}" />', 1)
    return html.replace("<script>", _SCRIPT, 1)


def with_index(scope: Scope, send: Send, index: str) -> Send:
    """`send`, putting `index` where the answer is a page."""
    started = False

    async def sending(message: Message) -> None:
        nonlocal started
        if message["type"] == "http.response.start" and _is_page(message):
            started = True
            path = str(scope["path"]).removeprefix(scope.get("root_path", "")) or "/"
            body = index.replace("{path}", escape(quote(path)), 1).encode()
            headers = [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-cache"),
            ]
            await send({**message, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        elif not started:
            await send(message)

    return sending


def _is_page(message: Message) -> bool:
    headers = {name.lower(): value for name, value in message.get("headers", [])}
    return message["status"] == 200 and headers.get(b"content-type", b"").startswith(b"text/html")
