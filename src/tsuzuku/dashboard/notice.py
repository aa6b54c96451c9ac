"""What the last button of the sidebar did, or why it could not: it stays until the next one."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard.refusal_words import refusal
from tsuzuku.dashboard.words import Both, speaker

_NOTICE = "notice"

say = speaker(
    {
        "away": Both(
            "サーバーに接続できません。起動しているか確認してください。",
            "The server cannot be reached. Is it running?",
        ),
    }
)


class Notice(NamedTuple):
    text: str
    refused: bool = False


def tell(text: str) -> None:
    st.session_state[_NOTICE] = Notice(text)


def refuse(error: TsuzukuError) -> None:
    """What the server refuses."""
    text = say("away") if error.code == "unreachable" else refusal(error)
    st.session_state[_NOTICE] = Notice(text, refused=True)


def forget() -> None:
    st.session_state.pop(_NOTICE, None)


def said() -> Notice | None:
    return st.session_state.get(_NOTICE)


def show() -> None:
    """The notice, if there is one."""
    notice = said()
    if notice is None:
        return
    if notice.refused:
        st.error(notice.text, icon="⚠️")
    else:
        st.success(notice.text, icon="✅")
