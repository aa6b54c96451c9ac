"""The script that Streamlit runs for every visit: frame, navigation, sidebar, page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from tsuzuku.dashboard import connection, language_switch, places, sidebar, words
from tsuzuku.dashboard.pages import checkpoints, datasets, main, models, runs
from tsuzuku.dashboard.places import Place

PAGES: dict[Place, Callable[[], None]] = {
    "main": main.page,
    "models": models.page,
    "checkpoints": checkpoints.page,
    "runs": runs.page,
    "datasets": datasets.page,
}
CSS = Path(__file__).with_name("frame.css")


def run() -> None:
    st.set_page_config(page_title="Tsuzuku", page_icon="🔁", layout="wide")
    words.settle(connection.default_language())
    st.html(CSS)
    page = st.navigation(places.declare(PAGES), position="top")
    language_switch.draw()
    sidebar.draw(places.of(page))
    page.run()


run()
