"""The token: in a header, in the query, as a cookie, and the page on which a person shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from guarded_app import BEARER, EVERYWHERE, HTML, TOKEN, Served, build
from serving import Reply, ask, send_raw, serve
from starlette.types import Scope
from websockets.sync.client import connect

from tsuzuku.server.credentials import ADDRESSES, COOKIE_AGE, Credentials, Throttle


def _form() -> list[tuple[str, str]]:
    return [("Content-Type", "application/x-www-form-urlencoded")]


def test_ways_to_show_the_token(everywhere: Served) -> None:
    for headers in (
        [BEARER],
        [("authorization", f"token {TOKEN}")],
        [("Authorization", f"BEARER  {TOKEN} ")],
    ):
        assert everywhere.status("GET", "/api/echo", *headers) == 200
        assert everywhere.status("WS", "/ws", *headers) == 101
    assert everywhere.status("GET", f"/api/echo?token={TOKEN}") == 200
    assert everywhere.status("WS", f"/dash/stream?token={TOKEN}") == 101
    assert everywhere.status("GET", "/api/echo", ("Authorization", TOKEN)) == 401
    assert everywhere.status("GET", "/api/echo", ("Authorization", "Bearer")) == 401
    assert everywhere.status("GET", "/api/echo?token=") == 401
    assert everywhere.status("GET", "/api/echo", ("Cookie", f"token={TOKEN}")) == 401
    assert everywhere.status("GET", "/api/health") == 200
    assert everywhere.status("GET", "/api/health/") == 401
    assert everywhere.status("GET", "/API/HEALTH") == 401


def test_every_token_that_is_shown_has_to_be_right(everywhere: Served) -> None:
    wrong = ("Authorization", "Bearer wrong")
    assert everywhere.status("GET", f"/api/echo?token={TOKEN}", BEARER) == 200
    assert everywhere.status("GET", f"/api/echo?token={TOKEN}&token=wrong") == 401
    assert everywhere.status("GET", f"/api/echo?token={TOKEN}", wrong) == 401
    assert everywhere.status("GET", "/api/echo", BEARER, wrong) == 401


def test_the_token_reaches_neither_the_application_nor_its_query(everywhere: Served) -> None:
    reply = everywhere.ask("GET", f"/api/echo?a=1&%74oken={TOKEN}&b=%E3%81%82&token={TOKEN}")
    assert reply.json["query"] == "a=1&b=%E3%81%82"
    url = everywhere.url.replace("http", "ws")
    with connect(f"{url}/ws?token={TOKEN}&since=5") as socket:
        assert socket.recv() == "hello since=5"


def test_refusals_say_what_to_do(everywhere: Served) -> None:
    for headers, code in (([], "no_token"), ([("Authorization", "Bearer no")], "wrong_token")):
        reply = everywhere.ask("GET", "/api/echo", *headers)
        assert reply["WWW-Authenticate"].startswith("Bearer")
        assert set(reply.json) == {"detail", "code", "hint"}
        assert reply.code == code
        assert TOKEN not in str(reply)
        shake = everywhere.ask("WS", "/ws", *headers)
        assert (shake.status, shake.code) == (401, code)


def test_guessing_is_slowed_and_the_right_token_still_taken(everywhere: Served) -> None:
    guesses = [everywhere.ask("GET", f"/api/echo?token=guess{n}") for n in range(22)]
    assert [guess.status for guess in guesses] == [401] * 20 + [429] * 2
    assert guesses[-1].code == "too_many_wrong_tokens"
    assert guesses[-1]["Retry-After"] == "60"
    assert everywhere.status("WS", "/ws?token=guess") == 429
    form = everywhere.ask("POST", "/login", *_form(), body=b"token=guess")
    assert form.status == 429
    assert everywhere.status("GET", "/api/echo") == 401  # shows none, guesses nothing
    assert everywhere.status("GET", "/api/echo", BEARER) == 200


def _cookie(reply: Reply) -> tuple[str, str]:
    return "Cookie", reply["Set-Cookie"].partition(";")[0]


def _log_in(served: Served, target: str = "/") -> Reply:
    body = urlencode({"token": TOKEN, "next": target}).encode()
    return served.ask("POST", "/login", *_form(), ("Origin", served.url), body=body)


def test_a_browser_is_sent_to_log_in_and_back(everywhere: Served) -> None:
    asked = "/dash/page?run=%E3%81%82&x=1&copy=2"
    sent = everywhere.ask("GET", asked, HTML)
    assert sent.status == 303
    login = sent["Location"]
    assert parse_qs(urlsplit(login).query) == {"next": [asked]}
    form = everywhere.ask("GET", login, HTML)
    assert form.status == 200
    assert form["Content-Type"] == "text/html; charset=utf-8"
    text = form.body.decode()
    assert 'lang="ja"' in text
    assert "トークン" in text
    hidden = re.search(r'name="next" value="([^"]*)"', text)
    assert hidden
    assert unescape(hidden[1]) == asked
    done = _log_in(everywhere, asked)
    assert (done.status, done["Location"]) == (303, asked)
    assert "; Secure" not in done["Set-Cookie"]
    flags = done["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"} <= set(flags)
    assert flags[0].startswith(f"tsuzuku-{everywhere.port}=")
    assert TOKEN not in done["Set-Cookie"]
    assert everywhere.status("GET", asked, HTML, _cookie(done)) == 200
    assert everywhere.status("WS", "/dash/stream", _cookie(done)) == 101


def test_a_link_with_the_token_logs_in_and_is_cleaned(everywhere: Served) -> None:
    sent = everywhere.ask("GET", f"/dash/page?a=1&token={TOKEN}&b=2", HTML)
    assert (sent.status, sent["Location"]) == (303, "/dash/page?a=1&b=2")
    assert everywhere.status("GET", "/dash/page", _cookie(sent)) == 200
    wrong = everywhere.ask("GET", "/dash/page?token=wrong&b=2", HTML)
    assert wrong["Location"] == f"/login?next={quote('/dash/page?b=2', safe='/')}"
    assert not wrong["Set-Cookie"]
    # a program's fetch is not a person's visit
    fetch = everywhere.ask("GET", "/dash/page", HTML, ("Sec-Fetch-Mode", "cors"))
    assert fetch.status == 401


def test_a_cookie_that_is_altered_or_old(everywhere: Served) -> None:
    name, _, value = _cookie(_log_in(everywhere))[1].partition("=")
    end, signature = value.split(".")
    for bad in (f"{int(end) + 1}.{signature}", f"{end}.{signature[:-1]}", f"{end}.", "", ".",
                f".{signature}", f"{end}.{'0' * 64}", f"١.{signature}"):  # fmt: skip
        raw = f"GET /api/echo HTTP/1.1\r\nHost: localhost\r\nCookie: {name}={bad}\r\n\r\n".encode()
        assert send_raw(everywhere.url, raw).startswith(b"HTTP/1.1 401")
    other = f"{name}x={value}; tsuzuku-1={value}; {name[1:]}={value}"
    assert everywhere.status("GET", "/api/echo", ("Cookie", other)) == 401
    # another port's page can set one of our name: it must not lock the right one out
    both = ("Cookie", f"a=b; {name}=evil; {name}={value}; c")
    assert everywhere.status("GET", "/api/echo", both) == 200
    # and an old one never stands in the way of a right token
    assert everywhere.status("GET", "/api/echo", ("Cookie", f"{name}=old"), BEARER) == 200


def test_a_cookie_of_another_token(everywhere: Served) -> None:
    app, _ = build(replace(EVERYWHERE, token="quite another token"))
    with serve(app) as url:
        body = urlencode({"token": "quite another token"}).encode()
        value = _cookie(ask(url, "POST", "/login", _form(), body))[1].partition("=")[2]
    theirs = ("Cookie", f"tsuzuku-{everywhere.port}={value}")
    assert everywhere.status("GET", "/api/echo", theirs) == 401


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
     "https://evil.example", "evil.example", "/\t/evil.example", "\t//evil.example",
     "/\r\nSet-Cookie: a=b", "javascript:alert(1)",
     " //evil.example", "/ /evil.example", "", "/" + "a" * 5000],
)  # fmt: skip
def test_a_login_never_leads_elsewhere(everywhere: Served, target: str) -> None:
    written = quote(target, safe="")
    body = f"token={TOKEN}&next={written}".encode()
    if len(body) < 4096:
        done = everywhere.ask("POST", "/login", *_form(), body=body)
        assert (done.status, done["Location"]) == (303, "/")
    again = everywhere.ask("GET", f"/login?next={written}", BEARER)
    assert (again.status, again["Location"]) == (303, "/")
    form = everywhere.ask("GET", f"/login?next={written}")
    assert b'name="next" value="/"' in form.body


def test_markup_in_next_stays_text(everywhere: Served) -> None:
    page = everywhere.ask("GET", "/login?next=" + quote('/"><script>alert(1)</script>', safe=""))
    assert b"<script" not in page.body
    policy = page["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy


def test_the_login_takes_a_short_form(everywhere: Served) -> None:
    wrong = everywhere.ask("POST", "/login", *_form(), body=b"token=wrong&next=/dash/page")
    assert wrong.status == 401
    assert b'role="alert"' in wrong.body
    assert b'value="/dash/page"' in wrong.body
    assert not wrong["Set-Cookie"]
    for body in (b"", b"token=", f"other={TOKEN}".encode()):
        assert everywhere.ask("POST", "/login", *_form(), body=body).status == 401
    long = f"token={TOKEN}&x={'y' * 5000}".encode()
    assert everywhere.ask("POST", "/login", *_form(), body=long).status == 413
    many = f"token={TOKEN}".encode() + b"&a=b" * 50
    assert everywhere.ask("POST", "/login", *_form(), body=many).status == 400
    json = [("Content-Type", "application/json")]
    assert everywhere.ask("POST", "/login", *json, body=b"{}").status == 415
    assert everywhere.ask("PUT", "/login", body=b"").status == 405
    foreign = ("Origin", "https://evil.example")
    reply = everywhere.ask("POST", "/login", *_form(), foreign, body=f"token={TOKEN}".encode())
    assert reply.code == "foreign_origin"
    assert not everywhere.counter.reached


def test_a_link_on_another_site_still_finds_the_cookie(everywhere: Served) -> None:
    """Browsers keep a Strict cookie back there: they are sent around once, then give it."""
    came = [HTML, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")]
    sent = everywhere.ask("GET", "/dash/page", *came)
    around = everywhere.ask("GET", sent["Location"], *came)
    refresh = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', around.body.decode())
    assert refresh
    url = unescape(refresh[1])
    done = everywhere.ask("GET", url, HTML, _cookie(_log_in(everywhere)))
    assert (done.status, done["Location"]) == (303, "/dash/page")
    assert b"refresh" not in everywhere.ask("GET", url, *came).body  # never in a circle


def test_log_out(everywhere: Served) -> None:
    cookie = _cookie(_log_in(everywhere))
    out = everywhere.ask("POST", "/logout", cookie, ("Origin", everywhere.url))
    assert (out.status, out["Location"]) == (303, "/login")
    assert "Max-Age=0" in out["Set-Cookie"]
    assert everywhere.ask("GET", "/logout", cookie).status == 404


def test_without_a_token_the_login_leads_on(local: Served) -> None:
    reply = local.ask("GET", "/login?next=/dash/page", HTML)
    assert (reply.status, reply["Location"]) == (303, "/dash/page")


def test_behind_tls_the_cookie_and_the_page_are_too(everywhere: Served) -> None:
    """The proxy says so; uvicorn believes it from this machine only."""
    proxied = ("X-Forwarded-Proto", "https")
    form, body = _form()[0], f"token={TOKEN}".encode()
    page = ("Origin", everywhere.url.replace("http", "https"))
    reply = everywhere.ask("POST", "/login", form, proxied, page, body=body)
    assert reply["Set-Cookie"].endswith("; Secure")
    plain = everywhere.ask("POST", "/login", form, proxied, ("Origin", everywhere.url), body=body)
    assert plain.code == "foreign_origin"


def test_a_cookie_ends() -> None:
    now = [1_000_000.0]
    credentials = Credentials(TOKEN, lambda: now[0])
    scope: Scope = {"headers": [], "server": ("127.0.0.1", 8000)}
    value = credentials.cookie(scope)[1].partition(";")[0].encode()
    scope["headers"] = [(b"cookie", value)]
    now[0] += COOKIE_AGE - 1
    assert credentials.judge(scope, []) == "right"
    now[0] += 1
    assert credentials.judge(scope, []) == "wrong"


def test_wrong_tokens_are_forgotten_after_a_minute() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])

    def wrong(host: str) -> bool:
        return throttle.wrong({"client": (host, 1)})

    assert [wrong("10.0.0.1") for _ in range(21)] == [False] * 20 + [True]
    assert not wrong("10.0.0.2")
    now[0] = 59.0
    assert wrong("10.0.0.1")
    now[0] = 60.0
    assert not wrong("10.0.0.1")
    # who has one IPv6 address has the whole network
    assert [wrong(f"2001:db8::{n:x}") for n in range(21)] == [False] * 20 + [True]
    assert not wrong("2001:db8:0:1::1")
    assert not throttle.wrong({"client": None})


def test_the_count_of_wrong_tokens_is_bounded() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(ADDRESSES + 100):
        throttle.wrong({"client": (f"host{number}", 1)})
    assert len(throttle._wrong) == ADDRESSES
