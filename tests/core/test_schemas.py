"""The shared vocabulary."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tsuzuku.core.projection import metrics_of
from tsuzuku.core.schemas import ACTIVE, FINAL, Event, Run, Status, jsonable


def event(kind: str, **payload: Any) -> Event:
    return Event.model_validate({"type": kind, "payload": payload, "run_id": "r", "time": 1.0})


def test_every_status_is_either_active_or_final() -> None:
    assert set(get_args(Status)) == ACTIVE | FINAL
    assert not ACTIVE & FINAL


def test_unknown_fields_types_and_statuses_are_refused() -> None:
    with pytest.raises(ValidationError):
        event("gossip")
    with pytest.raises(ValidationError):
        Event.model_validate({"type": "log", "payload": {}, "time": 1, "more": 2})
    fields = {"run_id": "r", "model_name": "m", "dataset_name": "d"}
    with pytest.raises(ValidationError):
        Run.model_validate({**fields, "status": "dead", "created_at": 1, "updated_at": 1})


def test_lists_of_one_record_are_not_those_of_another() -> None:
    from tsuzuku.core.schemas import Checkpoint

    given = {"name": "a", "run_id": "r", "model_name": "m", "dataset_name": "d", "epoch": 1}
    given |= {"global_step": 1, "path": "p", "size": 1, "sha256": "x", "created_at": 1.0}
    one, two = (Checkpoint.model_validate({**given, "metrics": {}}) for _ in range(2))
    one.kept_because.append("x")
    assert two.kept_because == []


def test_metrics_are_what_is_measured_and_not_where() -> None:
    found = metrics_of(
        event(
            "progress",
            **{"epoch": 1, "total_epochs": 2, "step": 3, "total_steps": 4, "global_step": 5},
            loss=0.5,
            learning_rate=1e-3,
            grad_norm=None,
            flag=True,
            word="x",
            metrics={"accuracy": 0.75, "loss": 9, "bad": None},
        )
    )
    assert found == (
        5,
        {"loss": 0.5, "learning_rate": 1e-3, "train_accuracy": 0.75, "train_loss": 9.0},
    )


def test_events_of_other_kinds_or_without_a_step_report_no_metric() -> None:
    assert metrics_of(event("checkpoint", global_step=5, epoch=1)) == (0, {})
    assert metrics_of(event("log", global_step=5, loss=1.0)) == (0, {})
    assert metrics_of(event("progress", loss=1.0)) == (0, {})
    assert metrics_of(event("progress", global_step=True, loss=1.0)) == (0, {})
    assert metrics_of(event("progress", global_step="5", loss=1.0)) == (0, {})
    assert metrics_of(event("progress", global_step=5, loss=1.0, metrics=[1]))[1] == {"loss": 1.0}


def test_a_value_that_is_not_finite_is_still_a_metric() -> None:
    _, found = metrics_of(event("validation_result", global_step=1, val_loss=math.nan))
    assert math.isnan(found["val_loss"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_whatever_is_made_jsonable_is_json_for_every_reader(value: Any) -> None:
    plain = jsonable(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_only_what_is_not_finite_is_changed() -> None:
    value = {"a": [1, 2.5, math.nan, (math.inf, "x")], "b": {"c": -math.inf, "d": True}}
    assert jsonable(value) == {"a": [1, 2.5, None, [None, "x"]], "b": {"c": None, "d": True}}
