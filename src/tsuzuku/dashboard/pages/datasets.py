"""The page datasets."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker({"title": Both("📚 データ", "📚 Data")})


def page() -> None:
    st.title(say("title"))
