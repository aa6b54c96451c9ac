"""Which names the server has, and which web pages may use it."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from guarded_app import BEARER, LAB, LOCAL, Served, bare_broken
from serving import send_raw

from tsuzuku.core.errors import WrongInput
from tsuzuku.server.guard import Guard

# ---------------------------------------------------------------- Host


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:1234", "LOCALHOST", "localhost.", "app.localhost", "127.0.0.1:8000",
     "127.9.9.9", "[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
     "training.example.com", "Training.Example.com:443"],
)  # fmt: skip
def test_hosts_of_a_local_server(local: Served, host: str) -> None:
    assert local.status("GET", "/api/echo", host=host) == 200
    assert local.status("WS", "/ws", host=host) == 101


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost",
     "192.168.1.5", "0.0.0.0", "[::]", "[2001:db8::1]", "2130706433", "127.1", "0x7f.0.0.1",
     "localhost:99999", "localhost:", "localhost:80:80", "localhost/", "localhost@evil.example",
     "evil.example@localhost", "localhost, evil.example", "[::1", "::1", "[::1%25lo]", "",
     "%6cocalhost",
     "training.example.com.evil.example", "xtraining.example.com"],
)  # fmt: skip
def test_foreign_hosts_of_a_local_server(local: Served, host: str) -> None:
    request = f"GET /api/echo HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    before = len(local.counter.reached)
    answer = send_raw(local.url, request)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b'"foreign_host"' in answer
    assert len(local.counter.reached) == before


@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.example"]])
def test_exactly_one_host(local: Served, hosts: list[str]) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    for version in ("1.1", "1.0"):
        answer = send_raw(local.url, f"GET /api/echo HTTP/{version}\r\n{lines}\r\n".encode())
        # uvicorn's parser may refuse it before the guard does
        assert answer.split()[1] in (b"400", b"403")


def test_hosts_of_a_server_for_every_machine(everywhere: Served) -> None:
    own = socket.gethostname()
    for host in ("192.168.1.5:8000", "[2001:db8::1]", own, f"{own}.local:80", "localhost"):
        assert everywhere.status("GET", "/api/echo", BEARER, host=host) == 200
    for host in ("evil.example", f"{own}.evil.example", f"x{own}"):
        assert everywhere.status("GET", "/api/echo", BEARER, host=host) == 403


# ---------------------------------------------------------------- Origin


def test_the_servers_own_pages_may_use_it(local: Served) -> None:
    for host in ("localhost:8000", "127.0.0.1", "training.example.com", "[::1]:8000"):
        for scheme in ("http", "https"):
            own = ("Origin", f"{scheme}://{host}")
            assert local.status("POST", "/api/echo", own, host=host) == 200
            assert local.status("WS", "/ws", own, host=host) == 101
    default = ("Origin", "https://training.example.com")
    assert local.status("GET", "/api/echo", default, host="training.example.com:443") == 200
    assert local.status("GET", "/api/echo", default, host="training.example.com:80") == 403


@pytest.mark.parametrize(
    "origin",
    ["null", "", "https://evil.example", "http://localhost", "http://localhost:8001",
     "http://localhost:8000.evil.example", "http://localhost:8000@evil.example",
     "http://evil.example#http://localhost:8000", "http://localhost:8000/", "//localhost:8000",
     "localhost:8000", "ftp://localhost:8000", "file://", "http://127.0.0.1:8000",
     "https://lab.example.com", "http://lab.example.com:8443", "https://x.lab.example.com:8443",
     "chrome-extension://abcdef", "http://localhost:8000 http://localhost:8000",
     "http://localhost:8000, https://evil.example", "http://localhost:08000000"],
)  # fmt: skip
def test_foreign_origins(local: Served, origin: str) -> None:
    for method, path in (("GET", "/api/echo"), ("POST", "/api/echo"), ("WS", "/ws"),
                         ("WS", "/dash/stream"), ("OPTIONS", "/api/echo"), ("POST", "/login"),
                         ("POST", "/logout"), ("GET", "/api/health")):  # fmt: skip
        reply = local.ask(method, path, ("Origin", origin), host="localhost:8000")
        assert (reply.status, reply.code) == (403, "foreign_origin")
        assert not reply["Access-Control-Allow-Origin"]


def test_several_origins(local: Served) -> None:
    own = ("Origin", "http://localhost")
    assert local.status("POST", "/api/echo", own, host="localhost") == 200
    assert local.status("POST", "/api/echo", own, own, host="localhost") == 403
    assert local.status("POST", "/api/echo", ("Origin", LAB), own, host="localhost") == 403


def test_an_allowed_page_may_read_answers(local: Served) -> None:
    lab = ("Origin", LAB)
    reply = local.ask("GET", "/api/echo", lab, ("Sec-Fetch-Site", "cross-site"))
    assert reply.status == 200
    assert reply["Access-Control-Allow-Origin"] == LAB
    assert reply["Vary"] == "Origin"
    assert not reply["Access-Control-Allow-Credentials"]
    assert local.status("WS", "/ws", lab) == 101
    assert local.ask("GET", "/api/echo")["Vary"] == "Origin"


def test_preflight(everywhere: Served) -> None:
    asks = ("Access-Control-Request-Method", "DELETE")
    reply = everywhere.ask("OPTIONS", "/api/echo", ("Origin", LAB), asks)
    assert reply.status == 200
    assert reply["Access-Control-Allow-Origin"] == LAB
    assert "DELETE" in reply["Access-Control-Allow-Methods"]
    assert "Authorization" in reply["Access-Control-Allow-Headers"]
    assert not everywhere.counter.reached
    assert (
        everywhere.status("OPTIONS", "/api/echo", ("Origin", "https://evil.example"), asks) == 403
    )
    # without an Origin, or without asking for a method, it is a request like any other
    assert everywhere.status("OPTIONS", "/api/echo", asks) == 401
    assert everywhere.status("OPTIONS", "/api/echo", ("Origin", LAB)) == 401
    # what follows a preflight still needs the token, and a cookie would not do across sites
    assert everywhere.status("DELETE", "/api/echo", ("Origin", LAB)) == 401
    assert everywhere.status("DELETE", "/api/echo", ("Origin", LAB), BEARER) == 200


def test_cors_headers_of_a_mounted_app_are_dropped(local: Served) -> None:
    reply = local.ask("GET", "/dash/shared")
    assert reply.status == 200
    assert not reply["Access-Control-Allow-Origin"]
    assert reply["X-Frame-Options"] == "DENY"  # stricter than ours, and kept


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
def test_what_another_sites_page_may_do(local: Served, site: str) -> None:
    fetched = ("Sec-Fetch-Site", site)
    navigate = ("Sec-Fetch-Mode", "navigate")
    document, frame = ("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Dest", "iframe")
    assert local.status("GET", "/dash/page", fetched, navigate, document) == 200  # a link
    assert local.status("GET", "/dash/page", fetched, navigate, frame) == 403
    assert local.status("POST", "/api/echo", fetched, navigate, document) == 403
    assert local.status("GET", "/api/echo", fetched, ("Sec-Fetch-Mode", "no-cors")) == 403
    assert local.status("GET", "/api/echo", fetched) == 403
    assert local.status("WS", "/ws", fetched, ("Sec-Fetch-Mode", "websocket")) == 403
    assert local.status("WS", "/ws", fetched, navigate) == 403
    for own in ("same-origin", "none"):
        assert local.status("GET", "/api/echo", ("Sec-Fetch-Site", own)) == 200


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "entry", ["null", "*", "lab.example.com", "https://*.example.com", "file://", "https://h/p"]
)
def test_allowed_origins_are_checked(entry: str) -> None:
    with pytest.raises(WrongInput, match=r"server\.allowed_origins"):
        Guard(bare_broken, replace(LOCAL, allowed_origins=[entry]))


@pytest.mark.parametrize("entry", ["", "*", "https://lab.example.com", "a b", "lab/x"])
def test_allowed_hosts_are_checked(entry: str) -> None:
    with pytest.raises(WrongInput, match=r"server\.allowed_hosts"):
        Guard(bare_broken, replace(LOCAL, allowed_hosts=[entry]))
