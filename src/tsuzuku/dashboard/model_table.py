"""Trained models: the best and the final weights of each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from tsuzuku.core.answers import TrainedModel
from tsuzuku.core.schemas import is_detail
from tsuzuku.dashboard import exporting, figures, grids
from tsuzuku.dashboard.checkpoint_list import metric_names
from tsuzuku.dashboard.connection import address, client, refusals
from tsuzuku.dashboard.words import Both, Language, language, speaker

Items = tuple[TrainedModel, ...]
TABLE = "model_table"
CHOSEN = "model_chosen"
TOLD = "model_told"
FRESH = 20.0

say = speaker(
    {
        "table": Both("学習済みモデル", "Trained models"),
        "best": Both("🏆 最良の重み", "🏆 best weights"),
        "final": Both("🏁 最終の重み", "🏁 final weights"),
        "kind": Both("種類", "Kind"),
        "model": Both("モデル", "Model"),
        "dataset": Both("データセット", "Data set"),
        "epoch": Both("エポック", "Epoch"),
        "size": Both("サイズ", "Size"),
        "created": Both("作成日時", "Created"),
        "run": Both("実行", "Run"),
        "file": Both("ファイル", "File"),
        "delete": Both("🗑️ 削除", "🗑️ Delete"),
        "delete_title": Both("学習済みモデルの削除", "Delete a trained model"),
        "delete_sure": Both(
            "実行 {run} の{kind}（{size}）を削除します。実行とチェックポイントは残ります。",
            "The {kind} of run {run} ({size}) will be deleted. The run and its checkpoints stay.",
        ),
        "delete_yes": Both("削除する", "Delete it"),
        "cancel": Both("やめる", "Cancel"),
        "deleted": Both("{name} を削除しました。", "{name} has been deleted."),
        "export": Both("エクスポート", "Export"),
        "no_export": Both(
            "この実行にはチェックポイントが残っていないため、エクスポートできません。",
            "This run has no checkpoint left to export from.",
        ),
    }
)


@dataclass(frozen=True)
class Shown:
    """All trained models, newest run first, and their table."""

    items: Items
    names: tuple[str, ...]
    table: Any


def known() -> Shown:
    """Everything that `GET /api/models` has, asked for only after something has changed."""
    now = client().status()
    total = client().runs(limit=1).total
    return _known(address()[0], f"{total} {now.run_id} {now.status}", language())


@st.cache_resource(ttl=FRESH, max_entries=4, show_spinner=False)
def _known(server: str, mark: str, language: Language) -> Shown:
    items = tuple(client().models().models)
    return Shown(items, tuple(item.name for item in items), _table(items))


def _table(items: Items) -> Any:
    unit = figures.unit([item.size for item in items])
    columns: dict[str, tuple[grids.Kind, list[Any]]] = {
        "run": ("text", [item.run_id for item in items]),
        "kind": ("text", [say(item.kind) for item in items]),
        "model": ("text", [item.model_name for item in items]),
        "dataset": ("text", [item.dataset_name for item in items]),
        "epoch": ("whole", [item.epoch for item in items]),
        f"size:{unit}": ("real", [item.size / figures.BYTES[unit] for item in items]),
        "created": ("moment", [round(item.created_at) for item in items]),
    }
    for name in metric_names([item.metrics for item in items]):
        columns[f"metric:{name}"] = ("real", [item.metrics.get(name) for item in items])
    return grids.arrow(columns)


def choose(shown: Shown) -> TrainedModel:
    """Show them all, and ask for one."""
    wanted = st.session_state.get(CHOSEN)
    place = shown.names.index(wanted) if wanted in shown.names else 0
    st.session_state[CHOSEN] = shown.names[place]
    grids.choose_rows(TABLE, [place])

    def chosen() -> None:
        if rows := grids.rows_chosen(TABLE):
            st.session_state[CHOSEN] = shown.names[rows[0]]

    grids.grid(shown.table, say("table"), config=_column_config(shown), key=TABLE, on_select=chosen)
    return shown.items[place]


def _column_config(shown: Shown) -> dict[str, Any]:
    kind = st.column_config
    known: dict[str, Any] = {
        "run": kind.TextColumn(say("run"), pinned=True),
        "kind": kind.TextColumn(say("kind")),
        "model": kind.TextColumn(say("model")),
        "dataset": kind.TextColumn(say("dataset")),
        "epoch": kind.NumberColumn(say("epoch"), format="localized"),
        "created": figures.moment_column(say("created")),
    }
    return known | figures.measured_columns(shown.table.column_names, say("size"))


def section(model: TrainedModel) -> None:
    """One of them: numbers, download, export, delete."""
    if told := st.session_state.pop(TOLD, None):
        st.success(told)
    with st.container(horizontal=True, gap="large"):
        st.metric(say("epoch"), figures.count(model.epoch or 0), width="content")
        st.metric(say("size"), figures.size(model.size), width="content")
        for name, value in model.metrics.items():
            if is_detail(name):
                continue
            st.metric(name, figures.metric(value), width="content")
    with st.container(horizontal=True):
        exporting.download(exporting.model_path(model.name), model.size)
        if st.button(say("delete"), key="model_delete"):
            _ask_before_deleting(model)
    grids.facts(
        {
            say("kind"): say(model.kind),
            say("model"): model.model_name,
            say("dataset"): model.dataset_name,
            say("run"): model.run_id,
            say("created"): figures.moment(model.created_at),
            say("file"): f"`{model.path}`",
        }
    )
    with st.expander(say("export"), icon="📤"):
        checkpoint = _checkpoint(model)
        if checkpoint is None:
            st.info(say("no_export"))
        else:
            exporting.section(model.run_id, checkpoint)


def _checkpoint(model: TrainedModel) -> str | None:
    """The checkpoint with these weights: the final ones are those of the run's newest."""
    if model.kind == "best":
        return model.path.replace("\\", "/").rpartition("/")[2]
    found = client().checkpoints(run_id=model.run_id).checkpoints
    return next((one.name for one in found if one.is_latest), None)


def _ask_before_deleting(model: TrainedModel) -> None:
    @st.dialog(say("delete_title"))
    def ask() -> None:
        size = figures.size(model.size)
        st.markdown(say("delete_sure", kind=say(model.kind), run=model.run_id, size=size))
        with st.container(horizontal=True):
            if st.button(say("delete_yes"), type="primary", key="model_delete_yes"):
                with refusals():
                    client().delete_model(model.name)
                    _known.clear()
                    st.session_state[TOLD] = say("deleted", name=f"`{model.name}`")
                    st.rerun()
            if st.button(say("cancel"), key="model_delete_no"):
                st.rerun()

    ask()


def told() -> None:
    """What the last button did, where no model is left to say it beside."""
    if sentence := st.session_state.pop(TOLD, None):
        st.success(sentence)
