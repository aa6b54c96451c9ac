"""Messages: both languages, and every place that says one gives it what it needs."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import tsuzuku
from tsuzuku.core.messages import TEXTS, text

SOURCE = Path(tsuzuku.__file__).parent


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def said() -> list[tuple[str, str, set[str]]]:
    """Every `say("key", name=…)` in the source: where, the key, the names given."""
    found: list[tuple[str, str, set[str]]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "say":
                keys = [
                    n.value
                    for n in ast.walk(node.args[0])
                    if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                names = {k.arg for k in node.keywords if k.arg}
                found += [(f"{path.name}:{node.lineno}", key, names) for key in keys]
    return found


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_say_the_same_things(key: str) -> None:
    japanese, english = TEXTS[key]
    assert fields(japanese) == fields(english)
    assert re.search(r"[぀-ヿ一-鿿]", japanese)
    assert english.isascii()


def test_every_message_that_is_said_is_there_and_complete() -> None:
    calls = said()
    assert len(calls) > 15
    for where, key, names in calls:
        assert key in TEXTS, f"{where} says {key!r}"
        assert fields(TEXTS[key][0]) <= names, f"{where} says {key!r} without all of its values"


def test_every_message_is_said_somewhere() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in SOURCE.rglob("*.py"))
    for key in TEXTS:
        assert source.count(f'"{key}"') > 1, f"nobody says {key!r}"


def test_a_message_is_filled_in() -> None:
    values = {"name": "a.pt", "epoch": 3, "step": 40}
    assert text("resumed", "en", values) == "Resuming from a.pt (epoch 3, step 40)"
    assert "a.pt" in text("resumed", "ja", values)
    assert text("data_ready", "en", {"train": 12345, "validation": 5}).startswith("Data: 12,345")


def test_a_text_that_is_no_key_is_said_as_it_is() -> None:
    assert text("{odd} text: 100%", "ja", {}) == "{odd} text: 100%"
    assert text("step {n}", "en", {"n": 3}) == "step 3"


def test_values_with_braces_do_no_harm() -> None:
    assert text("save_failed", "en", {"error": "{x} {0}"}).endswith("{x} {0}")
