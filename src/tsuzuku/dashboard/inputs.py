"""What a model can be tried on: a file, the microphone, a drawing, a text, a validation sample."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import streamlit as st

from tsuzuku.core.answers import Output, PluginInfo, Samples
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard import drawing, outputs, sound_view
from tsuzuku.dashboard.connection import address, client
from tsuzuku.dashboard.words import Both, speaker

Kind = Literal["sound", "picture", "anything"]
Source = Literal["file", "microphone", "drawing", "text", "sample"]

SOUNDS = ("wav", "flac", "ogg", "mp3", "m4a", "opus", "oga", "webm")
PICTURES = ("png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff")
OTHERS = ("txt", "json", "jsonl", "csv", "npy")
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "sound": SOUNDS,
    "picture": PICTURES,
    "anything": (*SOUNDS, *PICTURES, *OTHERS),
}
SOURCES: dict[Kind, tuple[Source, ...]] = {
    "sound": ("file", "microphone", "sample"),
    "picture": ("file", "drawing", "sample"),
    "anything": ("file", "text", "sample"),
}
HELD_OUT = ("validation", "val", "valid", "dev")
"""Splits that are validated on, the first of them that a data set has."""

say = speaker(
    {
        "source": Both("入力", "Input"),
        "file": Both("📄 ファイル", "📄 File"),
        "microphone": Both("🎤 マイク", "🎤 Microphone"),
        "drawing": Both("✏️ 手書き", "✏️ Drawing"),
        "text": Both("⌨️ テキスト", "⌨️ Text"),
        "sample": Both("📚 検証サンプル", "📚 Validation sample"),
        "sound": Both(
            "音声ファイル（WAV、FLAC、OGG、MP3 など）", "A sound (WAV, FLAC, OGG, MP3, …)"
        ),
        "picture": Both("画像ファイル（PNG、JPEG など）", "A picture (PNG, JPEG, …)"),
        "anything": Both("入力ファイル", "A file"),
        "record": Both("マイクで録音", "Record with the microphone"),
        "write": Both("入力するテキスト", "Text to give to the model"),
        "number": Both("サンプル番号", "Number of the sample"),
        "of": Both("0〜{last}、データセット {dataset}", "0 to {last}, of the data set {dataset}"),
        "of_some": Both("0 から、データセット {dataset}", "from 0, of the data set {dataset}"),
        "recording": Both("マイクの録音", "Recording"),
        "drawn": Both("手書きの絵", "Drawing"),
        "typed": Both("入力したテキスト", "Text"),
        "sample_of": Both(
            "{dataset} の検証サンプル {number}", "Validation sample {number} of {dataset}"
        ),
        "large": Both(
            "大きいため、ここには表示しません（{size:.0f} MB）。",
            "Too large to be shown ({size:.0f} MB).",
        ),
    }
)

LARGEST = 25_000_000
"""Bytes of an input that is shown beside the results; larger ones only go to the model."""


@dataclass(frozen=True)
class Given:
    """One input: a file, or the number of a validation sample of a data set."""

    name: str
    """What it is called on the page."""
    suffix: str = ""
    content: bytes = b""
    dataset: str = ""
    number: int | None = None
    split: str = ""
    """The data set's own split that it is from: its numbers mean the same to everybody. Without
    one, each run parts its validation samples by its own seed."""


def kind_of(dataset: PluginInfo | None) -> Kind:
    """What kind of thing a model of this data set takes, as its samples show."""
    types = _types_of(dataset)
    return "sound" if "audio" in types else "picture" if "image" in types else "anything"


def choose(kind: Kind, dataset: PluginInfo | None) -> Given | None:
    """Let the visitor give one; None until there is one."""
    sources: Sequence[Source] = SOURCES[kind]
    if dataset is None:
        sources = [one for one in sources if one != "sample"]
    source = st.segmented_control(
        say("source"),
        sources,
        default=sources[0],
        required=True,
        format_func=say,
        key=f"trying-source-{kind}",
    )
    match source:
        case "microphone":
            heard = st.audio_input(say("record"), key="trying-microphone")
            return Given(say("recording"), ".wav", heard.getvalue()) if heard else None
        case "drawing":
            drawn = drawing.board("trying-board")
            return Given(say("drawn"), ".png", drawn) if drawn else None
        case "text":
            text = st.text_area(say("write"), key="trying-text")
            return Given(say("typed"), ".txt", text.encode()) if text.strip() else None
        case "sample" if dataset is not None:
            return _sample(dataset)
        case _:
            file = st.file_uploader(say(kind), ENDINGS[kind], key=f"trying-file-{kind}")
            if file is None:
                return None
            return Given(file.name, PurePath(file.name).suffix.lower(), file.getvalue())


def show(given: Given, key: str) -> None:
    """The input itself, beside what a model makes of it."""
    kind = given.suffix.removeprefix(".")
    if given.number is not None or kind in SOUNDS:
        st.markdown(f"`{given.name.replace('`', ' ')}`")
    if given.number is not None:
        found = _shown(given)
        if found:
            outputs.show(found, key)
        else:
            st.caption(given.name)
    elif len(given.content) > LARGEST:
        st.caption(f"{given.name}: {say('large', size=len(given.content) / 1e6)}")
    elif kind in SOUNDS:
        sound_view.show(
            given.content, given.name, key, f"audio/{'mpeg' if kind == 'mp3' else kind}"
        )
    elif kind in PICTURES and (picture := _as_png(given.content)):
        outputs.show({given.name: Output.model_validate(picture)}, key)
    elif kind == "txt":
        text = given.content.decode("utf-8", "replace")
        outputs.show({given.name: Output(type="text", value=text)}, key)
    else:
        st.caption(given.name)


def _sample(dataset: PluginInfo) -> Given:
    split = next((name for name in HELD_OUT if name in dataset.splits), None)
    total = _counts(dataset).get(split) if split else None
    number = st.number_input(
        say("number"),
        min_value=0,
        max_value=total - 1 if total else None,
        step=1,
        key=f"trying-sample-{dataset.name}",
        help=say("of", last=total - 1, dataset=dataset.name)
        if total
        else say("of_some", dataset=dataset.name),
    )
    name = say("sample_of", dataset=dataset.name, number=number)
    return Given(name, dataset=dataset.name, number=int(number), split=split or "")


def _shown(given: Given) -> dict[str, Output]:
    """A validation sample as its data set shows it, where the number says which that is."""
    if not given.split or given.number is None:
        return {}
    try:
        found = client().samples(given.dataset, given.split, given.number, 1).samples
    except TsuzukuError:
        return {}
    return found[0].outputs if found else {}


def _types_of(dataset: PluginInfo | None) -> set[str]:
    found = _first(dataset)
    return (
        {output.type for sample in found.samples for output in sample.outputs.values()}
        if found
        else set()
    )


def _counts(dataset: PluginInfo) -> dict[str, int]:
    found = _first(dataset)
    return found.splits if found else {}


def _first(dataset: PluginInfo | None) -> Samples | None:
    """The first sample of a data set; None if it cannot be opened."""
    if dataset is None or dataset.error:
        return None
    settings = json.dumps(dataset.settings, sort_keys=True, default=str)
    try:
        return _asked(address()[0], dataset.name, dataset.sha256, settings)
    except TsuzukuError:
        return None


@st.cache_data(ttl=600, max_entries=32, show_spinner=False)
def _asked(server: str, name: str, sha256: str, settings: str) -> Samples:
    """A worker opens the data set for this, so it is asked once for each of its versions."""
    return client().samples(name, limit=1)


def _as_png(content: bytes) -> dict[str, object] | None:
    """A picture file as an output; None if it cannot be read."""
    import base64

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.thumbnail((1024, 1024))
            picture = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    picture.save(out, "PNG")
    return {"type": "image", "value": base64.b64encode(out.getvalue()).decode()}
