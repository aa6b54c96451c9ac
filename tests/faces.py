"""Small recordings of sound and face: a tone whose loudness opens the jaw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tsuzuku.core.blendshapes import NAMES

JAW = NAMES.index("jawOpen")


def loudness(seconds: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """0..0.8 at each time; another melody for each seed."""
    speed = 1.5 + seed % 5 / 4
    return 0.4 + 0.4 * np.sin(2 * np.pi * speed * seconds + seed)


def sound(seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float64]:
    times = np.arange(round(seconds * rate)) / rate
    return loudness(times, seed) * np.sin(2 * np.pi * 220 * times)


def rows(seconds: float, fps: float = 60, seed: int = 0) -> NDArray[np.float64]:
    """[frames, 52]: the jaw follows the loudness, a smile is constant, all else rests."""
    times = np.arange(round(seconds * fps)) / fps
    made = np.zeros((len(times), len(NAMES)))
    made[:, JAW] = loudness(times, seed)
    made[:, NAMES.index("mouthSmileLeft")] = 0.25
    return made


def lines(faces: NDArray[np.float64], fps: float = 60) -> list[str]:
    return [
        json.dumps({"timestamp": n / fps, "blendshapes": row.tolist()})
        for n, row in enumerate(faces)
    ]


def write(
    folder: Path, name: str, seconds: float, *, rate: int = 16_000, fps: float = 60, seed: int = 0
) -> None:
    """A pair `<name>.wav` and `<name>.jsonl`."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(place.with_suffix(".wav"), sound(seconds, rate, seed), rate)
    text = "\n".join(lines(rows(seconds, fps, seed), fps)) + "\n"
    place.with_suffix(".jsonl").write_text(text, encoding="utf-8")


def corpus(folder: Path, train: int = 12, held_out: int = 4) -> Path:
    for number in range(train + held_out):
        split = "train" if number < train else "val"
        write(folder, f"{split}/{number:02}", 0.6 + number % 4 / 5, seed=number)
    return folder
