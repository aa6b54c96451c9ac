"""`/ws` over real sockets: complete, in order, once; and what it refuses."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from made_runs import begin
from streaming import SOON, everything, logs, serving, take
from tsuzuku.core.rebuild import rebuild
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.websocket import MANY, MAX_MESSAGE


def collected(url: str, count: int) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        async with connect(url, max_size=None) as client:
            return await take(client, count)

    return asyncio.run(main())


class Writers:
    """Threads that append at once, in transactions of random sizes."""

    def __init__(self, path: Path, total: int, run_ids: list[str | None]) -> None:
        self.threads = [
            threading.Thread(target=self._write, args=(path, total // 2, run_ids, seed))
            for seed in range(2)
        ]

    def _write(self, path: Path, total: int, run_ids: list[str | None], seed: int) -> None:
        chance = random.Random(seed)
        with Store(path) as store:
            while total:
                count = min(total, chance.choice([1, 1, 2, 5, 40]))
                total -= count
                store.append(logs(*range(count), run_id=chance.choice(run_ids)))

    def __enter__(self) -> None:
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("batch", ["", "&batch=true"])
def test_replay_and_live_are_one_stream(workspace: Workspace, store: Store, batch: str) -> None:
    store.append(logs(*range(3000)))
    with serving(workspace) as served, Writers(workspace.db, 2000, [None]):
        got = collected(f"{served.url}?since=0{batch}", 5000)
    assert got == everything(store)
    assert [event["seq"] for event in got] == list(range(1, 5001))


def test_a_stream_of_one_run_skips_the_others(workspace: Workspace, store: Store) -> None:
    ours, other = (begin(workspace, store).run_id for _ in range(2))
    with serving(workspace) as served:

        async def main() -> list[dict[str, Any]]:
            async with connect(f"{served.url}?since=0&run_id={ours}") as client:
                with Writers(workspace.db, 1000, [ours, other, None]):
                    pass
                expected = len(everything(store, run_id=ours))
                return await take(client, expected)

        got = asyncio.run(main())
        assert got == everything(store, run_id=ours)
        assert 0 < len(got) < store.last_seq()
        # neither does what the others do come late to it
        assert collected(f"{served.url}?since={got[-2]['seq']}&run_id={ours}", 1) == got[-1:]


def test_who_reconnects_with_the_last_seq_misses_nothing(
    workspace: Workspace, store: Store
) -> None:
    async def follow(url: str, seed: int) -> list[dict[str, Any]]:
        chance = random.Random(seed)
        got: list[dict[str, Any]] = []
        batch = chance.choice(["true", "false"])
        while len(got) < 2500:
            since = got[-1]["seq"] if got else 0
            address = f"{url}?since={since}&batch={batch}"
            # a client that closes while it holds much unread waits for long for the server's answer
            async with connect(address, close_timeout=0.05) as client:
                got += await take(client, min(chance.randint(1, 600), 2500 - len(got)))
                if chance.random() < 0.5:
                    client.transport.abort()
        return got

    async def all_of_them(url: str) -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(follow(url, seed) for seed in range(8)))

    store.append(logs(*range(500)))
    with serving(workspace) as served, Writers(workspace.db, 2000, [None]):
        results = asyncio.run(all_of_them(served.url))
    expected = everything(store)
    # a batch may have brought more than was asked for
    assert all(got == expected[: len(got)] and len(got) >= 2500 for got in results)


def test_without_since_it_begins_now(workspace: Workspace, store: Store) -> None:
    async def main(url: str) -> list[dict[str, Any]]:
        async with connect(url) as client:
            store.append(logs(4))
            return await take(client, 1)

    store.append(logs(1, 2, 3))
    with serving(workspace) as served:
        assert [event["seq"] for event in asyncio.run(main(served.url))] == [4]
        # nobody has listened for a while; the events of that time are past, too
        store.append(logs(5, 6))

        async def again() -> list[dict[str, Any]]:
            async with connect(served.url) as client:
                store.append(logs(7))
                return await take(client, 1)

        assert [event["seq"] for event in asyncio.run(again())] == [7]


def test_a_seq_that_has_just_been_committed_is_not_sent_again(
    workspace: Workspace, store: Store
) -> None:
    """Though the server may not have looked at the table since."""

    async def main(url: str) -> None:
        async with connect(url, close_timeout=0.05):  # so that there is a head to fall behind
            for _ in range(50):
                seen = store.append(logs(1))[-1].seq
                async with connect(f"{url}?since={seen}") as client:
                    store.append(logs(2))
                    assert (await take(client, 1))[0]["seq"] == seen + 1

    with serving(workspace) as served:
        asyncio.run(main(served.url))


def test_since_beyond_the_newest_begins_now(workspace: Workspace, store: Store) -> None:
    async def main(url: str) -> list[dict[str, Any]]:
        async with connect(f"{url}?since=999999") as client:
            store.append(logs(4))
            return await take(client, 1)

    store.append(logs(1, 2, 3))
    with serving(workspace) as served:
        assert [event["seq"] for event in asyncio.run(main(served.url))] == [4]


@pytest.mark.parametrize("batch", ["false", "true"])
def test_servers_without_our_protocol_send_the_same(
    workspace: Workspace, store: Store, batch: str
) -> None:
    store.append(logs(*range(1500)))
    with serving(workspace, ws=WebSocketsSansIOProtocol) as served:
        assert collected(f"{served.url}?since=0&batch={batch}", 1500) == everything(store)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("since=-1", 422, "bad_since"),
        ("since=", 422, "bad_since"),
        ("since=1.5", 422, "bad_since"),
        ("since=%EF%BC%91", 422, "bad_since"),  # a full-width 1
        ("since=99999999999999999999", 422, "bad_since"),
        ("since=" + "9" * 5000, 422, "bad_since"),
        ("batch=maybe", 422, "bad_batch"),
        ("run_id=../../etc", 422, "bad_run_id"),
        ("run_id=", 422, "bad_run_id"),
        ("run_id=2026-11-21_19-20-14", 404, "not_found"),
    ],
)
def test_what_cannot_be_is_refused_before_the_handshake(
    workspace: Workspace, store: Store, query: str, status: int, code: str
) -> None:
    async def main(url: str) -> dict[str, Any]:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}?{query}"):
                pass
        assert refused.value.response.status_code == status
        return json.loads(refused.value.response.body or b"")

    with serving(workspace) as served:
        said = asyncio.run(main(served.url))
    assert said["code"] == code
    assert said["detail"]
    assert said.keys() == {"detail", "code", "hint"}


@pytest.mark.parametrize(
    ("messages", "code"), [(["x" * (MAX_MESSAGE + 1)], 1009), (["x"] * MANY * 20, 1008)]
)
def test_who_says_too_much_is_closed(
    workspace: Workspace, store: Store, messages: list[str], code: int
) -> None:
    async def main(url: str) -> None:
        async with asyncio.timeout(SOON), connect(url) as client:

            async def say_all() -> None:
                for message in messages:
                    await client.send(message)
                await client.recv()

            with pytest.raises(ConnectionClosed) as closed:
                await say_all()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code

    with serving(workspace) as served:
        asyncio.run(main(served.url))


def test_a_few_words_of_a_client_are_passed_over(workspace: Workspace, store: Store) -> None:
    async def main(url: str) -> None:
        async with connect(url) as client:
            await client.send("hello")
            await client.send(b"\x00\xff")
            store.append(logs(1))
            assert (await take(client, 1))[0]["seq"] == 1

    with serving(workspace) as served:
        asyncio.run(main(served.url))


def test_a_database_made_anew_is_followed(workspace: Workspace, store: Store) -> None:
    """Its events may have other numbers; what is committed from then on comes."""

    async def main(url: str) -> None:
        async with connect(f"{url}?since=0") as client:
            assert len(await take(client, 500)) == 500
            store.close()
            rebuild(workspace.db, [])
            with Store(workspace.db) as new:
                async with asyncio.timeout(SOON):
                    while True:  # until the server has seen that the file is another
                        number = new.append(logs(1))[0].seq
                        try:
                            async with asyncio.timeout(0.2):
                                first = json.loads(await client.recv())
                            break
                        except TimeoutError:
                            continue
                assert first["seq"] <= number
                last = new.append(logs(2))[0].seq
                rest = await take(client, last - first["seq"])
                assert [e["seq"] for e in rest] == list(range(first["seq"] + 1, last + 1))
            async with connect(f"{url}?since=0") as client:
                assert (await take(client, 1))[0]["seq"] == 1

    store.append(logs(*range(500)))
    with serving(workspace) as served:
        asyncio.run(main(served.url))


def test_a_database_that_cannot_be_read_for_a_while(
    workspace: Workspace, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients stay connected, the log says it once, and nothing is missed."""
    aside = workspace.db.with_name("aside")

    async def main(url: str) -> None:
        async with connect(f"{url}?since=0") as client:
            await take(client, 3)
            workspace.db.rename(aside)
            async with asyncio.timeout(SOON):
                while "Events cannot be read" not in caplog.text:
                    await asyncio.sleep(0.01)
            with pytest.raises(InvalidStatus) as refused:
                async with connect(url):  # from now on: but which number is now?
                    pass
            assert refused.value.response.status_code == 503
            store.append(logs(4, 5))
            aside.rename(workspace.db)
            assert [event["seq"] for event in await take(client, 2)] == [4, 5]

    store.append(logs(1, 2, 3))
    with serving(workspace) as served:
        asyncio.run(main(served.url))
    assert len(re.findall("Events cannot be read", caplog.text)) == 1
