"""What a face does while it speaks: from phonemes and loudness to blendshapes of ARKit.

Co-articulation by dominance (Cohen and Massaro, "Modeling coarticulation in synthetic visual
speech", 1993): every phoneme wants its own mouth, the more so the nearer its time is, and how much
it insists on each blendshape differs; the mouth is the mean of what they want.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsuzuku.core.blendshapes import NAMES

Floats = NDArray[np.float64]

RATE = 60
"""Frames a second of what is made, as ARKit records."""
REACH = 0.055
"""Seconds in which a phoneme's dominance falls to 1/e beyond its own time."""
SHUT = {"mouthPress": 0.55, "mouthRollLower": 0.3, "mouthRollUpper": 0.2, "mouthClose": 0.06}

VISEMES: dict[str, dict[str, float]] = {
    "ɑaäɐʌ": {"jawOpen": 0.55, "mouthLowerDown": 0.3, "mouthUpperUp": 0.12},
    "æ": {"jawOpen": 0.48, "mouthStretch": 0.25, "mouthLowerDown": 0.35, "mouthUpperUp": 0.18},
    "əɘ": {"jawOpen": 0.25, "mouthLowerDown": 0.15},
    "ɛe": {"jawOpen": 0.34, "mouthStretch": 0.3, "mouthSmile": 0.15, "mouthLowerDown": 0.25},
    "iɪᵻ": {"jawOpen": 0.16, "mouthStretch": 0.45, "mouthSmile": 0.3, "mouthDimple": 0.15},
    "uʊɯ": {"jawOpen": 0.14, "mouthPucker": 0.75, "mouthFunnel": 0.3},
    "o": {"jawOpen": 0.34, "mouthPucker": 0.45, "mouthFunnel": 0.55},
    "ɔɒ": {"jawOpen": 0.46, "mouthPucker": 0.2, "mouthFunnel": 0.5},
    "ɚɜ": {"jawOpen": 0.24, "mouthPucker": 0.2, "mouthFunnel": 0.35},
    "pbm": {"jawOpen": 0.06, **SHUT},
    "fvɸ": {"jawOpen": 0.1, "mouthRollLower": 0.55, "mouthUpperUp": 0.3, "mouthShrugUpper": 0.15},
    "θð": {"jawOpen": 0.18, "tongueOut": 0.5, "mouthLowerDown": 0.12},
    "sz": {"jawOpen": 0.05, "mouthStretch": 0.3, "mouthLowerDown": 0.28, "mouthDimple": 0.1},
    "tdnɴɲɾ": {"jawOpen": 0.13, "mouthLowerDown": 0.18},
    "lɫɽ": {"jawOpen": 0.24, "tongueOut": 0.15, "mouthLowerDown": 0.15},
    "ʃʒɕʑ": {"jawOpen": 0.08, "mouthFunnel": 0.6, "mouthPucker": 0.3, "mouthUpperUp": 0.15},
    "kɡgŋxhçʔ": {"jawOpen": 0.22},
    "w": {"jawOpen": 0.1, "mouthPucker": 0.85, "mouthFunnel": 0.25},
    "ɹr": {"jawOpen": 0.14, "mouthFunnel": 0.4, "mouthPucker": 0.3},
    "j": {"jawOpen": 0.12, "mouthStretch": 0.35, "mouthSmile": 0.2},
}
"""The mouth of each sound; of a blendshape with two sides, both."""
VOWELS = "ɑaäɐʌæəɘɛeiɪᵻuʊɯoɔɒɚɜ"
INSISTENT = {"p": 3.0, "b": 3.0, "m": 3.0, "f": 2.5, "v": 2.5, "s": 1.5, "z": 1.5, "w": 2.0}
"""Sounds that cannot be made without their mouth; others insist on it with 1."""
ASIDE, ASIDE_VOWEL, ASIDE_PAUSE = 0.25, 0.5, 0.7
"""How much phonemes insist that what they do not need rests;"""
LIPS_OPEN = 2.0
"""and vowels, that lips are not pressed together."""
STRESS = 1.3
PAUSE = 0.09
"""Seconds of silence that are time to blink."""


class Segment(NamedTuple):
    """A sound, or a pause (`symbol` empty), in seconds."""

    start: float
    end: float
    symbol: str
    stressed: bool = False


def segments(phonemes: Sequence[tuple[float, str]], end: float) -> list[Segment]:
    """Single sounds from phonemes (when they begin, in IPA): diphthongs and affricates in parts."""
    found: list[Segment] = []
    ends = [start for start, _ in phonemes[1:]] + [end]
    if phonemes and phonemes[0][0] > 0:
        found.append(Segment(0.0, phonemes[0][0], ""))
    for (start, ipa), stop in zip(phonemes, ends, strict=True):
        symbols = [c for c in unicodedata.normalize("NFC", ipa) if c in _TARGETS] or [""]
        part = max(stop - start, 0.0) / len(symbols)
        for number, symbol in enumerate(symbols):
            at = start + number * part
            found.append(Segment(at, at + part, symbol, "ˈ" in ipa))
    return found


def face(spoken: Sequence[Segment], loudness: Floats) -> Floats:
    """Blendshapes [frames, 52] in 0..1, as many as `loudness` [frames] (0..1) has at 60 a second.

    Lips, jaw and tongue follow the sounds, the jaw further where it is loud; brows rise with
    loudness, and eyes blink in pauses. All of it can be told from the sound.
    """
    times = np.arange(len(loudness)) / RATE
    made = _mouth(spoken, times)
    open_wide = 0.75 + 0.5 * loudness
    for name in ("jawOpen", "mouthLowerDownLeft", "mouthLowerDownRight"):
        made[:, NAMES.index(name)] *= open_wide
    raised = loudness**2
    for name, height in (("browInnerUp", 0.5), ("browOuterUpLeft", 0.3), ("browOuterUpRight", 0.3)):
        made[:, NAMES.index(name)] = height * raised
    lids = _blinks(spoken, times)
    for side in ("Left", "Right"):
        made[:, NAMES.index(f"eyeBlink{side}")] = lids
        made[:, NAMES.index(f"cheekSquint{side}")] = 0.5 * made[:, NAMES.index("mouthSmileLeft")]
    return made.clip(0, 1)


def _mouth(spoken: Sequence[Segment], times: Floats) -> Floats:
    """What lips, jaw and tongue do, [frames, 52]."""
    starts, ends = (np.array([getattr(s, key) for s in spoken]) for key in ("start", "end"))
    middle, half = (starts + ends) / 2, (ends - starts) / 2
    # full dominance in the middle half of a sound, then falling
    away = (np.abs(times[:, None] - middle) - half / 2).clip(0)
    near = np.exp(-away / REACH)
    targets = np.stack([_TARGETS[s.symbol] for s in spoken])
    insisting = np.stack([_insistence(s) for s in spoken])
    return (near @ (insisting * targets)) / (near @ insisting)


def _insistence(segment: Segment) -> Floats:
    """How much a sound insists on each blendshape, [52]."""
    symbol = segment.symbol
    if not symbol:
        return np.full(len(NAMES), ASIDE_PAUSE)
    strong = INSISTENT.get(symbol, 1.0) * (STRESS if segment.stressed else 1.0)
    aside = np.full(len(NAMES), ASIDE_VOWEL if symbol in VOWELS else ASIDE)
    if symbol in VOWELS:
        aside[_TARGETS["m"] > 0] = LIPS_OPEN
    return np.where(_TARGETS[symbol] > 0, strong, aside)


def _blinks(spoken: Sequence[Segment], times: Floats) -> Floats:
    """Lids [frames]: they close soon after speech has paused, and open more slowly."""
    lids = np.zeros(len(times))
    last = ""
    for segment in spoken:
        pause = not segment.symbol and segment.end - segment.start >= PAUSE
        if pause and last:
            since = times - segment.start - 0.04
            closing, opening = since / 0.08, (0.26 - since) / 0.16
            lids = np.maximum(lids, np.minimum(closing, opening).clip(0, 1))
        last = segment.symbol or ("" if pause else last)
    return 0.95 * (0.5 - 0.5 * np.cos(np.pi * lids))


def loudness_of(sound: NDArray[np.int16], rate: int) -> Floats:
    """How loud `sound` is at each frame, relative to its loudest moment: [frames] in 0..1."""
    count = -(-len(sound) * RATE // rate)
    power = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
    centres = np.arange(count) * rate / RATE
    # a tenth of a second to each side
    low = (centres - rate / 10).clip(0, len(sound)).astype(np.int64)
    high = (centres + rate / 10).clip(0, len(sound)).astype(np.int64)
    level = np.sqrt((power[high] - power[low]) * 5 / rate)
    return level / max(float(level.max(initial=0.0)), 1.0)


def _targets() -> dict[str, Floats]:
    made = {"": np.zeros(len(NAMES))}
    for symbols, mouth in VISEMES.items():
        wanted = np.zeros(len(NAMES))
        for name, value in mouth.items():
            for index, full in enumerate(NAMES):
                if full in (name, f"{name}Left", f"{name}Right"):
                    wanted[index] = value
        made |= dict.fromkeys(symbols, wanted)
    return made


_TARGETS = _targets()
