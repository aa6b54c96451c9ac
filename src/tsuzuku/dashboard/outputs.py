"""Typed outputs on the page: what a model answers, and what a data set shows."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from html import escape
from typing import Any, cast

import streamlit as st

from tsuzuku.core.answers import Output
from tsuzuku.core.blendshapes import are_blendshapes
from tsuzuku.dashboard import curve_charts, face_view, sound_view, transcripts
from tsuzuku.dashboard.words import Both, speaker

WORDS = {
    "transcription": Both("書き起こし", "Transcription"),
    "reference": Both("正解", "Reference"),
    "input": Both("モデルへの入力", "What the model sees"),
    "reconstruction": Both("再構成", "Reconstruction"),
    "samples": Both("潜在空間からのサンプル", "Samples from the latent space"),
    "recon_error": Both("再構成誤差", "Reconstruction error"),
    "audio": Both("音声", "Sound"),
    "text": Both("テキスト", "Text"),
    "image": Both("画像", "Picture"),
    "label": Both("ラベル", "Label"),
    "curves": Both("曲線", "Curves"),
    "blendshapes": Both("ブレンドシェイプ", "Blendshapes"),
}
say = speaker(
    {
        **WORDS,
        "picture": Both(
            "{name}、{width}×{height} ピクセルの画像", "{name}, {width} × {height} pixels"
        ),
        "size": Both("{width}×{height} ピクセル", "{width} × {height} pixels"),
        "nothing": Both("出力はありません。", "There are no outputs."),
        "null": Both("値なし", "no value"),
        "range": Both("値の範囲 {low}〜{high}", "values {low} to {high}"),
    }
)

SMALL = 224
"""Pixels up to which a small picture is enlarged, by a whole factor."""
SHORT = 12
"""Characters up to which a word is shown as a number is: a label, a measure."""


def show(outputs: Mapping[str, Output], key: str) -> None:
    """All outputs; `key` is this view's own on the page.

    A text called `reference` is shown as what the other text should have been. A type that is not
    known, or a value that is not of its type, is shown as JSON.
    """
    if not outputs:
        st.caption(say("nothing"))
    compared = _compared(outputs)
    pictures: list[str] = []
    for number, (name, output) in enumerate(outputs.items()):
        if name == compared and name != "reference":
            _draw(pictures)
            _text(name, output, f"{_plain(key)}-{number}", outputs["reference"])
        elif name == "reference" and compared:
            continue
        elif (figure := _figure(name, output)) is not None:
            pictures.append(figure)
        else:
            _draw(pictures)
            _one(name, output, f"{_plain(key)}-{number}")
    _draw(pictures)


def label(name: str) -> str:
    """What an output is called: names that everybody uses are translated, others stay."""
    return say(name) if name in WORDS else name


def content(output: Output) -> bytes | None:
    """The file of a picture or a sound; None if it is none."""
    if not isinstance(output.value, str):
        return None
    try:
        return base64.b64decode(output.value, validate=True)
    except (binascii.Error, ValueError):
        return None


def extra(output: Output, key: str) -> Any:
    """What stands beside `type` and `value`; None if it is not there."""
    return (output.model_extra or {}).get(key)


def _compared(outputs: Mapping[str, Output]) -> str | None:
    """The text that `reference` is the right answer to."""
    texts = [n for n, o in outputs.items() if o.type == "text" and isinstance(o.value, str)]
    if "reference" not in texts:
        return None
    others = [name for name in texts if name != "reference"]
    return "transcription" if "transcription" in others else others[0] if len(others) == 1 else None


def _one(name: str, output: Output, key: str) -> None:
    """Any output but a picture."""
    value = output.value
    sound = content(output) if output.type == "audio" else None
    if output.type == "text" and isinstance(value, str):
        _text(name, output, key, None)
    elif output.type == "number" and (value is None or isinstance(value, int | float)):
        st.metric(label(name), say("null") if value is None else f"{value:.6g}")
    elif sound is not None:
        _title(name)
        sound_view.show(sound, label(name), key)
    elif output.type == "curves" and _curves(name, output, key):
        return
    else:
        _title(name)
        st.json(output.model_dump(mode="json"), expanded=1)


def _curves(name: str, output: Output, key: str) -> bool:
    """Whether they are curves."""
    names: Any = extra(output, "names")
    fps = extra(output, "fps")
    known = cast("list[Any]", names) if isinstance(names, list) else []
    rate = float(fps) if isinstance(fps, int | float) and fps > 0 else None
    try:
        rows, _ = curve_charts.checked(output.value, known)
    except (ValueError, TypeError):
        return False
    _title(name)
    called = [str(one) for one in known]
    if rate and len(called) == len(rows) and rows.size and are_blendshapes(called):
        face_view.show(rows, called, rate, label(name), f"{key}-face")
    curve_charts.show(output.value, known, rate, key)
    return True


def _text(name: str, output: Output, key: str, reference: Output | None) -> None:
    text = str(output.value)
    if reference is None and 0 < len(text) <= SHORT and not any(c.isspace() for c in text):
        st.metric(label(name), text)
    else:
        _title(name)
        transcripts.show(text, key)
    words = extra(output, "words")
    if isinstance(words, list):
        transcripts.show_words(cast("list[Any]", words), f"{key}-words")
    if reference is not None:
        transcripts.show_differences(text, str(reference.value))


def _title(name: str) -> None:
    escaped = re.sub(r"([\\`*_{}\[\]()#+.!|~$<>:&-])", r"\\\1", label(name))
    st.markdown(f"**{escaped}**")


def _figure(name: str, output: Output) -> str | None:
    """A picture as HTML: small ones enlarged with sharp edges; None if it is no picture."""
    picture = content(output) if output.type == "image" else None
    if not picture or not picture.startswith(b"\x89PNG\r\n\x1a\n") or len(picture) < 24:
        return None
    width = int.from_bytes(picture[16:20], "big")
    height = int.from_bytes(picture[20:24], "big")
    factor = max(1, SMALL // max(width, height, 1))
    title = escape(label(name))
    alt = escape(say("picture", name=label(name), width=width, height=height))
    said = say("size", width=width, height=height)
    shown = extra(output, "range")
    if isinstance(shown, list) and len(cast("list[Any]", shown)) == 2:
        low, high = (f"{float(bound):.3g}" for bound in cast("list[float]", shown))
        said += f"、{say('range', low=low, high=high)}"
    style = f"width:{width * factor}px;max-width:100%;display:block;border-radius:4px"
    style += ";image-rendering:pixelated" if factor > 1 else ""
    return (
        f'<figure style="margin:0"><figcaption><b>{title}</b></figcaption>'
        f'<img src="data:image/png;base64,{output.value}" alt="{alt}" style="{style}">'
        f"<small>{escape(said)}</small></figure>"
    )


def _draw(figures: list[str]) -> None:
    """Pictures that follow each other stand side by side, as far as there is room."""
    if figures:
        flow = "display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start"
        st.html(f'<div style="{flow}">{"".join(figures)}</div>')
        figures.clear()


def _plain(key: str) -> str:
    """A key that can be the name of a class in a style sheet."""
    return re.sub(r"[^0-9A-Za-z_-]", "-", key)
