"""Folders in LJSpeech's layout whose "speech" is tones, one pitch a character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SENTENCES = [
    f"{who} {did} {what}"
    for who in ("the fox", "a judge", "my queen", "our baker")
    for did in ("saw", "mixed", "liked")
    for what in ("a lazy dog", "five jars", "the quiet village", "her box")
]


def tones(text: str, rate: int, seconds_each: float = 0.06) -> np.ndarray:
    """int16 [T]: a tone for each character of `text`."""
    time = np.arange(int(rate * seconds_each)) / rate
    fade = np.hanning(len(time))
    parts = [np.sin(2 * np.pi * (150 + 20 * (ord(c) % 128)) * time) * fade for c in text]
    return (np.concatenate(parts) * 12000).astype(np.int16)


def write_corpus(
    folder: Path,
    texts: list[str] = SENTENCES,
    rate: int = 22_050,
    ending: str = ".wav",
    seconds_each: float = 0.06,
) -> Path:
    """`metadata.csv` and `wavs/u000.wav` …; returns the folder."""
    (folder / "wavs").mkdir(parents=True)
    for number, text in enumerate(texts):
        path = folder / "wavs" / f"u{number:03}{ending}"
        soundfile.write(path, tones(text, rate, seconds_each), rate)
    lines = [f"u{number:03}|{text}|{text}" for number, text in enumerate(texts)]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
