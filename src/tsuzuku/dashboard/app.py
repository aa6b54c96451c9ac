"""The script that Streamlit runs for every visit: frame, navigation, sidebar, page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from tsuzuku import __version__
from tsuzuku.dashboard import connection, language_switch, places, sidebar, words
from tsuzuku.dashboard.pages import checkpoints, datasets, main, models, runs
from tsuzuku.dashboard.places import Place
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "about": Both(
            "**Tsuzuku {version}** – 止めても、落ちても、同じ結果まで続く学習",
            "**Tsuzuku {version}** – training that goes on, to the same result, whatever stops it",
        ),
    }
)
PAGES: dict[Place, Callable[[], None]] = {
    "main": main.page,
    "models": models.page,
    "checkpoints": checkpoints.page,
    "runs": runs.page,
    "datasets": datasets.page,
}
CSS = Path(__file__).with_name("frame.css")


def run() -> None:
    words.settle(connection.default_language())
    # with an entry of its own the menu is there, and with it the choice of light and dark
    about = say("about", version=__version__)
    st.set_page_config("Tsuzuku", page_icon="🔁", layout="wide", menu_items={"About": about})
    st.html(CSS)
    page = st.navigation(places.declare(PAGES), position="top")
    language_switch.draw()
    sidebar.draw(places.of(page))
    page.run()


if __name__ == "__main__":  # as Streamlit runs it
    run()
