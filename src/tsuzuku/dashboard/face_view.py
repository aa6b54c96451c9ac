"""Curves of ARKit's blendshapes on the page: a face that moves with the sound above it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.components import v2

from tsuzuku.dashboard.words import Both, speaker

HERE = Path(__file__).parent
DRAWN = (
    "eyeBlink eyeSquint eyeWide browDown browOuterUp mouthStretch mouthSmile mouthFrown "
    "mouthDimple mouthPress mouthUpperUp mouthLowerDown"
)
SINGLE = (
    "browInnerUp jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight mouthRollLower "
    "mouthRollUpper mouthShrugUpper tongueOut"
)
"""Blendshapes that can be seen in the drawing, with two sides and with one."""

say = speaker(
    {
        "title": Both("{name} の顔", "The face of {name}"),
        "time": Both("時刻（秒）", "Time (s)"),
    }
)

_component = v2.component(
    "tsuzuku_face",
    html='<div class="face"><svg viewBox="0 0 200 240" role="img"></svg>'
    '<label><span></span><input type="range" min="0" value="0"><output></output></label></div>',
    css=(HERE / "face.css").read_text(encoding="utf-8"),
    js=(HERE / "face.js").read_text(encoding="utf-8"),
)


def show(rows: Any, names: Sequence[str], fps: float, title: str, key: str) -> None:
    """Curves [curves, time] by `names`, `fps` frames a second; it follows the sound above it."""
    drawn = [f"{name}{side}" for name in DRAWN.split() for side in ("Left", "Right")]
    drawn = [name for name in [*drawn, *SINGLE.split()] if name in names]
    chosen = np.array([rows[list(names).index(name)] for name in drawn], dtype=np.float64)
    # a byte for each is more than can be seen, and a twentieth of what numbers take as text
    values = (np.nan_to_num(chosen).clip(0, 1) * 255).round().astype(np.uint8).T
    data = {
        "values": base64.b64encode(values.tobytes()).decode("ascii"),
        "names": drawn,
        "fps": fps,
        "title": say("title", name=title),
        "time": say("time"),
    }
    _component(key=key, data=data)
