"""The page models."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker({"title": Both("🤖 モデル", "🤖 Models")})


def page() -> None:
    st.title(say("title"))
