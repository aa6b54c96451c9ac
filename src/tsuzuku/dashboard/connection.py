"""The API's client for this process, and what is shown where the API refuses or is away."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import cast

import streamlit as st

from tsuzuku.client import Client, Unreachable
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard.refusal_words import refusal
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "away": Both(
            "サーバーに接続できません。学習はそのまま続いています。サーバーが戻ると、このページも自動で戻ります。",
            "The server cannot be reached. Training goes on, and this page comes back when the"
            " server does.",
        ),
    }
)


def address() -> tuple[str, str | None]:
    """Where the API is, and its token. The server that this page is mounted in says so; with
    `streamlit run` it is TSUZUKU_SERVER and TSUZUKU_TOKEN."""
    known = cast("Mapping[str, str]", st.secrets)
    try:
        return known["server"], known.get("token")
    except (KeyError, FileNotFoundError):  # the latter where there are no secrets at all
        url = os.environ.get("TSUZUKU_SERVER", "http://127.0.0.1:8000")
        return url.rstrip("/"), os.environ.get("TSUZUKU_TOKEN")


def as_browsers_see_it() -> tuple[str | None, str | None]:
    """The same for what runs in the browser: no address, and no token but the cookie that it has,
    where the server has this very page."""
    try:
        cast("Mapping[str, str]", st.secrets)["server"]
    except (KeyError, FileNotFoundError):
        return address()
    return None, None


def default_language() -> str:
    """`server.language`, which the server that this page is mounted in has said."""
    try:
        return cast("Mapping[str, str]", st.secrets)["language"]
    except (KeyError, FileNotFoundError):
        return os.environ.get("TSUZUKU_LANGUAGE", "ja")


@st.cache_resource(show_spinner=False)
def _client(url: str, token: str | None) -> Client:
    return Client(url, token=token)


def client() -> Client:
    """One client for all visits; it may be used from any thread."""
    return _client(*address())


@contextmanager
def refusals() -> Generator[None]:
    """Shows what the server refuses as its sentence and hint, instead of raising it."""
    try:
        yield
    except Unreachable:
        st.error(say("away"), icon="🔌")
    except TsuzukuError as error:
        st.error(refusal(error), icon="⚠️")
