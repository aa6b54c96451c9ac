"""ranks: where the processes of a training are, and what each has printed."""

from __future__ import annotations

import sys

from tsuzuku.cli.console import console, number, print_json, show, size, table
from tsuzuku.cli.source import Source
from tsuzuku.core.rank_answers import Placement, RankInfo

STATES = {True: "[green]working[/]", False: "ended"}


def ranks(source: Source, run_id: str | None, as_json: bool) -> None:
    found = source.ranks(run_id)
    if as_json:
        print_json(found.model_dump())
        return
    if not found.ranks:
        console.print(f"{found.run_id}: attempt {found.attempt} has no ranks.")
        return
    rows = table(
        "rank", "host", "process", "device", "state", "batches/s", "own ms", "memory", "GPU memory",
        right=("rank", "process", "batches/s", "own ms", "memory", "GPU memory"),
    )  # fmt: skip
    for one in found.ranks:
        slow = " [yellow]slow[/]" if one.straggler else ""
        rows.add_row(
            str(one.rank),
            one.host,
            number(one.pid),
            one.device or "–",
            f"{STATES[one.alive]}{slow}",
            number(one.batches_per_second),
            number(one.own_ms),
            _bytes(one.memory),
            _bytes(one.device_memory),
        )
    console.print(f"{found.run_id}: attempt {found.attempt} by {found.launcher}")
    show(rows)
    slow = [one for one in found.ranks if one.straggler]
    if slow and any(one.alive for one in found.ranks):
        console.print(_waits_for(found, slow))


def show_log(source: Source, run_id: str | None, rank: int, tail: int, as_json: bool) -> None:
    found = source.rank_log(run_id, rank, tail)
    if as_json:
        print_json(found.model_dump())
        return
    sys.stdout.write(found.text)


def _waits_for(found: Placement, slow: list[RankInfo]) -> str:
    names = ", ".join(str(one.rank) for one in slow)
    return f"The others wait for rank {names}: {len(slow)} of {len(found.ranks)} are much slower."


def _bytes(count: int | None) -> str:
    return "–" if count is None else size(count)
