"""The page on which a person shows the token once, and the redirects to it and back."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from urllib.parse import parse_qs, quote

from starlette.types import Receive, Scope

from tsuzuku.server.paths import local_target, written_path
from tsuzuku.server.refusal import Answer, Refusal, header

LONGEST_FORM = 4096
FORM = "application/x-www-form-urlencoded"

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif }
body { display: grid; place-items: center; min-height: 90vh; margin: 1rem }
main { max-width: 26rem; width: 100% }
small { opacity: .75 } label, input, button { display: block; width: 100%; box-sizing: border-box }
input, button { font: inherit; padding: .5rem .75rem; margin: .25rem 0 1rem }
p[role=alert] { color: #c62828; font-weight: 600 }
"""
_FORM = """
<h1>Tsuzuku</h1>
<p>このサーバーを使うにはトークンが必要です。トークンはサーバーの起動時に一度だけ表示され、
ワークスペースの <code>outputs/server-token</code> に保存されています。<br>
<small lang="en">This server asks for its token. It was printed once when the server started, and
is kept in <code>outputs/server-token</code> of the workspace.</small></p>
{message}<form method="post" action="{action}">
<input type="hidden" name="next" value="{next}">
<label for="token">トークン <small lang="en">Token</small></label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>ログイン <small lang="en">Log in</small></button>
</form>
"""
_WRONG = """<p role="alert">トークンが違います。 <small lang="en">That is not the token.</small></p>
"""
_THROTTLED = """<p role="alert">違うトークンが続いています。しばらく待ってください。
<small lang="en">Too many wrong tokens. Please wait a minute.</small></p>
"""
_PAGE = """<!doctype html>
<html lang="ja">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}<title>Tsuzuku</title>
<style>{style}</style>
</head>
<body><main>{body}</main></body>
</html>
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    (
        "content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'",
    ),
    ("cache-control", "no-store"),
)


def form_page(scope: Scope, target: str, status: int = 200) -> Answer:
    """The form. `status` 401 says that the token was wrong, 429 that many were."""
    message = {401: _WRONG, 429: _THROTTLED}.get(status, "")
    root = scope.get("root_path", "")
    body = _FORM.format(message=message, action=escape(f"{root}/login"), next=escape(target))
    headers = [*_HEADERS, *([("retry-after", "60")] if status == 429 else [])]
    return _page(status, body, headers)


def bounce_page(scope: Scope, target: str) -> Answer:
    """Sends a browser that followed another site's link once around.

    It keeps a SameSite=Strict cookie back on such a link, and gives it on the next request.
    """
    url = f"{scope.get('root_path', '')}/login?again=1&next={quote(target, safe='/')}"
    return _page(200, "", _HEADERS, f'<meta http-equiv="refresh" content="0; url={escape(url)}">\n')


def redirect(location: str, *headers: tuple[str, str]) -> Answer:
    return Answer(
        303,
        media="text/plain; charset=utf-8",
        headers=[("location", location), ("cache-control", "no-store"), *headers],
    )


def to_login(scope: Scope) -> Answer:
    """To the form, which leads back to the page asked for."""
    here = quote(same_page(scope), safe="/")
    return redirect(f"{scope.get('root_path', '')}/login?next={here}")


def same_page(scope: Scope) -> str:
    """The page asked for, as a link on this server (the query without its token)."""
    query = scope.get("query_string", b"").decode("latin-1")
    return local_target(written_path(scope) + (f"?{query}" if query else ""))


def queried_target(scope: Scope) -> tuple[str, bool]:
    """Where `/login?next=…` leads, and whether the browser was sent around already."""
    fields = _fields(scope.get("query_string", b"").decode("latin-1"))
    return local_target(fields.get("next", "/")), "again" in fields


async def read_form(scope: Scope, receive: Receive) -> tuple[str, str]:
    """Token and target of a sent form; raises Refusal if it is too long or no form."""
    if header(scope, b"content-type").partition(";")[0].strip().lower() != FORM:
        raise Refusal(415, "bad_form", "The login takes a form.", f"Send it as `{FORM}`.")
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "bad_form", "The form broke off.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LONGEST_FORM:
            raise Refusal(413, "too_large", f"The form is longer than {LONGEST_FORM} bytes.")
    fields = _fields(body.decode("latin-1"))
    return fields.get("token", "").strip(), local_target(fields.get("next", "/"))


def _fields(text: str) -> dict[str, str]:
    try:
        found = parse_qs(text, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise Refusal(400, "bad_form", "The form has too many fields.") from None
    return {name: values[0] for name, values in found.items()}


def _page(
    status: int,
    body: str,
    headers: list[tuple[str, str]] | tuple[tuple[str, str], ...],
    head: str = "",
) -> Answer:
    text = _PAGE.format(style=_STYLE, body=body, head=head)
    return Answer(status, text.encode(), "text/html; charset=utf-8", headers)
