"""The runs of the workspace: read once per change, filtered and laid out once per wish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import streamlit as st

from tsuzuku.core.answers import RunInfo
from tsuzuku.dashboard import grids, listings, run_words
from tsuzuku.dashboard.connection import address, client
from tsuzuku.dashboard.words import Language, language

FRESH = 10.0
"""Seconds after which what others changed in older runs, and how far a training is, shows."""

Items = tuple[RunInfo, ...]
Listing = listings.Listing[RunInfo]
Shown = listings.Shown[RunInfo]


@dataclass(frozen=True)
class Wish:
    """What the filters ask for; empty means all."""

    model: str = ""
    dataset: str = ""
    status: str = ""
    text: str = ""

    def takes(self, item: RunInfo) -> bool:
        return (
            self.model in ("", item.model_name)
            and self.dataset in ("", item.dataset_name)
            and self.status in ("", item.status)
            and all(word in _searched(item) for word in self.text.casefold().split())
        )


def _searched(item: RunInfo) -> str:
    return f"{item.run_id} {item.parent or ''} {item.message}".casefold()


def mark() -> str:
    """Something cheap that changes with the list."""
    newest = client().runs(limit=1)
    now = client().status()
    marks = [f"{run.run_id} {run.status}" for run in newest.runs]
    return "\n".join([str(newest.total), *marks, f"{now.run_id} {now.status}"])


def listing() -> Listing:
    """Everything that `GET /api/runs` has, asked for only after something has changed."""
    return _listing(address()[0], mark())


@st.cache_resource(ttl=FRESH, max_entries=2, show_spinner=False)
def _listing(server: str, mark: str) -> Listing:
    return Listing(tuple(client().runs().runs), mark, time.monotonic_ns())


def forget() -> None:
    """Ask again at the next rerun: something was started or stopped."""
    _listing.clear()


def shown(known: Listing, wish: Wish) -> Shown:
    """What fits the wish."""
    return _shown(known, known.stamp, wish, language())


@st.cache_resource(max_entries=8, show_spinner=False)
def _shown(_known: Listing, stamp: int, wish: Wish, language: Language) -> Shown:
    items = tuple(item for item in _known.items if wish.takes(item))
    names = tuple(item.run_id for item in items)
    return listings.shown(names, items, _table(items))


def trained_for(run: RunInfo) -> float:
    """Seconds of all its attempts."""
    now = time.time()
    return sum((one.ended_at or now) - one.started_at for one in run.attempts)


def _table(items: Items) -> Any:
    columns: dict[str, tuple[grids.Kind, list[Any]]] = {
        "run": ("text", [item.run_id for item in items]),
        "status": ("text", [run_words.status(item.status) for item in items]),
        "model": ("text", [item.model_name for item in items]),
        "dataset": ("text", [item.dataset_name for item in items]),
        "epoch": ("whole", [item.epoch for item in items]),
        "epochs": ("whole", [item.total_epochs for item in items]),
        "step": ("whole", [item.global_step for item in items]),
        "best": ("real", [item.best_metric for item in items]),
        "attempts": ("whole", [item.attempt for item in items]),
        "created": ("moment", [round(item.created_at) for item in items]),
        "time": ("span", [round(trained_for(item)) for item in items]),
        "parent": ("text", [item.parent for item in items]),
    }
    return grids.arrow(columns)
