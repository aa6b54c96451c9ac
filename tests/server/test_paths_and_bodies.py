"""Paths that two layers could read differently, and bodies larger than they may be."""

from __future__ import annotations

import pytest
from guarded_app import MAX_BODY, MAX_UPLOAD, READ, Served
from serving import HANDSHAKE, send_raw


@pytest.mark.parametrize(
    "path",
    ["/api/files/%E3%83%A2%E3%83%87%E3%83%AB.pt", "/api/files/a%20b", "/api/files/100%25",
     "/api/files/a.b..c", "/api/files/...", "/api/files/.hidden",
     "/api/files/a+b@c:d=e~f,(g)!'*$&"],
)  # fmt: skip
def test_paths_that_mean_one_thing(local: Served, path: str) -> None:
    reply = local.ask("GET", path)
    assert reply.status == 200
    assert reply.json["path"]


BAD_PATHS = [
    "/api/files/..", "/api/files/../echo", "/api/files/./echo", "/..", "/.",
    "/api/files/%2e%2e/echo", "/api/files/.%2E/echo", "/api/files/%252e%252e/echo",
    "/api/files/%25252e", "/api/files/%2525252525252e", "/api%2fecho", "/api%2Fecho",
    "/api/files/%252f", "/api/files/..%5c", "/api/files/%5C", "/api/files/%255c",
    "/api/files/a\\b", "/api/files;x=y", "/api;/echo", "/api/files/%3b", "/api/files/%253B",
    "//evil.example/api", "/api//echo", "/api/files//etc/passwd", "/api/files/%00",
    "/api/files/%2500", "/api/files/a%0d%0ab", "/api/files/%7f", "/api/files/%1b%5b31m",
    "/api/files/%c0%ae%c0%ae", "/api/files/%ff", "/api/files/%ed%a0%80", "/api/files/%zz",
    "/api/files/%", "/api/files/%2", "/login/..%2fapi/echo", "/api/health/../echo",
    "/api/health;/../echo", "/login//", "/api/files/" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=range(len(BAD_PATHS)))
def test_paths_that_could_be_read_two_ways(local: Served, path: str) -> None:
    lines = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
    shake = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE)
    before = len(local.counter.reached)
    for request in (lines, lines + shake):
        answer = send_raw(local.url, f"{request}\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400"), request
        assert b'"bad_path"' in answer
    assert len(local.counter.reached) == before


@pytest.mark.parametrize(
    "target", ["http://evil.example/api/echo", "*", "evil.example:443", "api", "/é"]
)
def test_targets_that_are_no_path(local: Served, target: str) -> None:
    """Whatever the parsers make of them, only the Host header says who is asked."""
    request = f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
    before = len(local.counter.reached)
    answer = send_raw(local.url, request)
    assert answer.split()[1] in (b"400", b"403")
    assert len(local.counter.reached) == before


def test_declared_lengths(local: Served) -> None:
    for path, bound in (("/api/echo", MAX_BODY), ("/api/inference", MAX_UPLOAD)):
        assert local.ask("POST", path, body=b"x" * bound).json["body"] == bound
        too_long = [("Content-Length", str(bound + 1))]  # and nothing of it is sent
        reply = local.ask("POST", path, *too_long, body=b"")
        assert (reply.status, reply.code) == (413, "too_large")


def test_chunked_bodies_are_counted(local: Served) -> None:
    for path, bound in (("/api/echo", MAX_BODY), ("/api/inference", MAX_UPLOAD)):
        fits = (b"x" * (bound // 10) for _ in range(10))
        assert local.ask("POST", path, body=fits).json["body"] == bound
        longer = (b"x" * (bound // 10) for _ in range(11))
        reply = local.ask("POST", path, body=longer)
        assert (reply.status, reply.code) == (413, "too_large")
    # and no more is read than that
    assert local.ask("POST", "/api/greedy", body=(b"x" * 500 for _ in range(1000))).status == 413
    assert READ[-1] <= MAX_BODY
    # also where the application makes something else of the error
    reply = local.ask("POST", "/api/forgiving", body=iter([b"x" * (MAX_BODY + 1)]))
    assert (reply.status, reply.code) == (413, "too_large")


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "0x10", "5, 5", "", "９", "9" * 30])
def test_lengths_that_are_no_number(local: Served, length: str) -> None:
    request = f"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    assert send_raw(local.url, request.encode()).split()[1] == b"400"
