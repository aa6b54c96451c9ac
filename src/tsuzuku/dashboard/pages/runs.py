"""The page 「📈 学習履歴」: every run, one looked into, several compared."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard import comparison, family, freshness, places, run_care, run_list, run_table
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("📈 学習履歴", "📈 Runs"),
        "list": Both("📋 学習の一覧", "📋 List of runs"),
        "one": Both("🔎 {run}", "🔎 {run}"),
        "compare": Both("📊 {count} 件の比較", "📊 {count} runs compared"),
        "empty": Both(
            "まだ学習がありません。メインページで始めると、ここに並びます。",
            "Nothing has been trained yet. Start on the main page; every run is listed here.",
        ),
        "none_fits": Both(
            "条件に合う学習がありません。フィルタを変えてください。",
            "No run fits the filters. Change them to see more.",
        ),
    }
)


def page() -> None:
    st.title(say("title"))
    with refusals():
        known = run_list.listing()
        if not known.items:
            st.info(say("empty"), icon="📈")
            places.link("main")
            return
        st.header(say("list"), divider="gray")
        freshness.section(known.mark, run_list.mark)
        shown = run_table.filters(known)
        if not shown.items:
            st.info(say("none_fits"), icon="🔍")
            return
        chosen = run_table.table(shown, len(known.items))
        if len(chosen) == 1:
            st.header(say("one", run=chosen[0].run_id), divider="gray")
            run_care.section(client().run(chosen[0].run_id), known.items)
        elif chosen:
            st.header(say("compare", count=len(chosen)), divider="gray")
        if chosen:
            family.section(chosen[: comparison.MOST], comparison.COLOURS)
            comparison.section(chosen)
