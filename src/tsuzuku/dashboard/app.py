"""The script that Streamlit runs for every visit: frame, navigation, sidebar, page."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from tsuzuku.dashboard import places
from tsuzuku.dashboard.pages import checkpoints, datasets, main, models, runs
from tsuzuku.dashboard.places import Place
from tsuzuku.dashboard.words import ADDRESS, LANGUAGE

PAGES: dict[Place, Callable[[], None]] = {
    "main": main.page,
    "models": models.page,
    "checkpoints": checkpoints.page,
    "runs": runs.page,
    "datasets": datasets.page,
}


def run() -> None:
    if st.query_params.get(ADDRESS) == "en":
        st.session_state[LANGUAGE] = "en"
    st.set_page_config(page_title="Tsuzuku", page_icon="🔁", layout="wide")
    st.navigation(places.declare(PAGES), position="top").run()


run()
