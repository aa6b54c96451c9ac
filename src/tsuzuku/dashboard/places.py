"""The dashboard's pages by name, and the way from one to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from tsuzuku.dashboard.words import Both, address, speaker

Place = Literal["main", "models", "checkpoints", "runs", "datasets"]
HOME: Place = "main"

say = speaker(
    {
        "main": Both("🏠 メイン", "🏠 Main"),
        "models": Both("🤖 モデル", "🤖 Models"),
        "checkpoints": Both("📂 チェックポイント", "📂 Checkpoints"),
        "runs": Both("📈 学習履歴", "📈 Runs"),
        "datasets": Both("📚 データ", "📚 Data"),
    }
)
_KNOWN = "places"


def declare(pages: Mapping[Place, Callable[[], None]]) -> list[StreamlitPage]:
    """The pages for `st.navigation`, titled in the visit's language, in the order given."""
    known = {
        name: st.Page(page, title=say(name), url_path=name, default=name == HOME)
        for name, page in pages.items()
    }
    st.session_state[_KNOWN] = known
    return list(known.values())


def of(page: StreamlitPage) -> Place:
    """The name of a declared page."""
    known = cast("dict[Place, StreamlitPage]", st.session_state[_KNOWN])
    for name, one in known.items():
        if one.url_path == page.url_path:
            return name
    return HOME


def go(place: Place, **query: str) -> None:
    """Leave this page for another; what stands behind this call does not run.

    `query` is shown in the page's address, beside the language, and is there in
    `st.query_params`.
    """
    st.switch_page(st.session_state[_KNOWN][place], query_params={**address(), **query})


def link(place: Place, label: str | None = None) -> None:
    """A link to a page, by its own name or another `label`."""
    st.page_link(st.session_state[_KNOWN][place], label=label, query_params=address())
