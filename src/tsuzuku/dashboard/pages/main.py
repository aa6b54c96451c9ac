"""The main page: try a model, and watch the training."""

from __future__ import annotations

from typing import cast

import streamlit as st

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard import curve_data, notice, places, sidebar, tasks, trying
from tsuzuku.dashboard.choice import full_name
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.live import live
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("{task} 学習ダッシュボード", "{task} training dashboard"),
        "empty": Both(
            "**まだ学習がありません。** 次の手順で始められます。\n\n"
            "1. 📚 データ で、使うデータセットを用意します。\n"
            "2. 左の「🎯 学習制御」でモデルとデータセットを選びます。\n"
            "3. 「🆕 新規学習開始」を押すと、ここに進捗、グラフ、ログが表示されます。",
            "**There has been no training yet.** This is how to begin:\n\n"
            "1. Have a data set ready on 📚 Data.\n"
            "2. Choose model and data set in “🎯 Training” on the left.\n"
            "3. Press “🆕 Start a new training”: progress, charts and log appear here.",
        ),
        "resumed": Both(
            "{name} から学習を再開しました（{run}）",
            "The training goes on from {name} ({run})",
        ),
    }
)


def page() -> None:
    model = cast("str | None", st.session_state.get(sidebar.CHOSEN))
    st.title(say("title", task=tasks.word(model)), anchor=False)
    with refusals():
        status = client().status()
        if status.run_id is None:
            _empty()
        else:
            trying.section()
        seen = live(known=status)
        if seen.resume is not None:
            _resume(seen.resume)
        curve_data.fill(status)
        curve_data.show()


def _empty() -> None:
    st.info(say("empty"), icon="👋")
    places.link("datasets")


def _resume(run_id: str) -> None:
    """Go on with a run from its newest checkpoint, as the button beside its failure says."""
    try:
        run = client().run(run_id)
        newest = client().checkpoints(run_id=run_id, limit=1).checkpoints
        specific = full_name(newest[0]) if newest else None
        started = client().resume(run.model_name, run.dataset_name, specific_checkpoint=specific)
        name = (started.resumed_from or "").rpartition("/")[2]
        notice.tell(say("resumed", name=name, run=started.run_id))
    except TsuzukuError as error:
        notice.refuse(error)
    st.rerun()
