"""The line between driver and ranks, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tsuzuku.core.errors import DiskFull, TsuzukuError
from tsuzuku.worker.leash import ADDRESS, KEY, TASK, Leash, Line, as_words, raised


@pytest.fixture
def leash() -> Iterator[Leash]:
    made = Leash()
    yield made
    made.let_go()


def connected(leash: Leash, rank: int = 0, key: str = "") -> tuple[Line, threading.Event]:
    """A rank's line, and what is set when it finds the driver gone."""
    gone = threading.Event()
    return Line(leash.address, key or leash.key, {"rank": rank, "host": "here"}, gone.set), gone


def heard(leash: Leash, count: int) -> list[tuple[int, dict[str, Any]]]:
    found: list[tuple[int, dict[str, Any]]] = []
    end = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < end, found
        said = leash.next(0.1)
        if said is not None:
            found.append((said[0], dict(said[1])))
    return found


def test_what_is_said_is_heard_in_its_order(leash: Leash) -> None:
    line, _ = connected(leash, rank=3)
    for number in range(2000):
        line.send({"do": "event", "n": number})
    said = heard(leash, 2001)
    assert said[0] == (3, {"do": "hello", "rank": 3, "host": "here"})
    assert [words["n"] for _, words in said[1:]] == list(range(2000))
    assert leash.held == [3]
    line.close()
    assert heard(leash, 1) == [(3, {"do": "gone"})]
    assert leash.held == []


def test_who_asks_waits_for_the_answer_or_the_error(leash: Leash) -> None:
    line, _ = connected(leash)
    answers: list[Any] = []

    def ask() -> None:
        answers.append(line.ask({"do": "flush"}))
        with pytest.raises(TsuzukuError, match="no room") as error:
            line.ask({"do": "flush"})
        answers.append(error.value)

    asking = threading.Thread(target=ask)
    asking.start()
    _, (rank, first) = heard(leash, 2)
    leash.answer(rank, {"id": first["id"]})
    ((_, second),) = heard(leash, 1)
    error = as_words(DiskFull("There is no room.", "Make some."))
    leash.answer(rank, {"id": second["id"], "error": error})
    asking.join(20)
    assert answers[0] == {"id": first["id"]}
    assert (answers[1].code, answers[1].hint) == ("disk_full", "Make some.")


def test_a_stop_reaches_those_that_come_later_too(leash: Leash) -> None:
    early, _ = connected(leash, 0)
    heard(leash, 1)
    leash.tell({"do": "stop"})
    late, _ = connected(leash, 1)
    end = time.monotonic() + 20
    while not (early.stop_asked and late.stop_asked):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_rank_notices_at_once_that_its_driver_has_gone(leash: Leash) -> None:
    _, gone = connected(leash)
    heard(leash, 1)
    leash.let_go()
    assert gone.wait(20)


def test_who_has_not_the_key_is_not_heard(leash: Leash) -> None:
    _, gone = connected(leash, key="wrong")
    assert gone.wait(20)
    for rubbish in (
        b"\n",
        b"{}\n",
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"key": 1}\n',
        '{"key": "鍵"}\n'.encode(),
        b"no end",
    ):
        host, _, port = leash.address.rpartition(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(rubbish)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
    assert leash.next(0.2) is None
    assert leash.held == []


def test_a_driver_that_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "{}:{}".format(*free.getsockname())
    with pytest.raises(TsuzukuError, match=f"cannot reach its driver at {address}") as error:
        Line(address, "key", {"rank": 0, "host": "here"}, lambda: None)
    assert error.value.code == "unreachable_driver"


def test_a_rank_finds_its_task_in_its_environment(leash: Leash) -> None:
    found = leash.environment({"run": "r"})
    assert found[ADDRESS] == leash.address
    assert found[KEY] == leash.key
    assert json.loads(found[TASK]) == {"run": "r"}


def test_errors_keep_what_they_say() -> None:
    error = TsuzukuError("It was so.", "Do this.", code="such")
    error.exit_code = 2
    again = raised(as_words(error))
    assert (again.detail, again.hint, again.code, again.exit_code) == (
        "It was so.", "Do this.", "such", 2,
    )  # fmt: skip
    assert isinstance(raised(as_words(DiskFull("full"))), DiskFull), "a save waits for room"
    assert raised("odd").detail == "odd"
