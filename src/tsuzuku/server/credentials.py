"""Whether a request shows the right token: in a header, in the query, or as a cookie."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Literal
from urllib.parse import unquote_plus

from starlette.types import Scope

from tsuzuku.server.refusal import header_values

Verdict = Literal["right", "wrong", "none"]
SCHEMES = ("bearer", "token")
COOKIE_AGE = 30 * 24 * 3600
WRONG_BOUND = 20
WRONG_WINDOW = 60.0
ADDRESSES = 1024


def take_tokens(scope: Scope) -> list[str]:
    """Take `token` out of the scope's query: no later layer and no log gets to see it."""
    found: list[str] = []
    rest: list[bytes] = []
    for part in scope.get("query_string", b"").split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_plus(name.decode("latin-1")) == "token":
            found.append(unquote_plus(value.decode("latin-1")))
        else:
            rest.append(part)
    if found:
        # in place: uvicorn logs a WebSocket's query from this very dict
        scope["query_string"] = b"&".join(rest)
    return found


class Credentials:
    """The token, and the cookie that stands for it.

    The cookie holds its own end and an HMAC. Its key is derived slowly, because browsers show
    cookies to every port of a host, and a token that a person made up could be guessed from it.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = _digest(token)
        secret = token.encode("utf-8", "surrogatepass")
        self._key = hashlib.scrypt(secret, salt=b"tsuzuku cookie", n=2**14, r=8, p=1, dklen=32)
        self._clock = clock

    def judge(self, scope: Scope, queried: list[str]) -> Verdict:
        """What the request shows.

        If it gives tokens in headers or query, each of them has to be right. A cookie only counts
        without them: a browser sends it unasked, so an old one never spoils a right token.
        """
        given = [*queried, *_from_headers(scope)]
        if given:
            return "right" if self.all_right(given) else "wrong"
        name = cookie_name(scope)
        shown = [value for key, value in _cookies(scope) if key == name]
        if not shown:
            return "none"
        # another port's page can set one of the same name beside ours
        return "right" if any(self._valid(value) for value in shown) else "wrong"

    def all_right(self, tokens: list[str]) -> bool:
        """Whether each of the tokens is the right one; takes as long for a wrong one."""
        right = [hmac.compare_digest(_digest(token), self._token) for token in tokens]
        return bool(right) and all(right)

    def cookie(self, scope: Scope) -> tuple[str, str]:
        """The header that sets the cookie."""
        end = str(int(self._clock()) + COOKIE_AGE)
        return _set_cookie(scope, f"{end}.{self._sign(end)}", COOKIE_AGE)

    def _valid(self, value: str) -> bool:
        end, _, signature = value.partition(".")
        genuine = hmac.compare_digest(signature.encode("latin-1"), self._sign(end).encode())
        return genuine and int(end) > self._clock()

    def _sign(self, end: str) -> str:
        return hmac.new(self._key, end.encode("latin-1"), "sha256").hexdigest()


class Throttle:
    """Counts wrong tokens by address: some in a minute are a mistake, many are guessing.

    Right tokens always pass, so that nobody behind the same proxy can be locked out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wrong(self, scope: Scope) -> bool:
        """Count one; True if that address has shown too many."""
        now = self._clock()
        address = _network(scope)
        times = self._wrong.setdefault(address, deque(maxlen=WRONG_BOUND + 1))
        self._wrong.move_to_end(address)
        if len(self._wrong) > ADDRESSES:
            self._wrong.popitem(last=False)
        while times and times[0] <= now - WRONG_WINDOW:
            times.popleft()
        times.append(now)
        return len(times) > WRONG_BOUND


def cookie_name(scope: Scope) -> str:
    """By port: browsers share cookies between the ports of a host."""
    server = scope.get("server")
    return f"tsuzuku-{(server[1] if server else None) or 0}"


def no_cookie(scope: Scope) -> tuple[str, str]:
    """The header that deletes the cookie."""
    return _set_cookie(scope, "", 0)


def _set_cookie(scope: Scope, value: str, age: int) -> tuple[str, str]:
    path = scope.get("root_path") or "/"
    secure = "; Secure" if scope.get("scheme") in ("https", "wss") else ""
    flags = f"Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
    return "set-cookie", f"{cookie_name(scope)}={value}; {flags}"


def _from_headers(scope: Scope) -> list[str]:
    """Tokens in `Authorization`; other schemes (a proxy's Basic, say) are none of ours."""
    found: list[str] = []
    for value in header_values(scope, b"authorization"):
        scheme, _, rest = value.partition(" ")
        if scheme.lower() in SCHEMES:
            found.append(rest.strip().encode("latin-1").decode("utf-8", "replace"))
    return found


def _cookies(scope: Scope) -> list[tuple[str, str]]:
    pairs = (pair for line in header_values(scope, b"cookie") for pair in line.split(";"))
    return [(name.strip(), value.strip()) for name, _, value in (p.partition("=") for p in pairs)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _network(scope: Scope) -> str:
    """Whom to count: an address, or the network of an IPv6 address (its owner has 2^64)."""
    client = scope.get("client")
    host = str(client[0]) if client else "?"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if ip.version == 6:
        return str(ipaddress.ip_network((ip.packed[:8] + bytes(8), 64)))
    return host
