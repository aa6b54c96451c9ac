"""The curves and the resume of the run that is shown, as data: in the session, and as tables."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd
import streamlit as st

from tsuzuku.core.answers import Metrics, Status
from tsuzuku.core.schemas import Curve
from tsuzuku.dashboard.connection import client
from tsuzuku.dashboard.words import Both, speaker

POINTS = 500
"""Rows of a table at most; each is a bucket of steps."""

say = speaker(
    {
        "title": Both("🧾 データ（表・CSV）", "🧾 Data (tables, CSV)"),
        "loss": Both("ロス", "Loss"),
        "rate": Both("学習率", "Learning rate"),
        "origin": Both("再開情報", "Resume"),
        "download": Both("⬇️ CSV をダウンロード", "⬇️ Download CSV"),
        "not_resumed": Both(
            "この学習は最初から行われています。", "This training was done from the beginning."
        ),
        "nothing": Both("記録はまだありません。", "Nothing has been recorded yet."),
        "as_of": Both(
            "このページを開いたとき、または学習の状態が変わったときのデータです。",
            "As of when this page was opened, or the training's state changed.",
        ),
    }
)


def fill(status: Status) -> None:
    """Bring `resume_info`, `progress_df` and `lr_df` up to date in the session's state."""
    metrics = None
    if status.run_id is not None:
        keys = ["loss", "val_loss", "learning_rate"]
        metrics = client().metrics(status.run_id, keys, points=POINTS)
    st.session_state.resume_info = _resume_info(metrics)
    st.session_state.progress_df = _table(metrics, ["loss", "val_loss"])
    st.session_state.lr_df = _table(metrics, ["learning_rate"])


def show() -> None:
    """The three as tables; they are only made while somebody looks at them."""
    opened = st.expander(say("title"), key="curve_data", on_change="rerun")
    if not opened.open:
        return
    with opened:
        st.caption(say("as_of"))
        losses, rates, origin = st.tabs([say("loss"), say("rate"), say("origin")])
        with losses:
            _shown(st.session_state.progress_df, "progress")
        with rates:
            _shown(st.session_state.lr_df, "learning_rate")
        with origin:
            if st.session_state.resume_info is None:
                st.caption(say("not_resumed"))
            else:
                st.json(st.session_state.resume_info)


def _shown(table: Any, name: str) -> None:
    if table.empty:
        st.caption(say("nothing"))
        return
    cast(Any, st).dataframe(table, hide_index=True, height=240)
    csv = str(table.to_csv(index=False))
    st.download_button(say("download"), csv, f"{name}.csv", "text/csv", key=f"csv_{name}")


def _resume_info(metrics: Metrics | None) -> dict[str, object] | None:
    """Where the training went on from last; None if it has not."""
    if metrics is None or not metrics.resumes:
        return None
    last = metrics.resumes[-1]
    return {
        "run_id": last.run_id,
        "attempt": last.attempt,
        "resumed_from": last.resumed_from,
        "global_step": last.step,
        "lineage": metrics.lineage,
    }


def _table(metrics: Metrics | None, keys: list[str]) -> pd.DataFrame:
    """One row a step that any of the curves has."""
    rows: dict[int, dict[str, float | None]] = {}
    for key in keys:
        curve = metrics.curves.get(key) if metrics is not None else None
        curve = curve or Curve(step=[], value=[], min=[], max=[])
        for step, value in zip(curve.step, curve.value, strict=True):
            rows.setdefault(step, {})[key] = value
    steps = sorted(rows)
    columns = {key: [rows[step].get(key) for step in steps] for key in keys}
    return pd.DataFrame({"step": steps, **columns})
