"""Under which names the server may be addressed, and which web pages may use it.

A page of another site can make a browser send requests to this machine. Two headers that scripts
cannot set tell it apart: `Host` (against DNS rebinding, where a foreign name suddenly resolves to
this machine) and `Origin` (against cross-site requests and WebSockets).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import Scope

from tsuzuku.core.errors import WrongInput
from tsuzuku.server.refusal import Refusal, header, header_values
from tsuzuku.server.tokens import is_loopback

_ADDRESS = r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\.?)"
_PORT = r"(?::([0-9]{1,5}))?"
HOST = re.compile(_ADDRESS + _PORT)
ORIGIN = re.compile("(https?)://" + _ADDRESS + _PORT)
DEFAULT_PORTS = {"http": 80, "https": 443}
# how a browser says that nobody else caused the request
OWN_SITES = ("same-origin", "none")
EMBEDS = ("iframe", "frame", "embed", "object", "fencedframe")


class Address(NamedTuple):
    """A host name (lower case, no brackets, no final dot) and the port, if one was given."""

    name: str
    port: int | None


class Origin(NamedTuple):
    """Where a web page comes from; the port is never left out."""

    scheme: str
    name: str
    port: int


def _address(name: str, port: str | None) -> Address | None:
    number = int(port) if port else None
    if number is not None and not 0 < number < 65536:
        return None
    name = name.lower().removesuffix(".")
    if name.startswith("["):
        try:
            name = str(ipaddress.IPv6Address(name[1:-1]))
        except ValueError:
            return None
    return Address(name, number)


def parse_host(text: str) -> Address | None:
    """A `Host` header's value, or None if it is malformed."""
    match = HOST.fullmatch(text)
    return _address(match[1], match[2]) if match else None


def parse_origin(text: str) -> Origin | None:
    """An `Origin` header's value, or None if it is `null`, malformed or no web page's."""
    match = ORIGIN.fullmatch(text)
    address = _address(match[2], match[3]) if match else None
    if match is None or address is None:
        return None
    return Origin(match[1], address.name, address.port or DEFAULT_PORTS[match[1]])


class HostNames:
    """The names of this server, as a `Host` header may give them."""

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self._only_loopback = is_loopback(host)
        self._names: set[str] = set()
        for entry in allowed:
            address = parse_host(entry)
            if address is None:
                raise WrongInput(
                    f"server.allowed_hosts: {entry!r} is not a host name.",
                    "Write it as `training.example.com`, without scheme or path.",
                    code="bad_setting",
                )
            self._names.add(address.name)
        if not self._only_loopback:
            own = socket.gethostname().lower()
            names = (host.lower(), own, f"{own}.local", socket.getfqdn().lower())
            self._names.update(name.removesuffix(".") for name in names if name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip = ipaddress.ip_address(name)
        except ValueError:
            return False
        # a number cannot be rebound, but one that leads elsewhere has no business here
        return is_loopback(str(ip)) or not self._only_loopback

    def check(self, scope: Scope) -> Address:
        """The address the client asked for; raises Refusal if it is not this server's."""
        values = header_values(scope, b"host")
        address = parse_host(values[0]) if len(values) == 1 else None
        if address is None:
            raise Refusal(
                403, "foreign_host", "The request does not have exactly one valid Host header."
            )
        if address.name not in self:
            raise Refusal(
                403,
                "foreign_host",
                f"This server is not known as {address.name!r}.",
                "Use its IP address or own name, or add this name to `server.allowed_hosts`.",
            )
        return address


class Origins:
    """Which web pages may talk to the server: its own, and those in `allowed`."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: set[Origin] = set()
        for entry in allowed:
            origin = parse_origin(entry.lower().removesuffix("/"))
            if origin is None:
                raise WrongInput(
                    f"server.allowed_origins: {entry!r} is not a web page's origin.",
                    "Write it as `https://host` or `http://host:port`.",
                    code="bad_setting",
                )
            self._allowed.add(origin)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def allows(self, scope: Scope) -> bool:
        """Whether the request says that it comes from one of the allowed pages."""
        values = header_values(scope, b"origin")
        return len(values) == 1 and parse_origin(values[0]) in self._allowed

    def check(self, scope: Scope, host: Address) -> None:
        """Raises Refusal for a request that a page of another origin caused."""
        values = header_values(scope, b"origin")
        if len(values) > 1:
            raise Refusal(403, "foreign_origin", "The request has several Origin headers.")
        if self.allows(scope):
            return
        if values:
            origin = parse_origin(values[0])
            if origin is None or not _same(origin, host, scope):
                raise _foreign(values[0])
        site = header(scope, b"sec-fetch-site").lower()
        if site and site not in OWN_SITES and not _followed_link(scope):
            raise _foreign(f"another site ({site})")


def _same(origin: Origin, host: Address, scope: Scope) -> bool:
    if scope.get("scheme") in ("https", "wss") and origin.scheme != "https":
        return False
    # without TLS here, a proxy may have it: then the page is https and the scope is not
    port = host.port or DEFAULT_PORTS[origin.scheme]
    return (origin.name, origin.port) == (host.name, port)


def _followed_link(scope: Scope) -> bool:
    """Whether somebody followed a link to this server: the answer is shown, not handed over."""
    return (
        scope.get("method") in ("GET", "HEAD")
        and header(scope, b"sec-fetch-mode").lower() == "navigate"
        and header(scope, b"sec-fetch-dest").lower() not in EMBEDS
    )


def _foreign(origin: str) -> Refusal:
    return Refusal(
        403,
        "foreign_origin",
        f"A web page of {origin[:200]!r} may not use this server.",
        "Add its origin to `server.allowed_origins` if it may. A proxy has to pass `Host` on.",
    )
