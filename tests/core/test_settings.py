"""The settings themselves: defaults, bounds, aliases, templates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tsuzuku.core.settings import (
    SAME_RESULT,
    CheckpointSettings,
    DistributedSettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
    check_template,
    render,
)


def test_the_defaults_are_those_of_the_contract() -> None:
    checkpoint = CheckpointSettings()
    assert checkpoint.filename == "{model}-{dataset}-epoch-{epoch}.pt"
    assert checkpoint.filename_step == "{model}-{dataset}-epoch-{epoch}-step-{global_step}.pt"
    assert checkpoint.latest == "{model}-{dataset}-latest.pt"
    assert checkpoint.best == "{model}-{dataset}-best.pt"
    assert checkpoint.milestones == [10, 25, 50, 100, 200]
    assert (checkpoint.monitor, checkpoint.mode) == ("val_loss", "min")
    training = TrainingSettings()
    assert training.validation_split == 0.05
    assert training.auto_resume is True
    assert ServerSettings().max_running == 1


def test_defaults_are_not_shared_between_two_settings() -> None:
    first, second = CheckpointSettings(), CheckpointSettings()
    first.milestones.append(7)
    assert second.milestones == [10, 25, 50, 100, 200]
    one, other = TrainingSettings(), TrainingSettings()
    one.checkpoint.milestones.append(9)
    assert 9 not in other.checkpoint.milestones


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", True),
        ("num_epochs", 0),
        ("num_epochs", 2.5),
        ("batch_size", "many"),
        ("batch_size", False),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("weight_decay", -0.1),
        ("betas", [0.9]),
        ("betas", [0.9, 1.0]),
        ("betas", [0.9, 0.99, 0.999]),
        ("optimizer", "Adamm"),
        ("scheduler", "linear"),
        ("precision", "8"),
        ("precision", True),
        ("device", "tpu"),
        ("validation_split", 1.0),
        ("validation_split", -0.1),
        ("limit_samples", 0),
        ("early_stopping", {"patience": 0}),
        ("early_stopping", {"patience": 1, "delta": 2}),
        ("grad_clip_thresh", 0),
        ("accumulate_grad_batches", 0),
        ("scheduler_options", {"pct_start": 1}),
        ("scheduler_options", {"gamma": 0}),
    ],
)
def test_an_impossible_value_is_refused_under_its_own_name(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSettings.model_validate({key: value})
    assert all(item["loc"][0] == key for item in caught.value.errors())


def test_names_of_optimizers_and_schedulers_may_be_written_in_any_case() -> None:
    settings = TrainingSettings.model_validate(
        {"optimizer": "adamw", "scheduler": "WARMUPLR", "warmup_steps": 4}
    )
    assert (settings.optimizer, settings.scheduler) == ("AdamW", "WarmupLR")
    assert TrainingSettings.model_validate({"scheduler": None}).scheduler == "none"


def test_precision_may_be_written_as_a_number() -> None:
    assert TrainingSettings.model_validate({"precision": 16}).precision == "16"
    assert TrainingSettings.model_validate({"precision": 32}).precision == "32"


def test_a_warm_up_schedule_without_warm_up_steps_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_steps"):
        TrainingSettings.model_validate({"scheduler": "WarmupLR"})


@pytest.mark.parametrize(
    ("alias", "name"),
    [("checkpoint_interval", "save_freq"), ("checkpoint_retention", "keep_last_n")],
)
def test_the_seeds_names_mean_the_same_at_both_places(alias: str, name: str) -> None:
    outside = TrainingSettings.model_validate({alias: 4})
    inside = TrainingSettings.model_validate({"checkpoint": {alias: 4}})
    plain = TrainingSettings.model_validate({"checkpoint": {name: 4}})
    assert outside == inside == plain
    assert getattr(plain.checkpoint, name) == 4
    assert alias not in outside.model_dump()


def test_a_setting_and_its_other_name_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="only one of them"):
        CheckpointSettings.model_validate({"checkpoint_interval": 2, "save_freq": 3})
    with pytest.raises(ValidationError, match="only one of them"):
        TrainingSettings.model_validate({"checkpoint_interval": 2, "checkpoint": {"save_freq": 3}})


def test_the_input_of_a_validation_is_left_as_it_was() -> None:
    given = {"checkpoint_interval": 2, "checkpoint": {"keep_last_n": 3}}
    TrainingSettings.model_validate(given)
    assert given == {"checkpoint_interval": 2, "checkpoint": {"keep_last_n": 3}}


@pytest.mark.parametrize(
    "template",
    [
        "{model}-{nothing}.pt",
        "{model.__class__}/{epoch}.pt",
        "{}-{epoch}.pt",
        "{0}.pt",
        "{model-{epoch}.pt",
        "{epoch:zz}.pt",
        "../{model}.pt",
        "a/b-{epoch}.pt",
        "a\\b-{epoch}.pt",
        ".hidden-{epoch}.pt",
        "{model}.ckpt",
        "{model}",
        "",
    ],
)
def test_a_template_that_gives_no_plain_file_name_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"has to|cannot be filled in"):
        check_template(template)


def test_a_template_cannot_reach_into_its_values() -> None:
    for template in ("{model.__init__}.pt", "{model.__class__.__mro__}.pt"):
        with pytest.raises(ValueError):
            check_template(template)


def test_the_names_of_the_koemorph_preset_are_accepted() -> None:
    settings = CheckpointSettings(
        filename="checkpoint_epoch_{epoch:03d}.pth",
        filename_step="checkpoint_epoch_{epoch:03d}_step_{global_step}.pth",
        latest="last_model.pth",
        best="best_model.pth",
    )
    assert render(settings.filename, "koemorph", "arkit", 7, 99) == "checkpoint_epoch_007.pth"
    assert render(settings.filename_step, "k", "a", 7, 99) == "checkpoint_epoch_007_step_99.pth"


@pytest.mark.parametrize(
    "names",
    [
        {"filename": "{model}.pt"},
        {"filename_step": "{model}-{epoch}.pt"},
        {"latest": "{model}-{dataset}-best.pt"},
        {"best": "{model}-{dataset}-epoch-{epoch}.pt"},
    ],
)
def test_templates_that_would_overwrite_each_other_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CheckpointSettings.model_validate(names)


@given(st.integers(1, 10**6), st.integers(1, 10**12))
def test_two_positions_never_get_one_name(epoch: int, step: int) -> None:
    names = CheckpointSettings()
    a = render(names.filename, "m", "d", epoch, step)
    b = render(names.filename, "m", "d", epoch + 1, step)
    c = render(names.filename_step, "m", "d", epoch, step)
    d = render(names.filename_step, "m", "d", epoch, step + 1)
    assert len({a, b, c, d}) == 4


def test_every_setting_that_is_said_to_be_harmless_exists() -> None:
    for key in SAME_RESULT:
        model: Any = TrainingSettings
        *sections, last = key.split(".")
        for part in sections:
            model = model.model_fields[part].annotation
        assert last in model.model_fields, key


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**70),
            "learning_rate": st.floats(1e-12, 1e3),
            "betas": st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
            "precision": st.sampled_from(["32", "bf16", "16"]),
            "early_stopping": st.none() | st.just({"patience": 3}),
            "checkpoint": st.fixed_dictionaries({"keep_last_n": st.none() | st.integers(1, 99)}),
        },
    )
)
def test_settings_come_back_from_json_as_they_were(training: dict[str, Any]) -> None:
    settings = RunSettings(
        model_name="m", dataset_name="d", training=TrainingSettings.model_validate(training)
    )
    again = RunSettings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert RunSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_every_setting_is_described() -> None:
    undescribed = [
        name
        for model in (CheckpointSettings, ServerSettings, TrainingSettings)
        for name, field in model.model_fields.items()
        if not field.description and not name.startswith(("optimizer", "learning", "weight"))
    ]
    # what the name alone says needs no sentence
    obvious = {"precision", "device", "early_stopping", "save", "checkpoint", "scheduler_options"}
    assert set(undescribed) <= obvious | {"host", "port", "token"}


def test_null_takes_a_resource_away() -> None:
    """Settings are laid over others key by key: else nothing could be taken out of a mapping."""
    ray = {"launcher": "ray", "resources": {"GPU": 1, "CPU": 8}}
    asked = [{"resources": {"GPU": None, "CPU": 8}}, {"resources": None}]
    found = [DistributedSettings(**{**ray, **one}).resources for one in asked]
    assert found == [{"CPU": 8}, {}]
    with pytest.raises(ValidationError):
        DistributedSettings(launcher="ray", resources={"GPU": -1})
