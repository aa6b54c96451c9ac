"""A run's journal takes whatever an event may say."""

from __future__ import annotations

import json
import time

import pytest

from made_runs import begin
from tsuzuku.core import journal
from tsuzuku.core.rebuild import rebuild_from_folders
from tsuzuku.core.schemas import Event
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


@pytest.mark.parametrize(
    "text", ["学習", "a\nb\r\u2028\u0085c", "\x00", "a file called \udc80.wav", '"\\', "😀"]
)
def test_any_text_can_be_read_again(workspace: Workspace, store: Store, text: str) -> None:
    run = begin(workspace, store)
    payload = {"level": "info", "message": text, "value": float("nan")}
    event = Event(type="log", payload=payload, run_id=run.run_id, time=time.time())
    (told,) = journal.tell(store, run, [event])
    last = json.loads(run.journal.read_text(encoding="utf-8").rstrip("\n").split("\n")[-1])
    assert last == told.model_dump()
    readable = text.replace("\udc80", "\\udc80")
    assert last["payload"] == {"level": "info", "message": readable, "value": None}
    store.close()
    assert rebuild_from_folders(workspace) == 1
    with Store(workspace.db) as again:
        assert again.events(run_id=run.run_id)[-1].payload == told.payload


def test_a_line_that_a_crash_has_cut_short_is_left_alone(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    with run.journal.open("a") as file:
        file.write('{"type": "log", "payl')
    event = Event(type="log", payload={"message": "next"}, run_id=run.run_id, time=1.0)
    journal.tell(store, run, [event])
    *_, torn, last = run.journal.read_text().splitlines()
    assert torn == '{"type": "log", "payl'
    assert json.loads(last)["payload"] == {"message": "next"}
