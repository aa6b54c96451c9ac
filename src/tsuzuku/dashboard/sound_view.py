"""A sound on the page: player, waveform, spectrogram, rate and length."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from tsuzuku.dashboard import sounds
from tsuzuku.dashboard.sounds import Sound
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "seconds": Both("秒", "seconds"),
        "frequency": Both("周波数（Hz）", "frequency (Hz)"),
        "amplitude": Both("振幅", "amplitude"),
        "mono": Both("モノラル", "mono"),
        "channels": Both("{count} チャンネル", "{count} channels"),
        "facts": Both(
            "{rate} kHz · {seconds} 秒 · {channels}", "{rate} kHz · {seconds} s · {channels}"
        ),
        "cut": Both(
            "図は最初の {seconds:.0f} 秒です", "the picture shows the first {seconds:.0f} s"
        ),
        "opaque": Both(
            "この形式の波形はここでは描けません。",
            "The waveform of this format cannot be drawn here.",
        ),
        "broken": Both("音声として読み込めません。", "This is no sound that can be read."),
        "player": Both("{name} を再生", "Play {name}"),
        "picture": Both(
            "{name} の波形とスペクトログラム、{facts}",
            "Waveform and spectrogram of {name}, {facts}",
        ),
        "hover": Both("%{x:.2f} 秒、%{z:.0f} dB", "%{x:.2f} s, %{z:.0f} dB"),
    }
)

COLOURS = [
    [0, "#0b0724"],
    [0.25, "#3b0f70"],
    [0.5, "#8c2981"],
    [0.75, "#de4968"],
    [0.9, "#feb078"],
    [1, "#fcfdbf"],
]
"""As Matplotlib's magma, but for the first: Streamlit takes #000004 for a name of its own."""


def show(content: bytes, name: str, key: str, media: str = "audio/wav") -> None:
    """The file `content`, called `name`; `key` is this view's own on the page."""
    sound = _decoded(content)
    if sound is None and not _browsers_know(content):
        st.caption(say("broken"))
        return
    st.audio(content, format=media, alt=say("player", name=name))
    if sound is None:
        st.caption(say("opaque"))
        return
    facts = described(sound)
    cast(Any, st).plotly_chart(
        _figure(content),
        key=key,
        height=270,
        config={"displayModeBar": False, "scrollZoom": False},
        alt=say("picture", name=name, facts=facts),
    )
    st.caption(f"{facts} · {say('cut', seconds=sounds.LONGEST)}" if sound.cut else facts)


def _browsers_know(content: bytes) -> bool:
    """Whether it begins as WebM or MPEG-4 do, which only browsers can decode."""
    return content.startswith(b"\x1aE\xdf\xa3") or content[4:8] == b"ftyp"


def described(sound: Sound) -> str:
    """Rate, length and channels in a line."""
    channels = say("mono") if sound.channels == 1 else say("channels", count=sound.channels)
    return say(
        "facts", rate=f"{sound.rate / 1000:g}", seconds=f"{sound.seconds:.2f}", channels=channels
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _decoded(content: bytes) -> Sound | None:
    return sounds.decode(content)


def _figure(content: bytes) -> dict[str, Any]:
    """Waveform above, spectrogram below, with one axis of time."""
    drawn = dict(_traces(content))
    times, low, high, found = drawn["wave"], drawn["low"], drawn["high"], drawn["spectrogram"]
    wave = {
        "type": "scatter",
        "mode": "lines",
        "x": times,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    wave |= {"line": {"width": 1, "color": "#4c8bf5"}, "xaxis": "x", "yaxis": "y"}
    filled = {"fill": "tonexty", "fillcolor": "rgba(76, 139, 245, 0.6)"}
    traces: list[dict[str, Any]] = [wave | {"y": low}, wave | {"y": high} | filled]
    layout: dict[str, Any] = {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": {"title": {"text": say("seconds")}, "anchor": "y2", "automargin": True},
        "yaxis": {
            "domain": [0.68, 1],
            "title": {"text": say("amplitude")},
            "automargin": True,
            "nticks": 3,
        },
        "yaxis2": {"domain": [0, 0.62], "automargin": True},
    }
    if found is not None:
        places, names = sounds.ticks(found.hertz)
        layout["yaxis2"] |= {
            "title": {"text": say("frequency")},
            "tickvals": places,
            "ticktext": names,
            "showgrid": False,
            "zeroline": False,
        }
        heat = {"type": "heatmap", "x": found.times, "z": _rounded(found.decibels)}
        heat |= {"hovertemplate": say("hover") + "<extra></extra>", "showscale": False}
        heat |= {"colorscale": COLOURS, "zmin": -sounds.RANGE, "zmax": 0, "yaxis": "y2"}
        traces.append(heat)
    return {"data": traces, "layout": layout}


def _rounded(decibels: sounds.Floats) -> NDArray[np.int8]:
    return np.rint(decibels).astype(np.int8)


@st.cache_data(max_entries=16, show_spinner=False)
def _traces(content: bytes) -> dict[str, Any]:
    sound = _decoded(content)
    assert sound is not None
    times, low, high = sounds.envelope(sound)
    return {"wave": times, "low": low, "high": high, "spectrogram": sounds.spectrogram(sound)}
