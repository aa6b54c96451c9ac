"""What is refused is said in the visit's language, and every code has its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tsuzuku
from tsuzuku.core.errors import Busy, NotFound
from tsuzuku.dashboard import refusal_words
from tsuzuku.dashboard.refusal_words import JAPANESE, refusal

SOURCE = Path(tsuzuku.__file__).parent
ROOMS = ("client", "core", "server", "training", "worker")
CODE = re.compile(r'\bcode ?= ?"([a-z_]+)"')


def codes() -> set[str]:
    """Every code that an error of the server, or of a worker, may have."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (SOURCE / room).rglob("*.py"):
            found.update(CODE.findall(path.read_text("utf-8")))
    return found


def test_every_code_has_japanese_words() -> None:
    # the server does not start, the page to log in says so, a banner says so
    elsewhere = {"bad_token_file", "wrong_token", "unreachable"}
    assert len(codes()) > 30
    assert codes() - elsewhere - set(JAPANESE) == set()
    assert set(JAPANESE) - codes() == set()


def test_the_server_s_own_sentence_and_hint_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Busy("A training is running: x.", "Stop it first.", code="already_running")
    monkeypatch.setattr(refusal_words, "language", lambda: "en")
    assert refusal(error) == "A training is running: x.\n\nStop it first."
    monkeypatch.setattr(refusal_words, "language", lambda: "ja")
    first, *rest = refusal(error).split("\n\n")
    assert first == JAPANESE["already_running"]
    assert rest == ["A training is running: x.", "Stop it first."]
    assert refusal(NotFound("No.", code="new")) == f"{refusal_words.UNKNOWN}\n\nNo."
