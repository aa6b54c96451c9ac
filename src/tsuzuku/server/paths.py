"""Paths that mean the same to every layer: what the guard checks is what the routes see."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

from tsuzuku.server.refusal import Refusal

LONGEST = 4096
DECODINGS = 3
# encoded slash, backslash, dot, semicolon, control characters: nobody has to write them so
_ENCODED = re.compile(rb"%(2f|5c|2e|3b|7f|[01][0-9a-f])", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")
_LITERAL = re.compile(rb"[\x00-\x1f\x7f\\;]|//|/\.{1,2}(?:/|$)")


def check_path(scope: Scope) -> str:
    """The decoded path below `root_path`; raises Refusal for one that could be read two ways.

    Traversal, double slashes, backslashes, parameters (`;`) and control characters are refused in
    any spelling, after repeated decoding too. Other percent-encoded UTF-8 is fine.
    """
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    written = path.encode("utf-8", "surrogatepass") if raw is None else raw
    if raw is not None and (not raw.isascii() or _BAD_ESCAPE.search(raw) or b"?" in raw):
        raise _bad()
    form = written
    for _ in range(DECODINGS):
        if _ENCODED.search(form) or _LITERAL.search(form):
            raise _bad()
        decoded = unquote_to_bytes(form)
        if decoded == form:
            break
        form = decoded
    else:
        raise _bad()  # encoded so often that it is meant to get past somebody
    if not path.startswith("/") or len(written) > LONGEST:
        raise _bad()
    try:
        agreed = unquote_to_bytes(written) if raw is not None else written
        if agreed.decode("utf-8") != path:
            raise _bad()
    except UnicodeDecodeError:
        raise _bad() from None
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if path.startswith(root + "/") else path


def written_path(scope: Scope) -> str:
    """The path as it stands in a link (ASCII, percent-encoded), `root_path` included."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"], safe="/:@!$&'()*+,=~") if raw is None else raw.decode("ascii")


def local_target(text: str) -> str:
    """`text` if it leads to a page of this server, else `/`: for redirects.

    Browsers drop tabs and line breaks and take a backslash for a slash, so that `/\\t/host` and
    `/\\host` lead to another server.
    """
    if (
        not text.startswith("/")
        or text.startswith("//")
        or "\\" in text
        or any(ord(char) <= 32 or ord(char) == 127 for char in text)
        or len(text) > LONGEST
    ):
        return "/"
    try:
        return quote(text, safe="/?:@!$&'()*+,;=~%#[]")
    except UnicodeEncodeError:
        return "/"


def _bad() -> Refusal:
    return Refusal(
        400,
        "bad_path",
        "The path can be read in more than one way.",
        "Write it without encoded dots, slashes or control characters, and without `;` or `//`.",
    )
