"""Files of other programs in `imports/`: what can be chosen, and what of it a training keeps."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.answers import ImportInfo
from tsuzuku.dashboard import preview_view, preview_words
from tsuzuku.dashboard.choice import Choice
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

MARK = "📥"

say = speaker(
    {
        "kept": Both("📥 このファイルから引き継ぐもの", "📥 What is kept of this file"),
        "unusable": Both("📥 使えないファイル", "📥 Files that cannot be used"),
        "begin": Both(
            "新しい学習をエポック {epoch} から始めます（合計 {total}）。",
            "A new run begins at epoch {epoch} (of {total}).",
        ),
    }
)


def usable() -> dict[str, ImportInfo]:
    """The files that a training can begin from, by the name that the API takes; of the others it
    is said why not."""
    listed = client().imports().imports
    bad = [one for one in listed if one.problem]
    if bad:
        with st.expander(say("unusable")):
            for one in bad:
                st.caption(one.problem)
    return {one.name: one for one in listed if not one.problem}


def label(name: str) -> str:
    return f"{MARK} {name.partition('/')[2]}"


def preview(choice: Choice) -> None:
    """What a resume from the chosen file keeps, made only while somebody looks at it."""
    opened = st.expander(say("kept"), key="import_preview", on_change="rerun")
    if not opened.open:
        return
    with opened, refusals():
        plan = client().preview(choice.model, choice.dataset, **choice.resume_options())
        st.caption(say("begin", epoch=plan.epoch, total=plan.total_epochs))
        for one in plan.components:
            verdict, part = preview_view.badge(one.verdict), preview_words.part(one)
            st.markdown(f"{verdict} **{part}** {preview_words.why(one)}")
