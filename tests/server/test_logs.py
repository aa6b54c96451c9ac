"""The server's log: what a client sends cannot forge it, and no token gets into it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any
from urllib.parse import quote, unquote

import pytest
from guarded_app import BEARER, LOCAL, SECRET, TOKEN, Served, bare_broken
from serving import PATIENCE, ask, send_raw, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tsuzuku.server.guard import Guard
from tsuzuku.server.headers import SECURITY
from tsuzuku.server.logs import AccessLog, configure, redacted

Line = dict[str, Any]


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What the server writes; the test runner's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    configure("DEBUG", stream)
    configure("INFO", stream)  # again changes nothing
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(log: StringIO) -> list[Line]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def wait_for(log: StringIO, wanted: Callable[[Line], bool]) -> Line:
    """The first line like that; a client may have its answer a moment before it is logged."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for line in lines(log):
            if wanted(line):
                return line
        time.sleep(0.01)
    raise AssertionError(log.getvalue())


def request_of(own_id: str) -> Callable[[Line], bool]:
    return lambda line: line["logger"] == "tsuzuku.access" and line["request_id"] == own_id


def test_one_line_for_each_request(log: StringIO, everywhere: Served) -> None:
    cases = [
        ("GET", "/api/echo?secret=1", [BEARER], 200, "info"),
        ("POST", "/dash/page", [BEARER], 405, "info"),
        ("GET", "/api/echo", [], 401, "info"),
        ("GET", "/api/broken", [BEARER], 500, "error"),
        ("WS", "/dash/stream?since=1", [], 401, "info"),
        ("GET", "/api/files/" + quote("モデル"), [BEARER], 200, "info"),
    ]
    for number, (method, target, headers, status, level) in enumerate(cases):
        own_id = ("X-Request-ID", f"id-{number}")
        assert everywhere.ask(method, target, *headers, own_id).status == status
        line = wait_for(log, request_of(f"id-{number}"))
        assert line["path"] == unquote(target.partition("?")[0])
        assert line["method"] == {"WS": "WEBSOCKET"}.get(method, method)
        assert (line["status"], line["level"]) == (status, level)
        assert line["client"] == "127.0.0.1"
        assert line["ms"] >= 0
        assert line["time"].endswith("Z")
    access = [line for line in lines(log) if line["logger"] == "tsuzuku.access"]
    assert len(access) == len(cases)
    assert "secret=1" not in log.getvalue()


def test_no_token_in_the_log(log: StringIO, everywhere: Served) -> None:
    url = everywhere.url.replace("http", "ws")
    with connect(f"{url}/ws?token={TOKEN}") as socket:
        socket.recv()
    with connect(f"{url}/ws", additional_headers=dict([BEARER])) as socket:
        socket.recv()
    everywhere.ask("GET", f"/api/broken?token={TOKEN}")
    everywhere.ask("WS", f"/ws?token={TOKEN}x")
    everywhere.ask("WS", f"/ws/unready?token={TOKEN}")
    everywhere.ask("GET", f"/login?token={TOKEN}")
    wait_for(log, lambda line: line.get("path") == "/login")
    assert sum(line.get("status") == 101 for line in lines(log)) == 2
    assert TOKEN not in log.getvalue()
    # uvicorn says nothing of its own about requests
    assert "completing handshake" not in log.getvalue()
    assert not any("ws" in line["message"] for line in lines(log) if "uvicorn" in line["logger"])


@pytest.mark.parametrize("text", ["GET /?token=SECRET HTTP", "x&token=SECRET&b", "Bearer SECRET",
                                  "authorization: bearer  SECRET", "tsuzuku-8000=SECRET; a=b",
                                  "{'a': 'Bearer SECRET'}", 'token=SECRET"'])  # fmt: skip
def test_redaction(text: str) -> None:
    assert "SECRET" not in redacted(text)
    assert len(redacted(text)) < len(text) + 3


def test_ordinary_words_stay() -> None:
    for text in ("12 tokens a second", "token: none", "bearers of news", "first_token_time_ms=3"):
        assert redacted(text) == text


def test_a_client_cannot_forge_lines(log: StringIO, local: Served) -> None:
    forged = '%0a{"level":"error"}%1b[31m%c2%9b31m%e2%80%a8%22<script>'
    own_id = local.ask("GET", f"/api/files/{forged}")["X-Request-ID"]
    line = wait_for(log, request_of(own_id))
    assert line["status"] == 400
    assert "\n" in line["path"]
    for written in log.getvalue().splitlines():
        assert written.isprintable()
        assert json.loads(written)["level"] == "info"
    long = local.ask("GET", "/api/files/" + "a" * 4000)["X-Request-ID"]
    assert len(wait_for(log, request_of(long))["path"]) == 500


def test_a_fault_is_logged_and_says_nothing_outside(log: StringIO, local: Served) -> None:
    reply = local.ask("GET", "/api/broken")
    own_id = reply["X-Request-ID"]
    assert (reply.status, reply.code) == (500, "internal")
    assert set(reply.json) == {"detail", "code", "hint"}
    assert own_id in reply.json["hint"]
    for word in (SECRET, "Traceback", "RuntimeError"):
        assert word not in str(reply)
    wait_for(log, request_of(own_id))
    faults = [line for line in lines(log) if "exception" in line]
    assert len(faults) == 1
    assert faults[0]["request_id"] == own_id
    assert SECRET in faults[0]["exception"]
    assert len(log.getvalue().splitlines()) == len(lines(log))


def test_faults_of_websockets(log: StringIO, local: Served) -> None:
    reply = local.ask("WS", "/ws/unready")
    assert reply.status == 500
    assert SECRET not in str(reply)
    url = local.url.replace("http", "ws")
    with connect(f"{url}/ws/broken") as socket, pytest.raises(ConnectionClosed) as caught:
        socket.recv(timeout=PATIENCE)
    assert caught.value.rcvd
    assert caught.value.rcvd.code == 1011
    assert SECRET not in caught.value.rcvd.reason
    wait_for(log, lambda line: line.get("path") == "/ws/broken" and "status" in line)
    assert sum(SECRET in line.get("exception", "") for line in lines(log)) == 2


def test_a_fault_of_an_app_without_error_page(log: StringIO) -> None:
    with serve(AccessLog(Guard(bare_broken, LOCAL))) as url:
        for method in ("GET", "WS"):
            reply = ask(url, method, "/anything")
            assert (reply.status, reply.code) == (500, "internal")
            assert SECRET not in str(reply)
            assert {n.decode(): reply[n.decode()] for n, _ in SECURITY} == {
                name.decode(): value.decode() for name, value in SECURITY
            }
    assert sum(SECRET in line.get("exception", "") for line in lines(log)) == 2


def test_a_client_that_goes_is_no_fault(log: StringIO, local: Served) -> None:
    request = b"POST /api/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc"
    send_raw(local.url, request)
    line = wait_for(log, lambda line: line.get("path") == "/api/echo")
    assert (line["status"], line["level"]) == (499, "info")
    assert not any("exception" in line for line in lines(log))


def test_any_record_is_one_line_of_json(log: StringIO) -> None:
    logger = logging.getLogger("elsewhere")
    try:
        raise ValueError("?token=SECRET two\nlines \x9b \u2028 \ud800 日本語")
    except ValueError:
        logger.exception("it failed:\n%s", object)
    logger.warning("何か", extra={"fields": {"path": object(), "count": 3}}, stack_info=True)
    first, second = lines(log)
    assert "SECRET" not in log.getvalue()
    assert "日本語" in first["exception"]
    assert first["message"].startswith("it failed:\n")
    assert (second["message"], second["count"]) == ("何か", 3)
    assert "Stack" in second["stack"]
    assert "request_id" not in first
    for written in log.getvalue().splitlines():
        assert written.isprintable()
