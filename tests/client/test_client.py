"""The client against a real server: every call, every kind of error, and streams that break."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from in_parts import take_apart
from mirrors import mirrors
from plain_plugins import make_workspace
from servers import Served, free_port, serving
from tsuzuku.client import Client, Unreachable, WrongToken
from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.errors import (
    Busy,
    CorruptCheckpoint,
    NotFound,
    TsuzukuError,
    WrongInput,
)
from tsuzuku.core.schemas import FINAL, Event
from tsuzuku.core.sidecars import sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.training.opening import load

TOKEN = "a-token-of-some-length"
ENDLESS = {"num_epochs": 100_000, "checkpoint.keep_last_n": 2}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that asks for a token, with one completed run."""
    root = make_workspace(tmp_path_factory.mktemp("client") / "workspace")
    config = root / "config.yaml"
    config.write_text(f"{config.read_text()}  token: {TOKEN}\n")
    with serving(root) as one:
        with Client(one.url, TOKEN) as client:
            started = client.start("tiny", "noise")
            assert [e.payload for e in client.follow(started.run_id)][-1]["status"] == "completed"
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url, TOKEN) as one:
        yield one


def events_in(root: Path, run_id: str | None = None) -> list[Event]:
    with Store(root / "outputs" / "tsuzuku.db") as store:
        return store.events(run_id=run_id, limit=1_000_000)


def test_what_there_is_can_be_read(client: Client) -> None:
    assert client.health().ok
    (run,) = client.runs(status="completed").runs
    assert client.runs(model_name="another").runs == []
    assert client.run(run.run_id) == run
    status, progress = client.status(), client.progress(run.run_id)
    assert (status.is_training, status.status, status.run_id) == (False, "completed", run.run_id)
    assert (progress.progress, progress.global_step) == (1.0, 21)
    curves = client.metrics(run.run_id, keys=["val_loss"], lineage=False).curves
    assert curves["val_loss"].step == [7, 14, 21]
    assert len(client.checkpoints(run_id=run.run_id).checkpoints) == 3
    (alone,) = client.lineage(run.run_id).runs
    assert (alone.branch, alone.attempts[0].from_step, alone.attempts[0].to_step) == (None, 0, 21)
    assert [(mark.epoch, mark.there) for mark in alone.checkpoints] == [
        (n, True) for n in (1, 2, 3)
    ]
    assert client.checkpoints(limit=1, offset=1).checkpoints[0].epoch == 2
    assert {m.kind for m in client.models().models} == {"best", "final"}
    assert "noise" in [d.name for d in client.datasets(details=False).datasets]
    assert client.config().models["tiny"].error == ""
    assert client.samples("noise", limit=2).samples[1].index == 1
    assert client.system().cpu_count >= 1
    preview = client.preview("tiny", "noise", additional_epochs=2)
    assert (preview.mode, preview.total_epochs) == ("continue", 5)
    assert client.prune(dry_run=True).removed == []


def test_checkpoints_are_found_by_names_links_and_runs(client: Client) -> None:
    (run,) = client.runs().runs
    for name, epoch in (
        ("tiny-noise-epoch-1.pt", 1),
        ("tiny-noise-latest.pt", 3),
        (f"{run.run_id}/tiny-noise-epoch-2.pt", 2),
    ):
        assert client.find_checkpoint(name).epoch == epoch
    assert client.find_checkpoint("tiny-noise-best.pt").run_id == run.run_id
    for name in ("nothing.pt", "../../x.pt", "", "/", f"{run.run_id}/", f"{run.run_id}/.."):
        with pytest.raises(NotFound):
            client.find_checkpoint(name)


def test_checkpoints_are_verified_pinned_measured_and_deleted(client: Client) -> None:
    (run,) = client.runs().runs
    first = (run.run_id, "tiny-noise-epoch-1.pt")
    assert client.verify(*first).ok
    assert client.pin(*first).pinned
    assert client.checkpoint(*first).pinned
    assert not client.pin(*first, pinned=False).pinned
    newest = client.find_checkpoint("tiny-noise-latest.pt")
    measured = client.evaluate(newest.run_id, newest.name)
    assert measured.metrics["val_loss"] == newest.metrics["val_loss"]
    client.delete_checkpoint(*first)
    with pytest.raises(NotFound):
        client.checkpoint(*first)


def test_what_is_in_parts_is_used_as_it_is_and_gathered(client: Client, tmp_path: Path) -> None:
    name = "tiny-noise-epoch-2.pt"
    found = client.find_checkpoint(name)
    one, path = (found.run_id, name), Path(found.path)
    whole = {p: p.read_bytes() for p in (path, sidecar(path))}
    assert (found.parts, client.gather(*one).gathered) == (0, False)
    take_apart(path, 3)
    assert client.checkpoint(*one).parts == 3
    assert client.evaluate(*one).metrics["val_loss"] == found.metrics["val_loss"]
    assert client.verify(*one).ok
    target = client.download_checkpoint(*one, tmp_path / "w.pt")  # gathers it first
    assert load(target)["epoch"] == 2
    assert client.checkpoint(*one).parts == 0
    take_apart(path)
    answer = client.gather(*one)
    assert answer.gathered
    listed = next(c for c in client.checkpoints().checkpoints if c.name == name)
    assert (listed.size, listed.sha256) == (answer.size, answer.sha256)
    apart = take_apart(path)
    piece = next(parts.folder_of(apart.path).iterdir())
    piece.write_bytes(piece.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpoint, match="cut or overwritten"):
        client.gather(*one)
    checkpoint_files.remove(path)
    for place, content in whole.items():
        place.write_bytes(content)


def test_files_arrive_whole_or_not_at_all(client: Client, tmp_path: Path) -> None:
    found = client.find_checkpoint("tiny-noise-latest.pt")
    target = client.download_checkpoint(found.run_id, found.name, tmp_path / "deep" / "w.pt")
    assert hashlib.sha256(target.read_bytes()).hexdigest() == found.sha256
    exported = client.export(found.run_id, found.name, half=True)
    weights = client.download_export(exported, tmp_path / "w.safetensors")
    assert weights.stat().st_size == exported.size
    wrong = exported.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(TsuzukuError, match="altered on its way"):
        client.download_export(wrong, weights)
    with pytest.raises(NotFound):
        client.download_model("2020-01-01_00-00-00-best", tmp_path / "none")
    (model,) = [m for m in client.models().models if m.kind == "final"]
    assert client.download_model(model.name, tmp_path / "final").stat().st_size == model.size
    (tmp_path / "folder").mkdir()
    with pytest.raises(WrongInput, match="cannot be written"):
        client.download_model(model.name, tmp_path / "folder")
    assert {p.name for p in tmp_path.iterdir()} == {"deep", "w.safetensors", "final", "folder"}
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == exported.sha256, "the old one stays"


CALLS: list[tuple[Callable[[Client], Any], type[TsuzukuError], str]] = [
    (lambda c: c.run("2020-01-01_00-00-00"), NotFound, "not_found"),
    (lambda c: c.lineage("2020-01-01_00-00-00"), NotFound, "not_found"),
    (lambda c: c.stop(), NotFound, "not_running"),
    (lambda c: c.start("tinny", "noise"), WrongInput, "unknown_model"),
    (lambda c: c.start("tiny", "noise", overrides={"batch_sise": 1}), WrongInput, "bad_setting"),
    (lambda c: c.start("tiny", "noise", epochs=0), WrongInput, "malformed"),
    (lambda c: c.start("tiny", "noise"), WrongInput, "nothing_to_train"),
    (
        lambda c: c.resume("tiny", "noise", specific_checkpoint="no.pt"),
        NotFound,
        "no_checkpoint",
    ),
    (lambda c: c.delete_model("nothing"), NotFound, "not_found"),
    (lambda c: next(c.events("2020-01-01_00-00-00", 0)), NotFound, "not_found"),
    (lambda c: next(c.events("..", 0)), WrongInput, "bad_run_id"),
    (lambda c: list(c.follow("2020-01-01_00-00-00")), NotFound, "not_found"),
    (lambda c: c.infer(Path("/nowhere.png")), WrongInput, "wrong_input"),
    (lambda c: c.infer(Path(__file__)), WrongInput, "malformed"),
    (lambda c: c.make_dataset("zebras"), NotFound, "unknown_dataset"),
    (lambda c: c.make_dataset("digits", count=3), WrongInput, "wrong_input"),
    (lambda c: c.make_dataset("speech", text="Привет"), WrongInput, "wrong_input"),
    (lambda c: c.download_dataset("zebras"), NotFound, "unknown_dataset"),
]


@pytest.mark.parametrize(("call", "kind", "code"), CALLS)
def test_errors_are_those_of_the_server(
    client: Client, call: Callable[[Client], Any], kind: type[TsuzukuError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        call(client)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.detail


def test_a_damaged_checkpoint_is_an_error_of_its_own(client: Client, served: Served) -> None:
    (run,) = client.runs().runs
    path = Path(client.checkpoint(run.run_id, "tiny-noise-epoch-2.pt").path)
    sidecar = path.with_name(f"{path.name}.json")
    content = sidecar.read_bytes()
    sidecar.write_bytes(b"{")
    try:
        with pytest.raises(CorruptCheckpoint, match=path.name):
            client.checkpoint(run.run_id, path.name)
    finally:
        sidecar.write_bytes(content)


def test_only_the_right_token_is_taken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TSUZUKU_TOKEN", raising=False)
    for token, code in ((None, "no_token"), ("another-token-of-some-length", "wrong_token")):
        with Client(served.url, token) as client:
            for call in (client.runs, lambda c=client: next(c.events(since=0))):
                with pytest.raises(WrongToken) as caught:
                    call()
                assert caught.value.code == code
                assert "TSUZUKU_TOKEN" in caught.value.hint
    with pytest.raises(WrongInput, match="token"):
        Client(served.url, "two\nlines")
    monkeypatch.setenv("TSUZUKU_TOKEN", TOKEN)
    with Client(served.url) as client:
        assert client.runs().total == 1
        assert next(client.events(since=0)).seq == 1


@pytest.mark.parametrize(
    "address", ["", "ftp://host", "http://", "http://h:x", "http://h?token=1", "http://me:pw@h"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(WrongInput):
        Client(address)


def test_where_no_server_is_it_is_said_in_a_sentence() -> None:
    with Client(f"127.0.0.1:{free_port()}/") as client:
        for call in (client.health, lambda: next(client.events(since=0))):
            with pytest.raises(Unreachable, match="cannot be reached: Connection refused"):
                call()


def test_another_kind_of_server_is_told_apart() -> None:
    with mirrors() as begin:
        mirror = begin()
        mirror.files["/api/health"] = b"<html>hello</html>"
        with Client(mirror.url) as client:
            for call in (client.health, client.runs, lambda: next(client.events(since=0))):
                with pytest.raises(TsuzukuError) as caught:
                    call()
                assert "Tsuzuku server" in caught.value.detail or isinstance(
                    caught.value, Unreachable
                )


def test_a_stream_goes_on_over_servers_that_are_killed(workspace: Workspace) -> None:
    root = workspace.root
    seen: list[Event] = []
    lost: list[Unreachable] = []
    grown = threading.Condition()

    def read(client: Client, run_id: str) -> None:
        for event in client.follow(run_id, 0, lost.append):
            with grown:
                seen.append(event)
                grown.notify_all()

    def wait_for_more(count: int) -> None:
        with grown:
            goal = len(seen) + count
            assert grown.wait_for(lambda: len(seen) >= goal, timeout=120)

    with serving(root) as first, Client(first.url) as client:
        run_id = client.start("tiny", "noise", overrides=ENDLESS).run_id
        reader = threading.Thread(target=read, args=(client, run_id))
        reader.start()
        wait_for_more(30)
        first.kill()
        with serving(root, port=first.port) as second:
            wait_for_more(30)
            second.kill()
            with serving(root, port=first.port):
                wait_for_more(30)
                with pytest.raises(Busy):
                    client.start("tiny", "noise")
                assert client.stop().run_id == run_id
                reader.join(120)
                assert not reader.is_alive(), "it ends with the run"
    assert lost
    assert seen == events_in(root, run_id), "each once, in order"
    assert seen[-1].payload["status"] == "stopped"


def test_following_a_run_with_several_attempts_ends_with_the_last(workspace: Workspace) -> None:
    root = workspace.root
    with serving(root) as served, Client(served.url) as client:
        run_id = client.start("tiny", "noise", epochs=1).run_id
        first = list(client.follow(run_id))
        after = client.last_seq()
        new = client.events(since=None)
        again = client.resume("tiny", "noise", additional_epochs=1)
        assert (again.run_id, again.mode, again.attempt) == (run_id, "continue", 2)
        whole = list(client.follow(run_id))
        assert whole[: len(first)] == first
        assert len([e for e in whole if e.payload.get("status") in FINAL]) == 2
        assert next(new).seq == after + 1, "from the moment it was asked for"
        assert whole == list(client.past_events(run_id)) == events_in(root, run_id)
        assert list(client.follow(run_id, whole[-3].seq)) == whole[-2:]
