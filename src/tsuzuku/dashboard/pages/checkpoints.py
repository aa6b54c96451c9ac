"""The page 「📂 チェックポイント管理」: find a checkpoint, look after it, go on from it."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.answers import CheckpointDetails, CheckpointInfo
from tsuzuku.core.errors import NotFound
from tsuzuku.dashboard import (
    checkpoint_care,
    checkpoint_list,
    checkpoint_table,
    freshness,
    places,
    pruning,
    resume_form,
)
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("📂 チェックポイント管理", "📂 Checkpoints"),
        "filter": Both("🔍 フィルタリング", "🔍 Filter"),
        "list": Both("📋 チェックポイント一覧", "📋 List of checkpoints"),
        "resume": Both("🔄 学習再開", "🔄 Resume training"),
        "empty": Both(
            "まだチェックポイントがありません。メインページで学習を始めると、ここに並びます。",
            "There is no checkpoint yet. Start a training on the main page; they are listed here.",
        ),
        "none_fits": Both(
            "条件に合うチェックポイントがありません。フィルタを変えてください。",
            "No checkpoint fits the filters. Change them to see more.",
        ),
        "gone": Both(
            "このチェックポイントは、たった今削除されました。",
            "This checkpoint has just been deleted.",
        ),
    }
)


def page() -> None:
    st.title(say("title"))
    with refusals():
        known = checkpoint_list.listing()
        if not known.items:
            checkpoint_care.tell()
            st.info(say("empty"), icon="📂")
            places.link("main")
            return
        st.header(say("filter"), divider="gray")
        shown = checkpoint_table.filters(known)
        st.header(say("list"), divider="gray")
        freshness.section(known.mark, checkpoint_list.mark)
        if not shown.items:
            st.info(say("none_fits"), icon="🔍")
            return
        checkpoint_table.table(shown, len(known.items))
        pruning.section()
        st.header(say("resume"), divider="gray")
        _one(checkpoint_table.choose(shown))


def _one(chosen: CheckpointInfo) -> None:
    details = _details(chosen)
    if details is None:
        st.warning(say("gone"))
        return
    checkpoint_care.section(details)
    resume_form.section(details)


def _details(chosen: CheckpointInfo) -> CheckpointDetails | None:
    try:
        return client().checkpoint(chosen.run_id, chosen.name)
    except NotFound:
        checkpoint_list.forget()
        return None
