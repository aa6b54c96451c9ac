"""A board to draw a picture on, with mouse, finger or pen."""

from __future__ import annotations

import base64
from pathlib import Path

import streamlit as st
from streamlit.components import v2

from tsuzuku.dashboard.words import Both, speaker

HERE = Path(__file__).parent
PREFIX = "data:image/png;base64,"

say = speaker(
    {
        "label": Both("絵を描く黒板", "A board to draw on"),
        "clear": Both("消す", "Clear"),
        "hint": Both(
            "マウス、指、ペンで数字などを大きく描いてください。キーボードで使う場合は「ファイル」から画像を選べます。",
            "Draw a digit, say, with mouse, finger or pen, and large. With a keyboard, choose a"
            " picture under “File”.",
        ),
    }
)

_component = v2.component(
    "tsuzuku_drawing",
    html='<div class="board"><canvas width="280" height="280" role="img"></canvas>'
    '<div class="side"><p></p><button type="button"></button></div></div>',
    css=(HERE / "drawing.css").read_text(encoding="utf-8"),
    js=(HERE / "drawing.js").read_text(encoding="utf-8"),
)


def board(key: str) -> bytes | None:
    """What is drawn, as a PNG; None as long as that is nothing.

    The picture is kept in the session while the board is not on the page.
    """
    kept = f"{key}-kept"
    before = st.session_state.get(kept)
    data = {"label": say("label"), "clear": say("clear"), "hint": say("hint"), "picture": before}
    result = _component(key=key, data=data, default={"picture": before}, on_picture_change=_nothing)
    drawn = result.picture
    st.session_state[kept] = drawn
    if not isinstance(drawn, str) or not drawn.startswith(PREFIX):
        return None
    return base64.b64decode(drawn.removeprefix(PREFIX))


def _nothing() -> None:
    """Streamlit wants a callback for each value that a component may tell."""
