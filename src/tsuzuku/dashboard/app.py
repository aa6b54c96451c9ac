"""The script that Streamlit runs for every visit: frame, navigation, sidebar, page."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.pages import checkpoints, datasets, main, models, runs
from tsuzuku.dashboard.words import LANGUAGE, Both, speaker

say = speaker(
    {
        "main": Both("🏠 メイン", "🏠 Main"),
        "models": Both("🤖 モデル", "🤖 Models"),
        "checkpoints": Both("📂 チェックポイント", "📂 Checkpoints"),
        "runs": Both("📈 学習履歴", "📈 Runs"),
        "datasets": Both("📚 データ", "📚 Data"),
    }
)
PAGES = {
    "main": main.page,
    "models": models.page,
    "checkpoints": checkpoints.page,
    "runs": runs.page,
    "datasets": datasets.page,
}


def run() -> None:
    if st.query_params.get("lang") == "en":
        st.session_state[LANGUAGE] = "en"
    st.set_page_config(page_title="Tsuzuku", page_icon="🔁", layout="wide")
    pages = [
        st.Page(page, title=say(name), url_path=name, default=name == "main")
        for name, page in PAGES.items()
    ]
    st.navigation(pages, position="top").run()


run()
