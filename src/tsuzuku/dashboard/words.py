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
DEFAULT = "default_language"
"""In the session's state: the server's own."""


class Both(NamedTuple):
    """One text in both languages; both have the same `{placeholders}`."""

    ja: str
    en: str


def language() -> Language:
    """The language of this visit."""
    return "en" if st.session_state.get(LANGUAGE) == "en" else "ja"


def address() -> dict[str, str]:
    """The language as a page's address says it: not at all where it is the server's own."""
    chosen = language()
    return {} if chosen == st.session_state.get(DEFAULT, "ja") else {ADDRESS: chosen}


def settle(default: str) -> None:
    """Take the language from the page's address, or keep that of the visit, or the `default`, and
    let the address say it."""
    st.session_state[DEFAULT] = default
    asked = st.query_params.get(ADDRESS)
    if asked in ("ja", "en"):
        st.session_state[LANGUAGE] = asked
    elif LANGUAGE not in st.session_state:
        st.session_state[LANGUAGE] = default
    show()


def show() -> None:
    """Let the page's address say the language of the visit."""
    wanted = address().get(ADDRESS)
    if st.query_params.get(ADDRESS) == wanted:
        return
    if wanted is None:
        del st.query_params[ADDRESS]
    else:
        st.query_params[ADDRESS] = wanted


def speaker(words: Mapping[str, Both]) -> Callable[..., str]:
    """`say(key, **values)`: the text of `words` with that key, in the visit's language."""

    def say(key: str, **values: Any) -> str:
        text = getattr(words[key], language())
        return text.format(**values) if values else text

    return say
