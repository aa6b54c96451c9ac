"""Events over the WebSocket, each once and in order, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from pydantic import TypeAdapter, ValidationError

from tsuzuku.client.problems import Unreachable, error_from
from tsuzuku.client.transport import Transport, unreachable
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.schemas import Event

SHORTEST, LONGEST = 0.1, 5.0
"""Seconds between two tries to connect again; they double."""

MAX_MESSAGE = 64 << 20
"""Bytes of a message: many events, or a single one with a very long log line."""

EVENTS = TypeAdapter(list[Event])

Lost = Callable[[Unreachable], object]


def stream(transport: Transport, run_id: str | None, since: int, lost: Lost) -> Iterator[Event]:
    """The events after `since`, for as long as it is iterated.

    A connection that breaks is made again with the last number, so nothing is missed or doubled;
    `lost` is called with the reason each time. Raises Unreachable where even the first cannot be
    made, and what the server refuses it with.
    """
    pause, before = SHORTEST, False
    while True:
        try:
            for events in _messages(transport, run_id, since):
                before = True
                for event in events:
                    since, pause = event.seq, SHORTEST
                    yield event
            why = unreachable(transport.url, "it ended the connection")
        except Unreachable as error:
            if not before:
                raise
            why = error
        lost(why)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


def patiently(call: Callable[[], Any], lost: Lost) -> Any:
    """What `call` returns, once the server can be reached."""
    pause = SHORTEST
    while True:
        try:
            return call()
        except Unreachable as error:
            lost(error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST)


def _messages(transport: Transport, run_id: str | None, since: int) -> Iterator[list[Event]]:
    """What one connection brings, an empty list first; it ends when the server ends it."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.sync.client import connect

    query = {"since": str(since), "batch": "true"} | ({"run_id": run_id} if run_id else {})
    url = f"ws{transport.url.removeprefix('http')}/ws?{urlencode(query)}"
    token = transport.token
    try:
        with connect(
            url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            proxy=None if transport.local else True,
            open_timeout=transport.timeout,
            close_timeout=1,
            max_size=MAX_MESSAGE,
            compression=None,
        ) as socket:
            yield []
            while True:
                try:
                    message = socket.recv()
                except ConnectionClosed:
                    return
                yield _parsed(transport.url, message)
    except InvalidStatus as error:
        response = error.response
        if response.status_code >= 500:  # a proxy whose server is just being started again
            raise unreachable(transport.url, f"status {response.status_code}") from None
        raise error_from(transport.url, response.status_code, bytes(response.body or b"")) from None
    except (OSError, WebSocketException) as error:
        why = getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__
        raise unreachable(transport.url, why) from None


def _parsed(url: str, message: str | bytes) -> list[Event]:
    try:
        return EVENTS.validate_json(message)
    except ValidationError:
        raise TsuzukuError(
            f"{url} sends events that this version does not know.", code="not_tsuzuku"
        ) from None
