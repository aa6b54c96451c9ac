"""Streamlit's grids are drawn on a canvas; beside it is a table for those who hear the page."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from browsing import settled

ROW = 35
"""Pixels, the head's too."""


def grid(page: Page, place: int = 0) -> Locator:
    """The first grid of the page, or a later one."""
    return page.get_by_test_id("stMain").get_by_test_id("stDataFrame").nth(place)


def choose(page: Page, row: int, place: int = 0) -> None:
    """Click the box at the left of a row; 0 is the first. Once more where the click was lost: a
    grid that is being drawn anew has boxes that nothing comes of."""
    mine = grid(page, place).locator("tbody tr").nth(row)
    before = mine.get_attribute("aria-selected") or "false"
    for _ in range(2):
        grid(page, place).click(position={"x": 16, "y": ROW * (row + 1) + ROW // 2})
        settled(page)
        try:
            expect(mine).not_to_have_attribute("aria-selected", before, timeout=8_000)
        except AssertionError:
            continue
        return


def chosen(page: Page, place: int = 0) -> Locator:
    """The rows that are chosen."""
    return grid(page, place).locator('tbody tr[aria-selected="true"]')


def has_rows(page: Page, count: int, place: int = 0) -> None:
    """Wait until it has so many rows, its head not counted."""
    table = grid(page, place).locator("table[role=grid]")
    expect(table).to_have_attribute("aria-rowcount", str(count + 1))
