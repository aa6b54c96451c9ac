"""Rows that are left out are named where the training is watched."""

from __future__ import annotations

import attempts

from spoken import write_corpus
from tsuzuku.core import launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.worker.bad_rows import NAMED, left_out, named

WORDS = [
    "num_epochs=1",
    "models.conformer.layers=1",
    "models.conformer.width=16",
    "log_interval=50",
]


class Reporting:
    report = (
        {"row": 3, "id": "a", "problem": "wavs/a.wav is missing", "used": False},
        {"row": 4, "id": "b", "problem": "wavs/b.wav has 2 channels", "used": True},
        {"row": 5, "problem": "is not UTF-8", "used": False},
    )


def test_only_what_is_not_used_is_named() -> None:
    rows = left_out(Reporting())
    assert named(rows) == "line 3 (a): wavs/a.wav is missing; line 5: is not UTF-8"
    for odd in (object(), type("Odd", (), {"report": 3})(), type("Odd", (), {"report": ["x"]})()):
        assert left_out(odd) == []


def test_of_many_the_first_are_named() -> None:
    rows = [{"row": number, "problem": "is empty", "used": False} for number in range(500)]
    said = named(rows)
    assert said.count(": is empty") == NAMED
    assert said.endswith("; …")


def test_a_training_says_it_once_and_goes_on(workspace: Workspace, store: Store) -> None:
    folder = write_corpus(workspace.root / "speech")
    (folder / "wavs" / "u001.wav").unlink()
    (folder / "wavs" / "u002.wav").write_bytes(b"")
    overrides = parse_overrides([f"dataset.path={folder}", *WORDS], "conformer", "ljspeech")
    plan = plan_training(workspace, store, "conformer", "ljspeech", overrides, fresh=True)
    run = launch.prepare(workspace, store, plan).run
    assert attempts.attempt(workspace, run) == 0, attempts.said(run)
    warnings = [
        event.payload["message"]
        for event in store.events(run_id=run.run_id)
        if event.type == "log" and event.payload["level"] == "warning"
    ]
    (said,) = [message for message in warnings if "wavs/" in message]
    assert "2 rows of the data set" in said
    assert "line 2 (u001): wavs/u001.wav is missing; line 3 (u002): wavs/u002.wav is empty" in said
