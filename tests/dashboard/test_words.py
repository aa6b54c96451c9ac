"""Everything that the dashboard says is there in both languages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from string import Formatter
from typing import Any

import pytest

import tsuzuku.dashboard
from tsuzuku.dashboard.words import Both

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tsuzuku.dashboard.__path__, "tsuzuku.dashboard.")
)
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")


def tables(name: str) -> list[dict[str, Both]]:
    """The tables of texts in a module: of its speakers, and of its own."""
    module = importlib.import_module(name)
    found: list[dict[str, Both]] = []
    for value in vars(module).values():
        if inspect.isfunction(value) and value.__qualname__.startswith("speaker.<locals>"):
            found.append(inspect.getclosurevars(value).nonlocals["words"])
        elif isinstance(value, dict) and any(isinstance(one, Both) for one in value.values()):
            found.append(value)
    return found


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("name", MODULES)
def test_both_languages_say_the_same(name: str) -> None:
    for table in tables(name):
        for key, both in table.items():
            assert both.ja, (name, key)
            assert both.en, (name, key)
            assert placeholders(both.ja) == placeholders(both.en), (name, key)
            # Japanese letters in English only where a Japanese name is meant
            quoted = re.sub(r"「[^」]*」|日本語|表示言語", "", both.en)
            assert not JAPANESE.search(quoted), (name, key, both.en)


def test_there_are_tables() -> None:
    found: list[Any] = [table for name in MODULES for table in tables(name)]
    assert len(found) > 10
    assert sum(map(len, found)) > 100
