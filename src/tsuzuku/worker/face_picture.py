"""A simple face drawn from ARKit's blendshapes, as a short animated picture.

The dashboard's `face.js` draws the same face: who changes one changes the other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 200, 240
"""Of the drawing, in its own unit; a pixel of the picture."""
RATE = 20
"""Pictures a second, at most."""
LONGEST = 8.0
"""Seconds: of longer curves the beginning."""
SMOOTH = 2
"""Each pixel is the mean of so many each way."""

SKIN, LINE, WHITE, LIPS, INSIDE, TONGUE = (
    "#f2c9a1", "#5b3a29", "#ffffff", "#c4575b", "#5a1f24", "#e07a80",
)  # fmt: skip
PAPER = "#eef2f7"

Point = tuple[float, float]


class Drawing(NamedTuple):
    """Where everything is, in units from the upper left."""

    chin: float
    eyes: list[tuple[float, float]]
    """The middle of each, and how far it is open."""
    brows: list[tuple[Point, Point, Point]]
    """From the inner end to the outer one."""
    outer: tuple[Point, Point, Point, Point]
    """Of the lips: left corner, above, right corner, below; curves bend towards the second and the
    fourth."""
    inner: tuple[Point, Point, Point, Point]
    """Of the mouth's opening."""
    tongue: float
    """How far it is out, 0..1."""


def drawing(value: Mapping[str, float]) -> Drawing:
    """The face of blendshapes by name; those that are missing are 0. Left is the face's own."""

    def of(name: str) -> float:
        return value.get(name, 0.0)

    def both(name: str) -> float:
        return (of(f"{name}Left") + of(f"{name}Right")) / 2

    eyes: list[tuple[float, float]] = []
    brows: list[tuple[Point, Point, Point]] = []
    for side, x, out in (("Right", 66.0, -1), ("Left", 134.0, 1)):
        wide = 1 + 0.4 * of(f"eyeWide{side}") - 0.35 * of(f"eyeSquint{side}")
        eyes.append((x, 11 * wide * (1 - of(f"eyeBlink{side}"))))
        down = 8 * of(f"browDown{side}")
        inner, outer = 74 - 12 * of("browInnerUp") + down, 74 - 10 * of(f"browOuterUp{side}") + down
        middle = (x, (inner + outer) / 2 - 6)
        brows.append(((x - out * 17, inner), middle, (x + out * 19, outer)))
    jaw = of("jawOpen")
    half = 29 + 9 * both("mouthStretch") + 7 * both("mouthSmile") + 4 * both("mouthDimple")
    half = max(half - 14 * of("mouthPucker") - 8 * of("mouthFunnel"), 8.0)
    shift = 8 * (of("mouthLeft") - of("mouthRight"))
    corner = 158 + 6 * jaw - 8 * both("mouthSmile") + 8 * both("mouthFrown")
    high = 1 + 7 * both("mouthUpperUp") + 5 * of("mouthFunnel") - 4 * of("mouthShrugUpper")
    low = 40 * max(jaw - of("mouthClose"), 0.0) + 8 * both("mouthLowerDown")
    low += 6 * of("mouthFunnel")
    shut = 1 - 0.9 * min(both("mouthPress") * 1.6, 1.0)
    high, low = high * shut, low * shut
    full = 6 + 4 * of("mouthPucker") + 3 * of("mouthFunnel") - 3 * both("mouthPress")
    upper = max(full - 5 * of("mouthRollUpper"), 1.5)
    lower = max(full + 2 - 7 * of("mouthRollLower"), 1.5)
    x, y = 100 + shift, 158.0
    return Drawing(
        chin=216 + 22 * jaw,
        eyes=eyes,
        brows=brows,
        outer=(
            (x - half, corner),
            (x, y - 2 * (high + upper)),
            (x + half, corner),
            (x, y + 2 * (low + lower)),
        ),
        inner=(
            (x - half * 0.84, corner),
            (x, y - 2 * high),
            (x + half * 0.84, corner),
            (x, y + 2 * low),
        ),
        tongue=of("tongueOut"),
    )


def animated(curves: NDArray[np.float64], names: Sequence[str], fps: float) -> bytes:
    """A WebP of the face that `curves` [curves, time] move, at most 8 seconds of it."""
    step = max(fps / RATE, 1.0)
    last = min(curves.shape[1], round(LONGEST * fps))
    moments = np.arange(0, last, step).astype(np.int64)
    pictures = [
        picture(dict(zip(names, np.nan_to_num(curves[:, at]).tolist(), strict=True)))
        for at in moments
    ] or [picture({})]
    out = io.BytesIO()
    pictures[0].save(
        out,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * step / fps),
        loop=0,
        quality=70,
        method=0,
    )
    return out.getvalue()


def picture(value: Mapping[str, float]) -> Any:
    """The face as a picture of PIL, 200 x 240."""
    from PIL import Image, ImageDraw

    face = drawing(value)
    image = Image.new("RGB", (WIDTH * SMOOTH, HEIGHT * SMOOTH), PAPER)
    pen = ImageDraw.Draw(image)

    def scaled(*points: Point) -> list[Point]:
        return [(x * SMOOTH, y * SMOOTH) for x, y in points]

    thick = 2 * SMOOTH
    pen.polygon(scaled(*_head(face.chin)), fill=SKIN, outline=LINE, width=thick)
    for x, height in face.eyes:
        height = max(height, 0.8)
        box = scaled((x - 16, 98 - height), (x + 16, 98 + height))
        pen.ellipse(box, fill=WHITE, outline=LINE, width=thick)
        if height > 3:
            size = min(6.0, height)
            pen.ellipse(scaled((x - size, 98 - size), (x + size, 98 + size)), fill=LINE)
    for start, middle, end in face.brows:
        pen.line(scaled(*_bent(start, middle, end)), fill=LINE, width=2 * thick, joint="curve")
    pen.line(scaled((100, 112), (94, 132), (102, 134)), fill=LINE, width=thick, joint="curve")
    pen.polygon(scaled(*_lips(face.outer)), fill=LIPS)
    pen.polygon(scaled(*_lips(face.inner)), fill=INSIDE)
    if face.tongue > 0.05:
        (_, above), (_, below) = face.inner[1], face.inner[3]
        x, y, size = face.inner[1][0], (above + below) / 2 + 4, 5 + 8 * face.tongue
        pen.ellipse(scaled((x - 11, y - size / 2), (x + 11, y + size)), fill=TONGUE)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def _head(chin: float) -> list[Point]:
    """Half an ellipse above the cheeks, and one below that reaches to the chin."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    heights = np.where(np.sin(angles) > 0, chin - 110, 100.0)
    return [
        (float(100 + 82 * np.cos(a)), float(110 + h * np.sin(a)))
        for a, h in zip(angles, heights, strict=True)
    ]


def _bent(start: Point, towards: Point, end: Point) -> list[Point]:
    """A quadratic Bézier curve."""
    points: list[Point] = []
    for t in np.linspace(0, 1, 12).tolist():
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        points.append(
            (a * start[0] + b * towards[0] + c * end[0], a * start[1] + b * towards[1] + c * end[1])
        )
    return points


def _lips(mouth: tuple[Point, Point, Point, Point]) -> list[Point]:
    left, above, right, below = mouth
    return [*_bent(left, above, right), *_bent(right, below, left)]
