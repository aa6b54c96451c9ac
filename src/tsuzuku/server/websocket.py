"""`/ws`: the events of the workspace, from any one of them on, each once and in order."""

from __future__ import annotations

import asyncio
import logging
import re
import time

from starlette.datastructures import QueryParams
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tsuzuku.core.errors import NotFound, TsuzukuError
from tsuzuku.core.workspace import RUN_ID, Workspace
from tsuzuku.server.feed import Feed
from tsuzuku.server.frames import EXTENSION
from tsuzuku.server.refusal import Refusal

log = logging.getLogger("tsuzuku.websocket")

MAX_MESSAGE = 1 << 16
"""Bytes of a message from a client, none of which is ever needed."""

MANY, RATE = 100, 10
"""So many messages, and so many more a second, are let pass."""

TOO_BIG, TOO_MANY, INTERNAL = 1009, 1008, 1011
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


def event_routes(feed: Feed, workspace: Workspace) -> list[BaseRoute]:
    """The route `/ws?since=SEQ&run_id=…&batch=true` over an open feed."""

    async def events_socket(websocket: WebSocket) -> None:
        with feed.listening():
            try:
                since, run_id, batch = _wishes(websocket.query_params, workspace)
                cursor = _begin(feed, since)  # before the handshake: what comes after it is sent
            except Refusal as refusal:
                await refusal.answer()(websocket.scope, websocket.receive, websocket.send)
                return
            await websocket.accept()
            sending = asyncio.create_task(_send(websocket, feed, cursor, run_id, batch))
            try:
                await _receive(websocket)
            finally:
                sending.cancel()
                await asyncio.wait([sending])

    return [WebSocketRoute("/ws", events_socket, name="events")]


def _wishes(query: QueryParams, workspace: Workspace) -> tuple[int | None, str | None, bool]:
    """`since`, `run_id` and `batch`; raises Refusal for what they cannot be."""
    since, run_id, batch = query.get("since"), query.get("run_id"), query.get("batch", "false")
    if since is not None and not re.fullmatch(r"[0-9]{1,18}", since):
        raise Refusal(
            422, "bad_since", f"since={since[:40]!r} is no event's number.", "Give the last `seq`."
        )
    if batch not in _SWITCH:
        raise Refusal(422, "bad_batch", f"batch={batch[:40]!r} is neither true nor false.")
    if run_id is not None:
        if not RUN_ID.fullmatch(run_id):
            raise Refusal(
                422,
                "bad_run_id",
                f"run_id={run_id[:40]!r} is no run's id.",
                "It looks like 2026-11-21_19-20-14; GET /api/runs lists them.",
            )
        try:
            workspace.run_dir(run_id)
        except NotFound as error:
            raise Refusal(404, "not_found", error.detail, "GET /api/runs lists them.") from None
    return int(since) if since is not None else None, run_id, _SWITCH[batch]


def _begin(feed: Feed, since: int | None) -> int:
    try:
        return feed.begin(since)
    except TsuzukuError as error:
        raise Refusal(503, error.code, error.detail, error.hint) from None


async def _send(
    websocket: WebSocket, feed: Feed, cursor: int, run_id: str | None, batch: bool
) -> None:
    """What was missed and what comes, until the client is gone."""
    framed = EXTENSION in (websocket.scope.get("extensions") or {})
    try:
        while True:
            await feed.wait(cursor)
            page = await feed.page(cursor, run_id, batch)
            if page.texts and framed:
                await websocket.send({"type": "websocket.send", "frames": page.frames})
            elif page.texts:
                for text in page.texts:
                    await websocket.send_text(text.decode())
            cursor = page.last
    except WebSocketDisconnect:
        pass  # the one who receives sees it too, and ends
    except Exception:
        if websocket.application_state is WebSocketState.CONNECTED:  # it was not closed meanwhile
            log.exception("A client's events could not be sent")
            await websocket.close(INTERNAL)


async def _receive(websocket: WebSocket) -> None:
    """Read what nobody asked for, until the client goes or says too much."""
    began, count = time.monotonic(), 0
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        count += 1
        if len(message.get("text") or message.get("bytes") or "") > MAX_MESSAGE:
            await websocket.close(TOO_BIG, "This socket only sends.")
            return
        if count > MANY + RATE * (time.monotonic() - began):
            await websocket.close(TOO_MANY, "This socket only sends.")
            return
