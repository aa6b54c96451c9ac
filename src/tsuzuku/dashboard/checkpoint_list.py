"""The checkpoints of the workspace: read once per change, filtered and laid out once per wish."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from tsuzuku.core.answers import CheckpointInfo
from tsuzuku.core.schemas import is_detail
from tsuzuku.dashboard import figures, grids, listings, reasons
from tsuzuku.dashboard.connection import address, client
from tsuzuku.dashboard.words import Both, Language, language, speaker

MOST_METRICS = 6
"""Columns for metrics; a model has few, but models may be many."""
FRESH = 20.0
"""Seconds after which what others pinned or verified shows, too."""

Items = tuple[CheckpointInfo, ...]
Listing = listings.Listing[CheckpointInfo]
Shown = listings.Shown[CheckpointInfo]

say = speaker({"is_best": Both("🏆 最良", "🏆 best"), "is_latest": Both("🕒 最新", "🕒 latest")})


@dataclass(frozen=True)
class Wish:
    """What the filters ask for; empty means all."""

    model: str = ""
    dataset: str = ""
    run: str = ""
    text: str = ""

    def takes(self, item: CheckpointInfo) -> bool:
        return (
            self.model in ("", item.model_name)
            and self.dataset in ("", item.dataset_name)
            and self.run in ("", item.run_id)
            and all(word in full_name(item).casefold() for word in self.text.casefold().split())
        )


def full_name(item: CheckpointInfo) -> str:
    """`run_id/name`, which is definite."""
    return f"{item.run_id}/{item.name}"


def mark() -> str:
    """Something cheap that changes with the list."""
    newest = client().checkpoints(limit=1)
    return "\n".join(
        [str(newest.total), *(f"{full_name(c)} {c.sha256}" for c in newest.checkpoints)]
    )


def listing() -> Listing:
    """Everything that `GET /api/checkpoints` has, asked for only after something has changed."""
    return _listing(address()[0], mark())


@st.cache_resource(ttl=FRESH, max_entries=2, show_spinner=False)
def _listing(server: str, mark: str) -> Listing:
    return Listing(tuple(client().checkpoints().checkpoints), mark, time.monotonic_ns())


def forget() -> None:
    """Ask again at the next rerun: something was pinned, verified or deleted."""
    _listing.clear()


def shown(known: Listing, wish: Wish) -> Shown:
    """What fits the wish."""
    return _shown(known, known.stamp, wish, language())


@st.cache_resource(max_entries=8, show_spinner=False)
def _shown(_known: Listing, stamp: int, wish: Wish, language: Language) -> Shown:
    items = tuple(item for item in _known.items if wish.takes(item))
    names = tuple(full_name(item) for item in items)
    return listings.shown(names, items, _table(items))


def metric_names(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics that most of them have, the losses first."""
    found = Counter(name for metrics in measured for name in metrics if not is_detail(name))
    losses = {"val_loss": 2, "train_loss": 1}
    ranked = sorted(found, key=lambda name: (-losses.get(name, 0), -found[name], name))
    return ranked[:MOST_METRICS]


def _table(items: Items) -> Any:
    """The rows as columns; a metric's is called `metric:<name>`, that of sizes `size:<unit>`."""
    unit = figures.unit([item.size for item in items])
    columns: dict[str, tuple[grids.Kind, list[Any]]] = {
        "name": ("text", [item.name for item in items]),
        "model": ("text", [item.model_name for item in items]),
        "dataset": ("text", [item.dataset_name for item in items]),
        "epoch": ("whole", [item.epoch for item in items]),
        f"size:{unit}": ("real", [item.size / figures.BYTES[unit] for item in items]),
        "created": ("moment", [round(item.created_at) for item in items]),
        "marks": ("texts", [marks(item) for item in items]),
        "verified": ("text", ["✅" if item.verified else "" for item in items]),
        "pinned": ("text", ["📌" if item.pinned else "" for item in items]),
    }
    for name in metric_names(item.metrics for item in items):
        columns[f"metric:{name}"] = ("real", [item.metrics.get(name) for item in items])
    columns["step"] = ("whole", [item.global_step for item in items])
    columns["run"] = ("text", [item.run_id for item in items])
    return grids.arrow(columns)


def marks(item: CheckpointInfo) -> list[str]:
    """What is special about it: best, latest, and why it is kept."""
    found = [say("is_best")] if item.is_best else []
    found += [say("is_latest")] if item.is_latest else []
    told = ("best" if item.is_best else "", "latest" if item.is_latest else "")
    return found + [reasons.kept(reason) for reason in item.kept_because if reason not in told]
