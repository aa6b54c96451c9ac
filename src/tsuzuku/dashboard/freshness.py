"""A list says when it is behind, and is drawn anew only when somebody wants that: rows do not move
under the pointer, and no dialog closes, because a training has saved something."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard.watcher import watch
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "behind": Both(
            "🔄 新しい内容があります。一覧を更新", "🔄 There is something new: update the list"
        ),
    }
)


@st.fragment
def section(drawn: str, mark: Callable[[], str]) -> None:
    """Offer to draw the page anew when `mark()` is no longer what it was when it was `drawn`."""
    watch(listening=True, name="list")
    try:
        behind = mark() != drawn
    except TsuzukuError:
        return  # the page itself says that the server is away
    if behind and st.button(say("behind"), key="list_update"):
        st.rerun()
