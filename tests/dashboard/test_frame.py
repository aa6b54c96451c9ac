"""The dashboard's frame: navigation, language, themes, and where it is served."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from browsing import show
from servers import Served


def test_the_page_is_there(page: Page, served: Served) -> None:
    show(page, served.url)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
