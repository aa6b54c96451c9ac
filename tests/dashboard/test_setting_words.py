"""Every setting that a form shows has a name and an explanation in Japanese."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

import tsuzuku
from tsuzuku.core.settings import TrainingSettings
from tsuzuku.core.trees import Tree
from tsuzuku.dashboard import setting_words
from tsuzuku.dashboard.schema_fields import Field, fields
from tsuzuku.dashboard.schema_form import Form
from tsuzuku.dashboard.setting_words import PLUGINS, TRAINING, explained, label

SOURCE = Path(tsuzuku.__file__).parent
BUILTIN = {
    path.stem: f"tsuzuku.{kind}.{path.stem}"
    for kind in ("models", "datasets")
    for path in (SOURCE / kind).glob("[!_]*.py")
}


def paths(found: list[Field]) -> set[str]:
    return {one.path for one in found}.union(*(paths(list(one.fields)) for one in found))


def settings(model: type[BaseModel]) -> set[str]:
    schema: Tree = model.model_json_schema()
    return paths(fields(schema, {}))


def test_the_training_s() -> None:
    assert settings(TrainingSettings) == set(TRAINING)


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_built_in_plugin_s(name: str) -> None:
    config = import_module(BUILTIN[name]).Config
    assert settings(config) == set(PLUGINS[name])


def test_no_plugin_that_is_not_there() -> None:
    assert set(PLUGINS) == set(BUILTIN)


def test_a_form_shows_them_in_the_visit_s_language(monkeypatch: pytest.MonkeyPatch) -> None:
    schema: Tree = TrainingSettings.model_json_schema()

    def shown() -> dict[str, Field]:
        return {one.path: one for one in Form("x.", schema, {}, words=TRAINING).fields}

    monkeypatch.setattr(setting_words, "language", lambda: "ja")
    assert shown()["learning_rate"].label == "学習率 `learning_rate`"
    assert shown()["seed"].help == TRAINING["seed"][1]
    inner = {one.path: one for one in shown()["checkpoint"].fields}
    assert inner["checkpoint.save_freq"].label == "保存間隔（エポック） `save_freq`"
    monkeypatch.setattr(setting_words, "language", lambda: "en")
    assert shown()["learning_rate"].label == "learning_rate"
    assert shown()["seed"].help == "Everything that is random follows from this number."


def test_a_setting_without_words_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setting_words, "language", lambda: "ja")
    assert label("deep.mine", {}) == "mine"
    assert explained("deep.mine", {}, "What it does.") == "What it does."
