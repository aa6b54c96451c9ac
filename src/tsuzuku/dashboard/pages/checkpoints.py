"""The page checkpoints."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker({"title": Both("📂 チェックポイント管理", "📂 Checkpoints")})


def page() -> None:
    st.title(say("title"))
