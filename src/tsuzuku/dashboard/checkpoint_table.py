"""The filters and the table of the checkpoint page, and the one checkpoint that is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from tsuzuku.core.answers import CheckpointInfo
from tsuzuku.dashboard import checkpoint_list, figures, grids
from tsuzuku.dashboard.checkpoint_list import Listing, Shown, Wish
from tsuzuku.dashboard.words import Both, speaker

CHOICE = "checkpoint_choice"
"""The select box's value in the session: `run_id/name`."""
TABLE = "checkpoint_table"
SHOWN = "checkpoints_shown"
"""What the table's rows are, for when one of them is clicked."""
ADDRESS = "checkpoint"
"""The chosen one in the page's address."""
TOLD = "checkpoint_told_address"
"""What this page has written there."""
RUN_ADDRESS = "run"
MODEL, DATASET, RUN, TEXT = (f"checkpoint_{name}" for name in ("model", "dataset", "run", "text"))

say = speaker(
    {
        "all": Both("すべて", "All"),
        "model": Both("モデル名でフィルタ", "Filter by model"),
        "dataset": Both("データセット名でフィルタ", "Filter by data set"),
        "run": Both("実行でフィルタ", "Filter by run"),
        "text": Both("名前で検索", "Search by name"),
        "text_hint": Both("例: epoch-5 2026-11-21", "e.g. epoch-5 2026-11-21"),
        "shown": Both("{total} 件中 {shown} 件を表示", "{shown} of {total} shown"),
        "table": Both("チェックポイントの一覧", "Checkpoints"),
        "choose": Both("チェックポイント選択", "Checkpoint"),
        "name": Both("名前", "Name"),
        "model_column": Both("モデル", "Model"),
        "dataset_column": Both("データセット", "Data set"),
        "epoch": Both("エポック", "Epoch"),
        "step": Both("ステップ", "Step"),
        "size": Both("サイズ", "Size"),
        "created": Both("作成日時", "Created"),
        "marks": Both("最良・最新・残す理由", "Best, latest, kept because"),
        "marks_help": Both(
            "整理しても消えない理由です。理由のないものは「整理」で消えます。",
            "Why pruning keeps it. What has no reason goes when you prune.",
        ),
        "verified": Both("検証済み", "Verified"),
        "pinned": Both("ピン留め", "Pinned"),
        "run_column": Both("実行", "Run"),
    }
)


def filters(known: Listing) -> Shown:
    """Ask what is looked for; the checkpoints that fit."""
    run = st.query_params.get(RUN_ADDRESS, "")
    if run or _led_here():  # to something that has to be among what is shown
        st.session_state.update({MODEL: "", DATASET: "", TEXT: "", RUN: run})
    if run:
        del st.query_params[RUN_ADDRESS]
    first, second, third, fourth = st.columns(4)
    with first:
        model = one_of(say("model"), MODEL, known.names("model_name"))
    with second:
        dataset = one_of(say("dataset"), DATASET, known.names("dataset_name"))
    with third:
        run = one_of(say("run"), RUN, known.names("run_id")[::-1])
    text = fourth.text_input(
        say("text"),
        key=TEXT,
        placeholder=say("text_hint"),
        persist_state="session",
    )
    return checkpoint_list.shown(known, Wish(model, dataset, run, text))


def one_of(label: str, key: str, names: Sequence[str], called: Callable[[str], str] = str) -> str:
    """Ask for one of the names; empty for all of them."""
    if st.session_state.get(key) not in (None, "", *names):
        del st.session_state[key]  # what it was set to has been deleted
    return st.selectbox(
        label,
        ["", *names],
        key=key,
        format_func=lambda name: called(name) if name else say("all"),
        persist_state="session",
    )


def table(shown: Shown, total: int) -> None:
    """Show them; a click on a row chooses it, as the select box does."""
    _agree(shown)
    grids.grid(
        shown.table,
        say("table"),
        config=_column_config(shown.table.column_names),
        key=TABLE,
        on_select=_row_chosen,
    )
    many = figures.count(len(shown.items))
    grids.note(say("shown", total=figures.count(total), shown=many))


def choose(shown: Shown) -> CheckpointInfo:
    """Ask for one by name."""
    chosen = st.selectbox(
        say("choose"), shown.names, key=CHOICE, format_func=_name_first, persist_state="session"
    )
    st.query_params[ADDRESS] = st.session_state[TOLD] = chosen
    return shown.items[shown.place[chosen]]


def _name_first(full: str) -> str:
    run_id, _, name = full.partition("/")
    return f"{name} · {run_id}"


def _agree(shown: Shown) -> None:
    """The table and the select box stand at the same checkpoint, and at one that is shown."""
    wanted = _led_here() or st.session_state.get(CHOICE)
    if wanted not in shown.place:
        wanted = shown.names[0]
    st.session_state[CHOICE] = wanted
    st.session_state[SHOWN] = shown.names
    grids.choose_rows(TABLE, [shown.place[wanted]])


def _led_here() -> str | None:
    """The checkpoint to which another page, or a link, leads; None where nobody came so."""
    address = st.query_params.get(ADDRESS)
    return address if address != st.session_state.get(TOLD) else None


def _row_chosen() -> None:
    names: tuple[str, ...] = st.session_state[SHOWN]
    if rows := grids.rows_chosen(TABLE):
        st.session_state[CHOICE] = names[rows[0]]


def _column_config(names: Sequence[str]) -> dict[str, Any]:
    kind = st.column_config
    known: dict[str, Any] = {
        "name": kind.TextColumn(say("name"), pinned=True),
        "model": kind.TextColumn(say("model_column")),
        "dataset": kind.TextColumn(say("dataset_column")),
        "epoch": kind.NumberColumn(say("epoch"), format="localized"),
        "step": kind.NumberColumn(say("step"), format="localized"),
        "created": figures.moment_column(say("created")),
        "marks": kind.ListColumn(say("marks"), help=say("marks_help")),
        "verified": kind.TextColumn("✅", help=say("verified"), alignment="center"),
        "pinned": kind.TextColumn("📌", help=say("pinned"), alignment="center"),
        "run": kind.TextColumn(say("run_column")),
    }
    return known | figures.measured_columns(names, say("size"))
