"""Downloads and makings of data sets: begun here, and followed however they were begun."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import streamlit as st
from streamlit.components import v2

from tsuzuku.core.answers import Message
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.schemas import Event
from tsuzuku.dashboard import connection
from tsuzuku.dashboard.connection import client
from tsuzuku.dashboard.refusal_words import refusal
from tsuzuku.dashboard.words import Both, speaker

HERE = Path(__file__).parent
LOOKED_BACK = 500
"""Newest events among which the last word of a download is looked for."""
PATIENCE = 0.5
"""Seconds in which the server refuses to make a data set, if it does at once."""
GONE_WITHIN = 3.0
"""Seconds after its last word in which a download has ended."""
ENDED, BEGAN = "fetching_ended", "fetching_began"
"""In the session: the last words that are still to be seen, and what was begun."""

say = speaker(
    {
        "starting": Both("{name} を開始しています…", "{name} is about to begin…"),
        "silent": Both("何も言わずに終了しました。", "It ended without a word."),
        "failed": Both(
            "{name} を用意できませんでした: {error}", "{name} could not be had: {error}"
        ),
        "done": Both("{name} の用意ができました。", "{name} is there."),
    }
)

_component = v2.component(
    "tsuzuku_fetching",
    html='<ul aria-live="off"></ul>',
    css=(HERE / "fetching.css").read_text(encoding="utf-8"),
    js=(HERE / "fetching.js").read_text(encoding="utf-8"),
)


class Words(NamedTuple):
    """How downloads and makings have ended."""

    said: dict[str, str | None]
    """What this visit has not seen yet: the error, or None where all is well."""
    changed: list[str]
    """Those that have ended since anybody looked."""


def download(name: str) -> None:
    """Begin, or go on; raises what the server refuses."""
    _begin(name)
    client().download_dataset(name)


def make(name: str, count: int | None, seed: int | None, text: str | None) -> None:
    """Begin to make one; raises what the server refuses at once.

    The answer comes when all is done, so somebody else waits for it; how far it is, and how it
    ends, is told by events.
    """
    _begin(name)
    asked: Future[Message] = _waiting().submit(
        client().make_dataset, name, count=count, seed=seed, text=text
    )
    with suppress(TooSlow):
        asked.result(PATIENCE)


def refused(name: str, error: TsuzukuError) -> None:
    """The server would not begin; it is shown as the end that it is."""
    _ended()[name] = refusal(error)


def follow(names: list[str]) -> bool:
    """Show how far those that are under way are; whether one has just ended."""
    if not names:
        return False
    since, known = _so_far(names)
    server, token = connection.as_browsers_see_it()
    data = {"server": server, "token": token, "since": since}
    data |= {"names": names, "known": known, "words": {"starting": say("starting", name="{name}")}}
    result = _component(key="fetching", data=data, on_ended_change=_nothing)
    ended = cast("Mapping[str, Any] | None", result.ended)
    if not ended:
        return False
    name = str(ended["name"])
    final = _final(_newest()).get(name)
    _ended()[name] = say("silent") if final is None else _error(final)
    _wait_until_gone(name)
    return True


def last_words(names: list[str]) -> Words:
    """How those of `names` ended, which are not under way.

    Also those that ended while nobody looked, as far as it is among the newest events.
    """
    changed: list[str] = []
    began, known, ended = _began(), _known(), _ended()
    for name, event in _final(_newest()).items():
        if name not in names:
            continue
        if event.seq > known.get(name, 0):
            known[name] = event.seq
            changed.append(name)
        mine = event.seq > began[name] if name in began else event.type == "error"
        if mine and name not in ended:
            ended[name] = _error(event)
        if mine:
            began.pop(name, None)
    return Words({name: error for name, error in ended.items() if name in names}, changed)


def show(name: str, error: str | None) -> None:
    """How one has ended: an error until it is tried again, a success once."""
    if error:
        st.error(say("failed", name=name, error=error), icon="⚠️")
    else:
        st.success(say("done", name=name), icon="✅")
        _ended().pop(name, None)


def _begin(name: str) -> None:
    _ended().pop(name, None)
    _began()[name] = client().last_seq()


def _began() -> dict[str, int]:
    """What this visit has begun, and the number of the newest event before it."""
    return cast("dict[str, int]", st.session_state.setdefault(BEGAN, {}))


def _ended() -> dict[str, str | None]:
    return cast("dict[str, str | None]", st.session_state.setdefault(ENDED, {}))


@st.cache_resource(show_spinner=False)
def _known() -> dict[str, int]:
    """The number of the last word of each that somebody has seen."""
    return {}


def _error(final: Event) -> str | None:
    return str(final.payload.get("message")) if final.type == "error" else None


def _wait_until_gone(name: str) -> None:
    """A process says its last word just before it ends."""
    until = time.monotonic() + GONE_WITHIN
    while time.monotonic() < until:
        listed = client().datasets(details=False)
        if name not in (*listed.downloading, *listed.making):
            return
        time.sleep(0.1)


def _so_far(names: list[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The number of the newest event, and what each of them said last."""
    known: dict[str, dict[str, Any]] = {}
    events = _newest()
    for event in events:
        name = event.payload.get("dataset")
        if name in names:
            known[str(name)] = event.payload
    final = _final(events)
    return (events[-1].seq if events else 0), {n: p for n, p in known.items() if n not in final}


def _final(events: list[Event]) -> dict[str, Event]:
    """The last word of each whose newest event is one."""
    newest = {str(e.payload["dataset"]): e for e in events if e.payload.get("dataset")}
    return {n: e for n, e in newest.items() if e.type == "error" or e.payload.get("done")}


def _newest() -> list[Event]:
    server = client()
    return server.event_page(max(0, server.last_seq() - LOOKED_BACK), limit=LOOKED_BACK).events


@st.cache_resource(show_spinner=False)
def _waiting() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, "making")


def _nothing() -> None:
    """Streamlit wants a callback for each value that a component may tell."""
