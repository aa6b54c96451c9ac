"""Which models and data sets the server has, without waiting for long."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow

import streamlit as st

from tsuzuku.client import Client
from tsuzuku.core.answers import Config, PluginInfo
from tsuzuku.dashboard.connection import client

FRESH = 2.0
"""Seconds for which an answer is good for all visits: a page is drawn often while one uses it."""
PATIENCE = 1.0
"""Seconds in which a server knows its plug-ins, unless a file has just changed: reading it loads
torch, and the page is not to wait for that."""


class _Asked:
    """The question that is under way, if one is: all visits wait for the same answer."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2, "offers")
        self.under_way: Future[Config] | None = None
        self.answer: tuple[float, Config] | None = None

    def now(self, server: Client) -> Config | None:
        known = self.answer
        if known is not None and time.monotonic() - known[0] < FRESH:
            return known[1]
        asked = self.under_way or self.pool.submit(server.config)
        try:
            answer = asked.result(PATIENCE)
        except TooSlow:
            self.under_way = asked
            return known[1] if known is not None else None
        except BaseException:
            self.under_way = None
            raise
        self.under_way = None
        self.answer = time.monotonic(), answer
        return answer


@st.cache_resource(show_spinner=False)
def _asked() -> _Asked:
    return _Asked()


def offers() -> Config | None:
    """What `GET /api/config` answers, or has answered before if that takes long; None if the
    server is still reading its plug-ins for the first time."""
    return _asked().now(client())


def readable(plugins: dict[str, PluginInfo]) -> list[str]:
    """The names of those that can be used."""
    return [name for name, plugin in plugins.items() if not plugin.error]
