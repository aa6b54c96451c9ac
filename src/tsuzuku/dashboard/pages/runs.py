"""The page runs."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker({"title": Both("📈 学習履歴", "📈 Runs")})


def page() -> None:
    st.title(say("title"))
