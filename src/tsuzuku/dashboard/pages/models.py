"""The page 「🤖 モデル」: trained models, and which models and data sets there are to train."""

from __future__ import annotations

import streamlit as st

from tsuzuku.dashboard import model_table, places, plugin_cards
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("🤖 モデル", "🤖 Models"),
        "trained": Both("🏆 学習済みモデル", "🏆 Trained models"),
        "none": Both(
            "まだ学習済みモデルがありません。学習が進むと最良の重みが、完了すると最終の重みが並びます。",
            "There is no trained model yet. The best weights come as a training goes on, the final"
            " ones when it completes.",
        ),
        "models": Both("🧩 使えるモデル", "🧩 Available models"),
        "datasets": Both("📚 使えるデータセット", "📚 Available data sets"),
        "looking": Both("プラグインを調べています…", "Looking at the plug-ins…"),
    }
)


def page() -> None:
    st.title(say("title"))
    with refusals():
        st.header(say("trained"), divider="gray")
        shown = model_table.known()
        if shown.items:
            model_table.section(model_table.choose(shown))
        else:
            model_table.told()
            st.info(say("none"), icon="🤖")
            places.link("main")
        with st.spinner(say("looking")):
            config = client().config()
        st.header(say("models"), divider="gray")
        plugin_cards.section(config.models)
        st.header(say("datasets"), divider="gray")
        plugin_cards.section(config.datasets)
