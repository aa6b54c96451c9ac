"""The live part of the main page: numbers, charts, log, system, and what goes wrong.

It runs in the browser and reads the server's event stream by itself, so that nothing of the page is
drawn anew while a training runs. Python only hears what concerns the rest of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from streamlit.components import v2

from tsuzuku.core.answers import Status
from tsuzuku.dashboard import connection
from tsuzuku.dashboard.live.bundle import bundled
from tsuzuku.dashboard.live.words import WORDS
from tsuzuku.dashboard.refusal_words import meanings
from tsuzuku.dashboard.words import language, speaker

HERE = Path(__file__).parent
KEY = "live"
PLOTLY = {
    "Box Zoom": "plotly_zoom",
    "Zoom": "plotly_zoom",
    "Pan": "plotly_pan",
    "Zoom in": "plotly_zoom_in",
    "Zoom out": "plotly_zoom_out",
    "Reset axes": "plotly_reset",
    "Reset": "plotly_reset",
    "Download plot as a PNG": "plotly_download",
    "Download plot as a png": "plotly_download",
    "Download plot": "plotly_download",
    "Double-click to zoom back out": "plotly_back",
}
"""What Plotly says, and which of our words say it."""

say = speaker(WORDS)

_component = v2.component(
    "tsuzuku_live",
    js=bundled(HERE, "live"),
    css=(HERE / "live.css").read_text(encoding="utf-8"),
    isolate_styles=False,  # Plotly puts its styles into the page
)


@dataclass(frozen=True)
class Seen:
    """What the live part has told since the script ran last."""

    status: str
    run_id: str | None
    resume: str | None
    """The run of which somebody has pressed 「🔄 学習再開」 just now."""


def live(run_id: str | None = None, known: Status | None = None) -> Seen:
    """Show a run as it goes on; without `run_id` the one that runs, or ran last.

    `known` is what the rest of the page was drawn with: the script runs again when that is no
    longer so.
    """
    server, token = connection.as_browsers_see_it()
    words: dict[str, Any] = {key: say(key) for key in WORDS}
    words["errors"] = meanings()
    words["plotly"] = {text: say(key) for text, key in PLOTLY.items()}
    told = {"status": known.status, "run_id": known.run_id} if known is not None else None
    result = _component(
        key=KEY,
        data={
            "server": server,
            "token": token,
            "language": language(),
            "words": words,
            "plotly": version("plotly"),
            "run_id": run_id,
            "known": told,
        },
        on_status_change=_nothing,
        on_resume_change=_nothing,
    )
    status = cast("Mapping[str, Any]", result.status or told or {})
    return Seen(
        status=str(status.get("status") or "idle"),
        run_id=cast("str | None", status.get("run_id")),
        resume=cast("str | None", result.resume),
    )


def _nothing() -> None:
    """Streamlit wants a callback for each value that a component may tell."""
