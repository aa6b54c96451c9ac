"""Pruning: what no policy keeps is shown first, and deleted when that has been seen."""

from __future__ import annotations

from typing import Any

import streamlit as st

from tsuzuku.core.answers import Pruned
from tsuzuku.dashboard import checkpoint_care, figures, grids, reasons
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

SEEN = "prune_seen"
"""The dry run whose result is on the page."""

say = speaker(
    {
        "title": Both("🧹 チェックポイントの整理", "🧹 Prune checkpoints"),
        "what": Both(
            "各実行の設定（`checkpoint.keep_last_n` など）で残す理由のないものを削除します。"
            "まず、何が消えて何が残るかを確かめます。",
            "Deletes what no policy of its run (`checkpoint.keep_last_n` and so on) keeps. First"
            " you see what would go and what would stay.",
        ),
        "look": Both("🔎 何が消えるか確かめる", "🔎 See what would go"),
        "looking": Both("調べています…", "Looking…"),
        "nothing": Both(
            "消えるものはありません。{kept} 個すべてに残す理由があります。",
            "Nothing would go: all {kept} have a reason to stay.",
        ),
        "found": Both(
            "{removed} 個が消え、{kept} 個が残ります。", "{removed} would go, {kept} would stay."
        ),
        "goes": Both("消えるもの", "Would go"),
        "stays": Both("残るものと理由", "Stays, and why"),
        "name": Both("名前", "Name"),
        "run": Both("実行", "Run"),
        "why": Both("残す理由", "Kept because"),
        "delete": Both("🗑️ {removed} 個を削除", "🗑️ Delete {removed}"),
        "sure": Both(
            "{removed} 個のチェックポイントを削除します。元に戻せません。",
            "{removed} checkpoints will be deleted. This cannot be undone.",
        ),
        "damaged": Both(
            "最新のチェックポイントが壊れているため、この実行からは何も削除しません。{problem}",
            "Nothing of this run is deleted, since its newest checkpoint is damaged. {problem}",
        ),
        "yes": Both("削除する", "Delete them"),
        "no": Both("やめる", "Cancel"),
        "deleted": Both("{removed} 個を削除しました。", "{removed} have been deleted."),
    }
)


def section() -> None:
    with st.expander(say("title"), key="prune"):
        st.markdown(say("what"))
        if st.button(say("look"), key="prune_look"):
            with refusals(), st.spinner(say("looking")):
                st.session_state[SEEN] = client().prune(dry_run=True)
        seen: Pruned | None = st.session_state.get(SEEN)
        if seen is not None:
            _show(seen)


def _show(seen: Pruned) -> None:
    removed, kept = figures.count(len(seen.removed)), figures.count(len(seen.kept))
    for problem in seen.problems:
        st.error(say("damaged", problem=problem), icon="⚠️")
    if not seen.removed:
        st.success(say("nothing", kept=kept), icon="🧹")
    else:
        st.warning(say("found", removed=removed, kept=kept), icon="🧹")
        st.markdown(f"**{say('goes')}**")
        _grid(seen.removed, say("goes"))
        if st.button(say("delete", removed=removed), type="primary", key="prune_delete"):
            _ask(removed)
    st.markdown(f"**{say('stays')}**")
    _grid(seen.kept, say("stays"))


def _grid(rows: list[dict[str, Any]], name: str) -> None:
    columns: dict[str, list[str]] = {say("name"): [str(one["name"]) for one in rows]}
    if rows and "kept_because" in rows[0]:
        columns[say("why")] = [", ".join(map(reasons.kept, one["kept_because"])) for one in rows]
    columns[say("run")] = [str(one["run_id"]) for one in rows]
    grids.grid(grids.arrow({key: ("text", values) for key, values in columns.items()}), name)


def _ask(removed: str) -> None:
    @st.dialog(say("title"))
    def ask() -> None:
        st.markdown(say("sure", removed=removed))
        with st.container(horizontal=True):
            if st.button(say("yes"), type="primary", key="prune_yes"):
                with refusals():
                    gone = client().prune(dry_run=False)
                    st.session_state.pop(SEEN, None)
                    checkpoint_care.done(
                        "good", say("deleted", removed=figures.count(len(gone.removed)))
                    )
            if st.button(say("no"), key="prune_no"):
                st.rerun()

    ask()
