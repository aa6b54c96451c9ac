"""What the dashboard says, in Japanese and English."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import streamlit as st

Language = Literal["ja", "en"]
LANGUAGE = "language"
"""The language's name in the session's state."""
ADDRESS = "lang"
"""Its name in the page's address: `?lang=en`."""


class Both(NamedTuple):
    """One text in both languages; both have the same `{placeholders}`."""

    ja: str
    en: str


def language() -> Language:
    """The language of this visit."""
    return "en" if st.session_state.get(LANGUAGE) == "en" else "ja"


def speaker(words: Mapping[str, Both]) -> Callable[..., str]:
    """`say(key, **values)`: the text of `words` with that key, in the visit's language."""

    def say(key: str, **values: Any) -> str:
        text = getattr(words[key], language())
        return text.format(**values) if values else text

    return say
