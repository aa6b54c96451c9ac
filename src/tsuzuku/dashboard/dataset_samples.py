"""Samples of a data set to look at and to listen to, a page at a time."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.answers import DatasetInfo, Samples
from tsuzuku.dashboard import outputs
from tsuzuku.dashboard.connection import address, client, refusals
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "look": Both("サンプルを見る・聴く", "Look at samples, listen to them"),
        "split": Both("分割", "Split"),
        "page": Both(
            "ページ（{count} 件ずつ、全 {pages} ページ）", "Page ({count} each, {pages} pages)"
        ),
        "loading": Both("サンプルを読み込んでいます…", "Loading samples…"),
        "number": Both("サンプル {number}", "Sample {number}"),
        "broken": Both("読み込めません: {error}", "It cannot be read: {error}"),
    }
)

EACH = 5
"""Samples on a page."""


@st.fragment
def browse(info: DatasetInfo, version: str) -> None:
    """Closed until somebody wants them."""
    with st.expander(say("look"), key=f"samples-{info.name}", on_change="rerun") as opened:
        if opened.open:
            with refusals():
                _page(info, version)


def _page(info: DatasetInfo, version: str) -> None:
    left, right = st.columns(2)
    split = left.selectbox(
        say("split"),
        list(info.splits),
        key=f"samples-split-{info.name}",
        format_func=lambda name: f"{name} ({info.splits.get(name, 0):,})",
    )
    pages = max(1, -(-info.splits[split] // EACH))
    page = right.number_input(
        say("page", count=EACH, pages=f"{pages:,}"),
        min_value=1,
        max_value=pages,
        step=1,
        key=f"samples-page-{info.name}-{split}",
    )
    with st.spinner(say("loading")):
        found = _asked(address()[0], version, info.name, split, (int(page) - 1) * EACH)
    for sample in found.samples:
        key = f"sample-{info.name}-{split}-{sample.index}"
        with st.container(border=True, key=key):
            st.markdown(f"**{say('number', number=sample.index)}**")
            if sample.error:
                st.warning(say("broken", error=sample.error), icon="⚠️")
            else:
                outputs.show(sample.outputs, f"{key}-view")


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def _asked(server: str, version: str, name: str, split: str, offset: int) -> Samples:
    return client().samples(name, split, offset, EACH)
