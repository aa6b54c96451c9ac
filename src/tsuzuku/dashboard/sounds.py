"""Sound to look at: waveform and spectrogram, computed here and small enough to be sent."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LONGEST = 120.0
"""Seconds that are drawn; of longer sound the beginning."""
WIDTH = 600
"""Points in time of a waveform and of a spectrogram, at most."""
BANDS = 80
"""Bands of the mel scale."""
RANGE = 80.0
"""Decibels below the loudest that are still told apart."""
TICKS = (250, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class Spectrogram:
    """Loudness in dB below the loudest, [bands, time]."""

    decibels: Floats
    times: Floats
    """Seconds of each column's middle."""
    hertz: Floats
    """The middle of each band."""


@dataclass(frozen=True)
class Sound:
    """One channel (a mix of all) of the beginning of a sound."""

    samples: Floats
    rate: int
    """Samples a second."""
    channels: int
    seconds: float
    """Of the whole."""

    @property
    def cut(self) -> bool:
        return self.seconds > LONGEST


def decode(content: bytes) -> Sound | None:
    """A file's sound; None where it is none that can be decoded here."""
    import soundfile

    reading = cast(Any, soundfile)
    try:
        with reading.SoundFile(io.BytesIO(content)) as file:
            rate, frames = int(file.samplerate), int(file.frames)
            if rate <= 0:
                return None
            read = file.read(math.ceil(LONGEST * rate), dtype="float32", always_2d=True)
    except (reading.LibsndfileError, RuntimeError, ValueError, TypeError, MemoryError):
        return None
    samples = np.nan_to_num(np.asarray(read, dtype=np.float32).mean(axis=1))
    return Sound(samples, rate, int(read.shape[1]), max(frames, len(read)) / rate)


def envelope(sound: Sound) -> tuple[Floats, Floats, Floats]:
    """Times, and the least and largest sample in each of at most `WIDTH` equal parts."""
    count = len(sound.samples)
    edges = np.unique(np.linspace(0, count, WIDTH + 1).astype(np.int64))[:-1]
    if not count:
        nothing = np.zeros(0, np.float32)
        return nothing, nothing, nothing
    low = np.minimum.reduceat(sound.samples, edges)
    high = np.maximum.reduceat(sound.samples, edges)
    return (edges / sound.rate).astype(np.float32), low, high


def spectrogram(sound: Sound) -> Spectrogram | None:
    """On the mel scale, of windows of some 25 ms; None where there is nothing to hear."""
    size = 1 << max(6, math.ceil(math.log2(0.025 * sound.rate)))
    samples = sound.samples
    if not len(samples):
        return None
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    hop = max(round(0.01 * sound.rate), math.ceil((len(samples) - size) / WIDTH), 1)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    window = np.hanning(size).astype(np.float32)
    bands, hertz = mel_bands(sound.rate, size)
    power = np.empty((len(frames), len(bands)), np.float32)
    for start in range(0, len(frames), 256):  # a part at a time: long sound needs no more memory
        part = np.abs(np.fft.rfft(frames[start : start + 256] * window, axis=1)) ** 2
        power[start : start + 256] = part @ bands.T
    loudest = float(power.max())
    floor = loudest * 10 ** (-RANGE / 10) if loudest > 0 else 1.0
    decibels = 10 * np.log10(np.maximum(power, floor) / (loudest or 1.0))
    times = (np.arange(len(frames)) * hop + size / 2) / sound.rate
    return Spectrogram(decibels.T.astype(np.float32), times.astype(np.float32), hertz)


def mel_bands(rate: int, size: int) -> tuple[Floats, Floats]:
    """Triangles [bands, size / 2 + 1] that add up a spectrum, and their middles in Hz."""
    count = min(BANDS, size // 4)
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)
    # of low bands, which are narrower than a bin, each gets at least the bin in its middle
    width = np.maximum(np.diff(corners), rate / size)
    middles = corners[1:-1, None]
    rising = 1 - (middles - frequencies) / width[:-1, None]
    falling = 1 - (frequencies - middles) / width[1:, None]
    triangles = np.clip(np.minimum(rising, falling), 0, None)
    return triangles.astype(np.float32), corners[1:-1].astype(np.float32)


def ticks(hertz: Floats) -> tuple[list[float], list[str]]:
    """Where on the axis of bands round frequencies are, and what they are called."""
    known = [tick for tick in TICKS if hertz[0] <= tick <= hertz[-1]]
    places = np.interp(known, hertz, np.arange(len(hertz)))
    return [float(p) for p in places], [str(t) if t < 1000 else f"{t // 1000}k" for t in known]
