"""What a visitor has typed, by the path of a setting.

It is kept while its widget is not on the page, and across pages. What nobody has typed follows its
default, which may change: with the model, or with the checkpoint to resume from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import streamlit as st

_TYPED = "typed"


def typed() -> dict[str, Any]:
    """All of it."""
    return cast("dict[str, Any]", st.session_state.setdefault(_TYPED, {}))


def value(path: str, default: Any) -> Any:
    return typed().get(path, default)


def widget(path: str, default: Any, write: Callable[[Any], Any] = lambda value: value) -> str:
    """The key of the widget that shows a setting; `write` makes of a value what it shows.

    To be called right before the widget, which has `on_change=keep`.
    """
    key = f"{_TYPED}:{path}"
    shown = write(value(path, default))
    # set only where it differs: what is set is sent to the browser, over what is being typed there
    if key not in st.session_state or st.session_state[key] != shown:
        st.session_state[key] = shown
    return key


def keep(path: str, read: Callable[[Any], Any] = lambda shown: shown) -> None:
    """For `on_change`: what the widget shows is what was typed."""
    typed()[path] = read(st.session_state[f"{_TYPED}:{path}"])


def drop(path: str) -> None:
    """Back to the default of one setting."""
    typed().pop(path, None)


def forget(prefix: str) -> None:
    """Back to the defaults of every setting whose path begins so."""
    for path in [one for one in typed() if one.startswith(prefix)]:
        del typed()[path]
