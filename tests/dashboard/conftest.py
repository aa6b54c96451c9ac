"""A served workspace and a browser for each module of tests.

A module that wants another workspace defines its own fixture `root`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from browsing import CHROMIUM, FLAGS, WINDOW, Complaints, new_context
from plain_plugins import make_workspace
from servers import Served, serving


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser on two busy cores is now and then seconds late: what fails in one is tried again,
    which the report says (R)."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the whole session: Playwright has an event loop running in this thread,
    and tests of other folders run their own."""
    if not Path(CHROMIUM).exists() and os.environ.get("CI") != "true":
        pytest.skip(f"There is no {CHROMIUM}, and without it the dashboard is not tested.")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Streamlit, when it runs a script in this process, leaves it as `__main__`, which processes
    that other tests start from here would run again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What the browser found wrong in this test; it fails if there is anything at its end."""
    found = Complaints()
    yield found
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def tabs(browser: Browser) -> Iterator[list[Page]]:
    """At most one page, kept for the next test: its process has loaded and compiled Streamlit's
    scripts, which is most of the time that a page takes."""
    kept: list[Page] = []
    yield kept
    for page in kept:
        page.context.close()


@pytest.fixture
def page(browser: Browser, tabs: list[Page], complaints: Complaints) -> Iterator[Page]:
    """A page of a visitor who has left nothing in the browser but its cache."""
    if not tabs:
        tabs.append(new_context(browser).new_page())
    page = tabs.pop()
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WINDOW)
    complaints.watch(page.context)
    yield page
    complaints.leave(page.context)
    with suppress(Error):  # its server may be gone; then the next test has a new one
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear() }")
        page.context.clear_cookies()
        page.goto(urljoin(page.url, "/api/health"))
        tabs.append(page)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the model `tiny` and the data set `noise`, without runs."""
    return make_workspace(tmp_path_factory.mktemp("dashboard") / "workspace")


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Served]:
    """The workspace `root`, served with the dashboard."""
    with serving(root) as one:
        yield one
