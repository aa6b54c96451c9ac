"""The page main."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker({"title": Both("ASR 学習ダッシュボード", "ASR training dashboard")})


def page() -> None:
    st.title(say("title"))
