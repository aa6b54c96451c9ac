"""日本語 / English, at the top of the sidebar."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard import words
from tsuzuku.dashboard.words import LANGUAGE, Both, speaker

NAMES = {"ja": "日本語", "en": "English"}
_SWITCH = "language_switch"

say = speaker({"label": Both("表示言語 / Language", "Language / 表示言語")})


def draw() -> None:
    st.session_state[_SWITCH] = words.language()
    st.sidebar.segmented_control(
        say("label"),
        list(NAMES),
        key=_SWITCH,
        format_func=NAMES.__getitem__,
        on_change=_switch,
        label_visibility="collapsed",
    )


def _switch() -> None:
    # pressed again, the same one would be let go
    st.session_state[LANGUAGE] = st.session_state[_SWITCH] or words.language()
    words.show()
