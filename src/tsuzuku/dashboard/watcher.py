"""Tells a page that has no live part when the state of the trainings changes.

It shows nothing. In the browser it listens to the server's events, and what Python hears is only
that a status has changed or a checkpoint was written.
"""

from __future__ import annotations

from pathlib import Path

from streamlit.components import v2

from tsuzuku.dashboard.connection import as_browsers_see_it

_component = v2.component(
    "tsuzuku_watcher", js=Path(__file__).with_name("watcher.js").read_text(encoding="utf-8")
)


def watch() -> None:
    """Run the script, or the fragment around this, again when something has changed."""
    server, token = as_browsers_see_it()
    _component(
        key="watcher", data={"server": server, "token": token}, height=1, on_changed_change=_nothing
    )


def _nothing() -> None:
    """Streamlit wants a callback for each value that a component may tell."""
