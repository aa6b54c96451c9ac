"""Tells a page that has no live part when the state of the trainings changes.

It shows nothing, and says to the browser which language the page is in. There it listens to the
server's events; what Python hears is only that a status has changed or a checkpoint was written.
"""

from __future__ import annotations

from pathlib import Path

from streamlit.components import v2

from tsuzuku.dashboard.connection import as_browsers_see_it
from tsuzuku.dashboard.words import language

_component = v2.component(
    "tsuzuku_watcher", js=Path(__file__).with_name("watcher.js").read_text(encoding="utf-8")
)


def watch(*, listening: bool, name: str = "sidebar") -> None:
    """Run the fragment around this again when something has changed, if it is `listening`.

    A second one on a page needs a `name` of its own.
    """
    server, token = as_browsers_see_it()
    _component(
        key=f"watcher-{name}-{listening}-{language()}",
        data={
            "server": server,
            "token": token,
            "language": language(),
            "listening": listening,
        },
        height=1,
        on_changed_change=_nothing,
    )


def _nothing() -> None:
    """Streamlit wants a callback for each value that a component may tell."""
