"""What the last button of the sidebar did, or why it could not: it stays until the next one."""

from __future__ import annotations

from typing import NamedTuple

import streamlit as st

from tsuzuku.core.errors import TsuzukuError
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
    hint: str = ""
    refused: bool = False


def tell(text: str) -> None:
    st.session_state[_NOTICE] = Notice(text)


def refuse(error: TsuzukuError) -> None:
    """What the server refuses, in its own words."""
    away = error.code == "unreachable"
    detail, hint = (say("away"), "") if away else (error.detail, error.hint)
    st.session_state[_NOTICE] = Notice(detail, hint, refused=True)


def forget() -> None:
    st.session_state.pop(_NOTICE, None)


def said() -> Notice | None:
    return st.session_state.get(_NOTICE)


def show() -> None:
    """The notice, if there is one."""
    notice = said()
    if notice is None:
        return
    text = f"{notice.text}\n\n{notice.hint}" if notice.hint else notice.text
    if notice.refused:
        st.error(text, icon="⚠️")
    else:
        st.success(text, icon="✅")
