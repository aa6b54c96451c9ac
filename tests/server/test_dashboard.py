"""What is put right in Streamlit, shown with its own runner."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from streamlit.runtime import Runtime
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state import SafeSessionState, SessionState
from streamlit.testing.v1.local_script_runner import LocalScriptRunner

from tsuzuku.server.dashboard import keep_what_is_asked_for

APP = """
import streamlit as st

ran = st.session_state["ran"]

@st.fragment
def part():
    ran.append("part of one")

def one():
    ran.append("one")
    part()

def two():
    ran.append("two")
    st.session_state["meanwhile"]()

st.navigation([st.Page(one, default=True), st.Page(two)]).run()
"""


class Session:
    """What Streamlit's own would have been asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def request_rerun(self, state: Any) -> None:
        self.asked.append(state)


class Runner(LocalScriptRunner):
    """Keeps the page that a browser would be told with each run."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.told: list[str] = []
        self.on_event.connect(self._note, weak=False)

    def _note(self, _: Any, event: Any = None, page_script_hash: str = "", **__: Any) -> None:
        if page_script_hash:
            self.told.append(page_script_hash)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> SafeSessionState:
    logging.getLogger("streamlit").setLevel(logging.CRITICAL)
    monkeypatch.setattr(PagesManager, "uses_pages_directory", False)
    monkeypatch.setattr(Runtime, "_instance", MagicMock())
    made = SafeSessionState(SessionState(), lambda: None)
    made["ran"] = []
    made["meanwhile"] = lambda: None
    return made


def visited(tmp_path: Path, state: SafeSessionState, patched: bool) -> tuple[list[str], bool]:
    """What ran on the way from the first page to the second, if a part of the first is asked for
    meanwhile; and whether the browser stays on the second."""
    runner_class = type("Own", (Runner,), {"_run_script": Runner._run_script})
    if patched:
        keep_what_is_asked_for(type("Ours", (Session,), {}), runner_class)
    app = tmp_path / "app.py"
    app.write_text(APP)
    pages = PagesManager(str(app))
    first = runner_class(str(app), state, pages)
    first.request_rerun(RerunData())
    first.start()
    first.join()
    one, (part,) = pages.current_page_script_hash, list(first._fragment_storage._fragments)
    two = next(h for h, page in pages.get_pages().items() if page["page_name"] == "two")
    runner = runner_class(str(app), state, pages, fragment_storage=first._fragment_storage)
    late = RerunData(page_script_hash=one, fragment_id=part)
    state["meanwhile"] = lambda: runner.request_rerun(late)
    state["ran"] = []
    runner.request_rerun(RerunData(page_script_hash=two))
    runner.start()
    runner.join()
    return state["ran"], runner.told == [two]


def test_a_part_of_the_page_before_does_not_lead_back(
    tmp_path: Path, state: SafeSessionState
) -> None:
    ran, stays = visited(tmp_path, state, patched=True)
    assert ran == ["two"]
    assert stays


def test_without_it_streamlit_would_go_back(tmp_path: Path, state: SafeSessionState) -> None:
    """If this fails, Streamlit has closed the hole itself, and ours can go."""
    _, stays = visited(tmp_path, state, patched=False)
    assert not stays


def test_a_new_session_runs_all_of_the_page_first() -> None:
    session_class = type("Ours", (Session,), {})
    keep_what_is_asked_for(session_class, type("Own", (), {"_run_script": print}))
    session = session_class()
    first, second = MagicMock(fragment_id="part"), MagicMock(fragment_id="part")
    session.request_rerun(first)
    session.request_rerun(second)
    assert (first.fragment_id, second.fragment_id) == ("", "part")
    assert session.asked == [first, second]
