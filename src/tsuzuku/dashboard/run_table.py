"""The filters and the table of 「📈 学習履歴」, and the runs that are chosen there."""

from __future__ import annotations

from typing import Any

import streamlit as st

from tsuzuku.dashboard import figures, grids, run_list, run_words
from tsuzuku.dashboard.checkpoint_table import one_of
from tsuzuku.dashboard.run_list import Items, Listing, Shown, Wish
from tsuzuku.dashboard.words import Both, speaker

TABLE = "run_table"
SHOWN = "runs_shown"
"""What the table's rows are, for when one of them is clicked."""
CHOSEN = "runs_chosen"
"""The ids of the chosen runs."""
MODEL, DATASET, STATUS, TEXT = (f"run_{name}" for name in ("model", "dataset", "status", "text"))
ADDRESS = "run"
"""The chosen ones in the page's address, with commas between."""
TOLD = "runs_told"
"""What this page has written there."""

say = speaker(
    {
        "model": Both("モデル名でフィルタ", "Filter by model"),
        "dataset": Both("データセット名でフィルタ", "Filter by data set"),
        "status": Both("状態でフィルタ", "Filter by status"),
        "text": Both("実行を検索", "Search runs"),
        "text_hint": Both("例: 2026-11-21", "e.g. 2026-11-21"),
        "shown": Both(
            "{total} 件中 {shown} 件を表示。左端で 1 件選ぶと詳細、2 件以上選ぶと比較になります。",
            "{shown} of {total} shown. Choose one on the left to see it, several to compare them.",
        ),
        "table": Both("学習の一覧", "Runs"),
        "run": Both("実行", "Run"),
        "status_column": Both("状態", "Status"),
        "model_column": Both("モデル", "Model"),
        "dataset_column": Both("データセット", "Data set"),
        "epoch": Both("エポック", "Epoch"),
        "epochs": Both("予定", "Planned"),
        "epochs_help": Both("予定のエポック数", "Epochs that are planned"),
        "step": Both("ステップ", "Step"),
        "best": Both("最良の指標", "Best metric"),
        "best_help": Both(
            "`checkpoint.monitor` で選ぶ指標の最良値",
            "The best value of the metric that `checkpoint.monitor` names",
        ),
        "attempts": Both("試行", "Attempts"),
        "created": Both("開始", "Begun"),
        "time": Both("学習時間", "Trained for"),
        "parent": Both("分岐元", "Branched from"),
    }
)


def filters(known: Listing) -> Shown:
    """Ask what is looked for; the runs that fit."""
    if _led_here():
        st.session_state.update({MODEL: "", DATASET: "", STATUS: "", TEXT: ""})
    first, second, third, fourth = st.columns(4)
    with first:
        model = one_of(say("model"), MODEL, known.names("model_name"))
    with second:
        dataset = one_of(say("dataset"), DATASET, known.names("dataset_name"))
    with third:
        names = known.names("status")
        status = one_of(say("status"), STATUS, names, run_words.status)
    text = fourth.text_input(
        say("text"), key=TEXT, placeholder=say("text_hint"), persist_state="session"
    )
    return run_list.shown(known, Wish(model, dataset, status, text))


def table(shown: Shown, total: int) -> Items:
    """Show them; those that are chosen in it."""
    chosen = [name for name in _wanted() if name in shown.place]
    st.session_state[CHOSEN] = chosen
    st.session_state[SHOWN] = shown.names
    grids.choose_rows(TABLE, sorted(shown.place[name] for name in chosen))
    grids.grid(
        shown.table,
        say("table"),
        config=_column_config(),
        key=TABLE,
        on_select=_rows_chosen,
        selection="multi-row",
    )
    many = figures.count(len(shown.items))
    grids.note(say("shown", total=figures.count(total), shown=many))
    address = ",".join(chosen)
    if address:
        st.query_params[ADDRESS] = address
    elif ADDRESS in st.query_params:
        del st.query_params[ADDRESS]
    st.session_state[TOLD] = address
    return tuple(shown.items[shown.place[name]] for name in chosen)


def _wanted() -> list[str]:
    """What was chosen here, unless another page, or a link, leads to others."""
    return _led_here() or st.session_state.get(CHOSEN, [])


def _led_here() -> list[str]:
    address = st.query_params.get(ADDRESS, "")
    return address.split(",") if address and address != st.session_state.get(TOLD) else []


def _rows_chosen() -> None:
    names: tuple[str, ...] = st.session_state[SHOWN]
    st.session_state[CHOSEN] = [names[row] for row in grids.rows_chosen(TABLE)]


def _column_config() -> dict[str, Any]:
    kind = st.column_config
    return {
        "run": kind.TextColumn(say("run"), pinned=True),
        "status": kind.TextColumn(say("status_column")),
        "model": kind.TextColumn(say("model_column")),
        "dataset": kind.TextColumn(say("dataset_column")),
        "epoch": kind.NumberColumn(say("epoch"), format="localized"),
        "epochs": kind.NumberColumn(say("epochs"), format="localized", help=say("epochs_help")),
        "step": kind.NumberColumn(say("step"), format="localized"),
        "best": kind.NumberColumn(say("best"), format=figures.METRIC_COLUMN, help=say("best_help")),
        "attempts": kind.NumberColumn(say("attempts")),
        "created": figures.moment_column(say("created")),
        "time": kind.NumberColumn(say("time"), format="compact"),
        "parent": kind.TextColumn(say("parent")),
    }
