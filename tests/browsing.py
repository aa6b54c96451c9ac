"""A browser that looks at the dashboard, and what it complains about."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    WebError,
    expect,
)

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # a microphone that hears a tone, and nobody to ask whether it may
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
PATIENCE = 60_000
"""Milliseconds in which a page is drawn, or what is waited for has come."""
Theme = Literal["light", "dark"]
WINDOW = ViewportSize(width=1280, height=900)
AT_REST = '[data-testid="stApp"][data-test-script-state="notRunning"]'

expect.set_options(timeout=PATIENCE)


class Complaints(list[str]):
    """Errors in the console, scripts that failed, requests to other hosts.

    A test that ends a server under an open page clears them: the browser says so too.
    """

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._said)
        context.on("weberror", self._failed)
        context.on("request", self._asked)

    def leave(self, context: BrowserContext) -> None:
        """Hear no more of it."""
        context.remove_listener("console", self._said)
        context.remove_listener("weberror", self._failed)
        context.remove_listener("request", self._asked)

    def _failed(self, error: WebError) -> None:
        self.append(f"script error: {error.error}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.append(f"console: {message.text} ({message.location})")

    def _asked(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.hostname != "127.0.0.1":
            self.append(f"foreign request: {request.url}")


def new_context(browser: Browser, *, width: int = 1280, **options: Any) -> BrowserContext:
    """Cookies, storage and cache of a visitor: Japanese, on a window `width` pixels wide."""
    size = {**WINDOW, "width": width}
    options = {"locale": "ja-JP", "timezone_id": "Asia/Tokyo", "viewport": size, **options}
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    return context


@contextmanager
def visit(
    browser: Browser, complaints: Complaints, *, width: int = 1280, **options: Any
) -> Iterator[Page]:
    """A page of a visitor of their own: cookies, storage, Japanese, `width` pixels wide."""
    context = new_context(browser, width=width, **options)
    complaints.watch(context)
    try:
        yield context.new_page()
    finally:
        context.close()


def show(page: Page, url: str) -> None:
    """Open an address of the dashboard and wait until it is drawn."""
    page.goto(url)
    settled(page)


def settled(page: Page) -> None:
    """Wait until Streamlit has run its script and nothing on the page is an old element."""
    page.wait_for_selector(AT_REST, state="attached")
    expect(page.locator('[data-testid="stSkeleton"], [data-stale="true"]')).to_have_count(0)


def unreachable(page: Page) -> list[str]:
    """What axe-core finds on the page that is serious or critical, each with its elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def overflowing(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )


def api(url: str, path: str, body: Any = None) -> Any:
    """What the server's API answers: a GET, or a POST where there is a `body`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_until_completed(url: str, run_id: str) -> None:
    """Wait for a training that somebody has started."""
    until = time.monotonic() + 240
    while (run := api(url, f"/api/runs/{run_id}"))["status"] != "completed":
        assert run["status"] in ("starting", "running"), run
        assert time.monotonic() < until, run
        time.sleep(0.05)


def picture(page: Page, path: Path) -> None:
    """A screenshot of the whole page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=True)
