"""Reading `config.yaml`: what is wrong is named, everything at once, and never a traceback."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tsuzuku.core.config_loader import (
    Config,
    checked,
    differences,
    dump_yaml,
    load,
    parse_overrides,
    read_run_settings,
    read_yaml,
    resolve,
)
from tsuzuku.core.errors import SettingsError, WrongInput
from tsuzuku.core.settings import RunSettings, TrainingSettings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def loaded(path: Path, text: str, *overrides: str) -> Config:
    path.write_text(text, encoding="utf-8")
    return load(path, parse_overrides(overrides, "tiny", "noise"))


def resolved(path: Path, text: str, *overrides: str, preset: Any = None) -> RunSettings:
    return resolve(loaded(path, text, *overrides), "tiny", "noise", preset)


def refused(path: Path, text: str, *overrides: str, preset: Any = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        resolved(path, text, *overrides, preset=preset)
    return caught.value.problems


def test_everything_that_is_wrong_is_said_at_once_by_its_full_path(path: Path) -> None:
    text = """
training:
  batch_sise: 8
  num_epochs: none
  checkpoint: {save_freqq: 2, mode: middle}
  scheduler_options: {gamma: -1}
server: {port: 99999, langage: en}
model: {}
"""
    problems = refused(path, text)
    for key, right in {
        "training.batch_sise": "did you mean batch_size?",
        "training.num_epochs": "integer",
        "training.checkpoint.save_freqq": "did you mean save_freq?",
        "training.checkpoint.mode": "'min' or 'max'",
        "training.scheduler_options.gamma": "greater than 0",
        "server.port": "less than or equal to 65535",
        "server.langage": "did you mean language?",
        "model": "did you mean models?",
    }.items():
        matching = [p for p in problems if p.startswith((f"{key}:", f"{key} "))]
        assert len(matching) == 1, (key, problems)
        assert right in matching[0]
    assert len(problems) == 8


def test_the_value_that_was_given_is_shown(path: Path) -> None:
    assert refused(path, "training: {batch_size: viele}")[0].endswith("(it is 'viele')")


def test_a_wrong_setting_of_a_models_own_training_is_named_where_it_stands(path: Path) -> None:
    problems = refused(path, "models: {tiny: {training: {num_epoch: 3, betas: [2, 3]}}}")
    assert sorted(p.split(":")[0].split(" ")[0] for p in problems) == [
        *("models.tiny.training.betas.0", "models.tiny.training.betas.1"),
        "models.tiny.training.num_epoch",
    ]
    assert any("did you mean num_epochs?" in p for p in problems)


def test_a_section_of_the_wrong_kind_is_refused_by_its_path(path: Path) -> None:
    for text, key in {
        "training: 5": "training",
        "training: [1]": "training",
        "training: {checkpoint: 5}": "training.checkpoint",
        "models: 5": "models",
        "models: {tiny: 5}": "models.tiny",
        "models: {tiny: {training: 5}}": "models.tiny.training",
        "datasets: {noise: [1]}": "datasets.noise",
        "server: 5": "server",
    }.items():
        problems = refused(path, text)
        assert problems[0].startswith(key), (text, problems)


def test_a_models_checkpoint_section_of_the_wrong_kind_is_refused_too(path: Path) -> None:
    problems = refused(path, "models: {tiny: {training: {checkpoint: 5}}}")
    assert problems[0].startswith("models.tiny.training.checkpoint")


def test_a_broken_preset_of_a_plug_in_is_no_crash(path: Path) -> None:
    for preset in (5, {"checkpoint": 5}, {"bogus": 1}, {"checkpoint": {"bogus": 1}}):
        with pytest.raises(WrongInput):
            resolved(path, "{}", preset=preset)


def test_an_unknown_section_is_refused_even_when_it_is_empty(path: Path) -> None:
    assert refused(path, "trainning:\n")[0].startswith("trainning is not a setting")


def test_an_empty_section_means_its_defaults(path: Path) -> None:
    settings = resolved(path, "training:\nmodels:\ndatasets:\nserver:\n").training
    assert settings == TrainingSettings()
    assert resolved(path, "").training == TrainingSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n\tseed: 1\n", "line 2"),
        ("training:\n  seed: 1\n  seed: 2\n", "line 3"),
        ("training: {seed: 1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("- a\n- b\n", "mapping"),
        ("5\n", "config.yaml"),
        ("a: &a [*a]\n", "not valid YAML"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("~: 3\n", "not valid YAML"),
        ("a: '${training.'\n", "not valid YAML"),
        ("a: \x01\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_usable_yaml_is_named_with_what_is_wrong(
    path: Path, text: str, said: str
) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WrongInput, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_python_tag_in_the_file_runs_nothing(path: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for tag in (
        f"!!python/object/apply:os.mkdir ['{mark}']",
        f"!!python/object/new:os.mkdir ['{mark}']",
    ):
        path.write_text(f"training: {tag}\n", encoding="utf-8")
        with pytest.raises(WrongInput):
            load(path)
        with pytest.raises(WrongInput):
            parse_overrides([f"training.seed={tag}"])
    assert not mark.exists()


def test_files_that_are_no_text_are_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(bytes(range(256)))
    with pytest.raises(WrongInput, match=r"UTF-8|YAML"):
        load(path)
    path.write_bytes("training: {}  # あ".encode("shift_jis"))
    with pytest.raises(WrongInput, match="UTF-8"):
        load(path)
    with pytest.raises(WrongInput, match="does not exist"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(WrongInput, match="cannot be read"):
        load(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(path: Path) -> None:
    path.write_bytes("\ufefftraining:\r\n  seed: 7\r\n".encode())
    assert resolve(load(path), "tiny", "noise").training.seed == 7


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_no_file_makes_the_loader_crash(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with contextlib.suppress(WrongInput):
        resolve(load(path), "tiny", "noise")


@example(["[=1"])
@example(["models.tiny.training.checkpoint=5"])
@example(["model.training=5"])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(alphabet="abcmodels.training=[]{}:,'\"$*&!\\ \n\t0#-", max_size=25)
        | st.builds(
            "{}={}".format,
            st.sampled_from(
                ["seed", "training", "models.tiny", "model.training", "betas", "server"]
            ),
            st.text(max_size=8),
        ),
        max_size=3,
    )
)
def test_no_override_makes_the_parser_crash(path: Path, words: list[str]) -> None:
    with contextlib.suppress(WrongInput):
        resolved(path, "{}", *words)


# Overrides


@pytest.mark.parametrize(
    ("word", "tree"),
    [
        ("seed=7", {"training": {"seed": 7}}),
        ("learning_rate=1e-3", {"training": {"learning_rate": 0.001}}),
        ("learning_rate=5E-4", {"training": {"learning_rate": 0.0005}}),
        (
            "training.checkpoint.keep_last_n=null",
            {"training": {"checkpoint": {"keep_last_n": None}}},
        ),
        ("checkpoint.milestones=[1, 2]", {"training": {"checkpoint": {"milestones": [1, 2]}}}),
        ("checkpoint_interval=3", {"training": {"checkpoint_interval": 3}}),
        ("model.hidden=4", {"models": {"tiny": {"hidden": 4}}}),
        ("dataset.path=a=b", {"datasets": {"noise": {"path": "a=b"}}}),
        ("dataset.path=~/x y", {"datasets": {"noise": {"path": "~/x y"}}}),
        ("models.other.hidden=4", {"models": {"other": {"hidden": 4}}}),
        ("deterministic=false", {"training": {"deterministic": False}}),
        ("server.port=1", {"server": {"port": 1}}),
        (" seed =1", {"training": {"seed": 1}}),
    ],
)
def test_a_word_becomes_the_setting_that_it_names(word: str, tree: dict[str, Any]) -> None:
    assert parse_overrides([word], "tiny", "noise") == tree


def test_the_last_of_two_words_counts() -> None:
    assert parse_overrides(["seed=1", "training.seed=2"]) == {"training": {"seed": 2}}


def test_every_word_that_is_no_override_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["fast", "=3", "seed=1"])
    assert len(caught.value.problems) == 2
    assert "'fast'" in caught.value.problems[0]
    assert "key.path=value" in caught.value.problems[0]


def test_an_override_that_is_no_yaml_is_named_with_what_would_be_right() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["epochs=3", "dataset.alphabet= 'abc", "dataset.path=[a"], "m", "d")
    assert [problem.partition(" cannot be read (")[0] for problem in caught.value.problems] == [
        '"dataset.alphabet= \'abc"',
        "'dataset.path=[a'",
    ]
    assert "in quotes if there are quotes" in caught.value.problems[0]
    quoted = parse_overrides(["dataset.alphabet=' ''abc'"], "m", "d")
    assert quoted == {"datasets": {"d": {"alphabet": " 'abc"}}}


def test_an_unknown_override_is_refused_with_what_would_be_right(path: Path) -> None:
    assert "did you mean batch_size?" in refused(path, "{}", "training.batch_siz=3")[0]
    assert refused(path, "{}", "batch_siz=3")


def test_interpolations_are_filled_in_and_wrong_ones_are_named(path: Path) -> None:
    text = "training: {seed: 3, batch_size: '${training.seed}'}"
    assert resolved(path, text).training.batch_size == 3
    assert resolved(path, text, "seed=5").training.batch_size == 5
    assert (
        resolved(
            path, text, "batch_size=${training.num_epochs}", "num_epochs=9"
        ).training.batch_size
        == 9
    )
    assert "training.nothing" in refused(path, "training: {seed: '${training.nothing}'}")[0]
    assert "training.seed" in refused(path, "training: {seed: '${training.seed}'}")[0]


# Layers


def test_a_later_layer_wins_preset_training_model_override(path: Path) -> None:
    preset = {"seed": 1, "batch_size": 1, "num_epochs": 1, "log_interval": 1, "warmup_steps": 1}
    text = """
training: {batch_size: 2, num_epochs: 2, log_interval: 2}
models:
  tiny: {hidden: 3, training: {num_epochs: 3, log_interval: 3}}
  other: {training: {seed: 9}}
"""
    found = resolved(path, text, "models.tiny.training.log_interval=4", preset=preset)
    training = found.training
    assert (training.seed, training.batch_size, training.num_epochs, training.log_interval) == (
        *(1, 2, 3, 4),
    )
    assert found.model == {"hidden": 3}


def test_an_override_wins_over_the_models_own_training_settings(path: Path) -> None:
    """Contract: any setting can be overridden as key.path=value."""
    text = "models: {tiny: {training: {num_epochs: 3}}}"
    assert resolved(path, text, "num_epochs=4").training.num_epochs == 4
    assert resolved(path, text, "training.num_epochs=4").training.num_epochs == 4


def test_aliases_and_names_meet_in_layers(path: Path) -> None:
    text = """
training: {checkpoint_interval: 2, checkpoint: {checkpoint_retention: 3}}
models: {tiny: {training: {checkpoint: {save_freq: 5}}}}
"""
    found = resolved(path, text, preset={"checkpoint": {"save_freq": 9, "mode": "max"}})
    assert found.training.checkpoint.save_freq == 5
    assert found.training.checkpoint.keep_last_n == 3
    assert found.training.checkpoint.mode == "max"


def test_an_alias_overrides_a_name_of_the_file(path: Path) -> None:
    text = "training: {checkpoint: {save_freq: 5, keep_last_n: 6}}"
    found = resolved(path, text, "checkpoint_interval=2", "checkpoint.checkpoint_retention=7")
    assert (found.training.checkpoint.save_freq, found.training.checkpoint.keep_last_n) == (2, 7)


def test_one_setting_under_two_names_in_one_section_is_refused(path: Path) -> None:
    assert (
        "only one of them"
        in refused(path, "training: {checkpoint: {save_freq: 5, checkpoint_interval: 2}}")[0]
    )


# Differences


def run_settings(**training: Any) -> RunSettings:
    return RunSettings(
        model_name="m",
        dataset_name="d",
        model={"hidden": 3},
        dataset={"path": "a"},
        training=TrainingSettings.model_validate(training),
    )


def test_equal_settings_do_not_differ() -> None:
    assert differences(run_settings(), run_settings()) == []


@pytest.mark.parametrize(
    ("training", "changes"),
    [
        ({"num_workers": 2}, False),
        ({"log_interval": 3}, False),
        ({"auto_resume": False}, False),
        ({"save": {"compact": True}}, False),
        ({"checkpoint": {"save_freq": 2}}, False),
        ({"checkpoint": {"milestones": [1]}}, False),
        ({"checkpoint": {"every_minutes": 5}}, False),
        ({"num_epochs": 20}, False),
        ({"checkpoint": {"monitor": "accuracy"}}, True),
        ({"checkpoint": {"mode": "max"}}, True),
        ({"seed": 1}, True),
        ({"batch_size": 1}, True),
        ({"learning_rate": 1}, True),
        ({"betas": [0.5, 0.5]}, True),
        ({"scheduler_options": {"gamma": 0.5}}, True),
        ({"early_stopping": {"patience": 1}}, True),
        ({"validation_split": 0}, True),
        ({"limit_samples": 5}, True),
        ({"precision": "bf16"}, True),
        ({"deterministic": False}, True),
        ({"compile": True}, True),
        ({"device": "cpu"}, True),
        ({"accumulate_grad_batches": 2}, True),
        ({"grad_clip_thresh": None}, True),
    ],
)
def test_a_difference_says_whether_it_changes_the_result(
    training: dict[str, Any], changes: bool
) -> None:
    found = differences(run_settings(), run_settings(**training))
    assert found, "the setting is not seen"
    assert {d.changes_result for d in found} == {changes}
    assert all(d.key.startswith("training.") for d in found)


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_more_epochs_change_a_schedule_that_ends_with_the_last(scheduler: str) -> None:
    old = run_settings(scheduler=scheduler, num_epochs=3)
    new = run_settings(scheduler=scheduler, num_epochs=4)
    assert [(d.key, d.old, d.new, d.changes_result) for d in differences(old, new)] == [
        ("training.num_epochs", 3, 4, True)
    ]


def test_settings_of_model_and_data_always_change_the_result() -> None:
    old = run_settings()
    new = old.model_copy(update={"model": {"hidden": 4}, "dataset": {"path": "a", "x": 1}})
    assert {(d.key, d.changes_result) for d in differences(old, new)} == {
        ("model.hidden", True),
        ("dataset.x", True),
    }
    assert differences(old, old.model_copy(update={"language": "en"})) == []


def test_every_training_setting_shows_up_as_a_difference_when_it_changes() -> None:
    plain = {k: v for k, v in TrainingSettings() if not isinstance(v, BaseModel)}
    for key, value in plain.items():
        other = (0.1, 0.2) if key == "betas" else "7" if isinstance(value, str) else 7
        if isinstance(value, bool):
            other = not value
        if key == "early_stopping":
            continue
        training = TrainingSettings().model_copy(update={key: other})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic, about a word that is none of the choices
            changed = run_settings().model_copy(update={"training": training})
            found = differences(run_settings(), changed)
        assert [d.key for d in found] == [f"training.{key}"]


# Files of a run


def test_yaml_written_is_yaml_read(tmp_path: Path) -> None:
    tree = {
        "b": [1, 2.5, None],
        "a": {"日本語": "音声", "text": "yes: no # x", "on": True, "n": "1"},
    }
    (tmp_path / "x.yaml").write_text(dump_yaml(tree), encoding="utf-8")
    assert read_yaml(tmp_path / "x.yaml") == tree
    assert list(yaml.safe_load(dump_yaml(tree))) == ["b", "a"]
    assert "日本語" in dump_yaml(tree)


def test_the_settings_of_a_run_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(run_settings(seed=5).model_dump_json(), encoding="utf-8")
    assert read_run_settings(tmp_path) == run_settings(seed=5)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(WrongInput, match="cannot be read"):
        read_run_settings(tmp_path)
    with pytest.raises(WrongInput, match="does not exist"):
        read_run_settings(tmp_path / "nowhere")


def test_the_same_problem_is_said_once() -> None:
    problems = ["training.seed: x"]
    checked(TrainingSettings, {"seed": "x"}, "training", problems)
    checked(TrainingSettings, {"seed": "x"}, "training", problems)
    assert len(problems) == 2
