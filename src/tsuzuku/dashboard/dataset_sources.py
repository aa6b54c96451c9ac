"""How to come by a data set: fetch it, make it, or say where it is."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.answers import DatasetInfo, Datasets
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard import fetching
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "get": Both("データを用意する", "Get the data"),
        "download": Both("⬇️ {name} をダウンロード", "⬇️ Download {name}"),
        "downloading": Both("{name} をダウンロードしています", "{name} is being downloaded"),
        "resumable": Both(
            "中断しても、次回は続きから再開します。すべてのファイルを検査します。",
            "If it is cut, the next one goes on from there. Every file is checked.",
        ),
        "make": Both("🛠️ {name} を作成", "🛠️ Make {name}"),
        "making": Both("{name} を作成しています", "{name} is being made"),
        "made_digits": Both(
            "scikit-learn の手書き数字（1,797 枚）を MNIST の形式で作ります。数秒で終わります。",
            "scikit-learn's handwritten digits (1,797) in MNIST's format; takes seconds.",
        ),
        "made_speech": Both(
            "合成音声の文を LJSpeech の形式で作ります。1,200 文で約 30 秒です。",
            "Sentences of synthetic speech in LJSpeech's layout; 1,200 of them take half a minute.",
        ),
        "made_face": Both(
            "合成音声と、それを話す顔（ARKit の 52 ブレンドシェイプ）を作ります。"
            "600 文で約 30 秒です。",
            "Synthetic speech with the face that speaks it (ARKit's 52 blendshapes); 600 sentences"
            " take half a minute.",
        ),
        "count": Both("文の数", "Sentences"),
        "seed": Both("シード", "Seed"),
        "seed_help": Both(
            "別の数にすると、文と声が変わります", "Another number: other sentences, voices"
        ),
        "text": Both("読み上げる文（任意、1行に1文）", "Lines to speak (optional, one each line)"),
        "text_help": Both(
            "各行を3回ずつ、声を変えて読み上げます。日本語はかなで書いてください。",
            "Each line is spoken three times, by several voices. Japanese has to be in kana.",
        ),
        "own": Both(
            "手元のデータを使う場合は、`config.yaml` に `datasets.{name}.path: フォルダー` と"
            "書いてください。",
            "For data of your own, write `datasets.{name}.path: FOLDER` in `config.yaml`.",
        ),
    }
)

FIRST_COUNT = {"speech": 1200, "face": 600}
FEWEST = {"speech": 1, "face": 6}


def offer(info: DatasetInfo, listed: Datasets) -> None:
    """Everything that can be done to have this one."""
    for name in info.downloads:
        _download(name, under_way=name in listed.downloading)
    if info.downloads:
        st.caption(say("resumable"))
    for name in info.makes:
        _make(name, under_way=name in listed.making)
    st.caption(say("own", name=info.name))


def _download(name: str, *, under_way: bool) -> None:
    label = say("downloading" if under_way else "download", name=name)
    if st.button(label, key=f"download-{name}", disabled=under_way):
        try:
            fetching.download(name)
        except TsuzukuError as error:
            fetching.refused(name, error)
        st.rerun()


def _make(name: str, *, under_way: bool) -> None:
    count = seed = text = None
    with st.form(f"make-form-{name}"):
        st.caption(say(f"made_{name}") if name in ("digits", *FIRST_COUNT) else name)
        if name in FIRST_COUNT:
            left, right = st.columns(2)
            count = left.number_input(
                say("count"), FEWEST[name], 100_000, FIRST_COUNT[name], key=f"{name}-count"
            )
            seed = right.number_input(
                say("seed"), 0, None, 0, key=f"{name}-seed", help=say("seed_help")
            )
        if name == "speech":
            text = st.text_area(
                say("text"), key="speech-text", help=say("text_help"), max_chars=100_000
            )
        label = say("making" if under_way else "make", name=name)
        pressed = st.form_submit_button(label, key=f"make-{name}", disabled=under_way)
    if pressed:
        try:
            fetching.make(name, count, seed, text if text and text.strip() else None)
        except TsuzukuError as error:
            fetching.refused(name, error)
        st.rerun()
