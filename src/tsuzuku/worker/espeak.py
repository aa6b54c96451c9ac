"""The synthesizer espeak-ng as a library: what it says, and when it says which phoneme."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Phoneme(NamedTuple):
    """One that is spoken."""

    start: int
    """The sample at which it begins; it ends where the next one does."""
    ipa: str
    """In the International Phonetic Alphabet with its stress before it; empty for a pause."""


class Spoken(NamedTuple):
    """What was said."""

    samples: NDArray[np.int16]
    phonemes: list[Phoneme]


Say = Callable[[str, int, int, int], Spoken]
"""Says a text at so many words a minute, at a pitch of 0 to 99, with a seed for its noise."""


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    )


_SYNCHRONOUS = 2
_PHONEME_EVENTS, _IN_IPA = 1, 2
_DO_NOT_EXIT = 0x8000
_CHARACTERS = 1
_UTF8 = 1
_SPEED, _PITCH = 1, 3
_LAST_EVENT, _PHONEME_EVENT = 0, 7
LONGEST_PATH = 120
"""espeak-ng cuts the path of its data at 160 bytes, and what it looks for there is longer."""


@contextmanager
def opened_voice(voice: str) -> Generator[tuple[Say, int]]:
    """espeak-ng with a voice: what says a text (16-bit samples), and the samples a second.

    Raises RuntimeError without the voice, or without espeak-ng's data.
    """
    import espeakng_loader

    data = Path(espeakng_loader.get_data_path())
    with tempfile.TemporaryDirectory(prefix="tsuzuku-") as short:
        folder = data.parent
        if len(os.fsencode(folder)) > LONGEST_PATH:
            folder = Path(short)
            (folder / data.name).symlink_to(data)
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        options = _DO_NOT_EXIT | _PHONEME_EVENTS | _IN_IPA
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(folder), options)
        if rate <= 0:
            raise RuntimeError(f"espeak-ng finds no data in {folder}")
        heard: list[bytes] = []
        phonemes: list[Phoneme] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
        def take(samples: int | None, count: int, events: Any) -> int:
            if samples and count:
                heard.append(ctypes.string_at(samples, 2 * count))
            at = 0
            while events[at].type != _LAST_EVENT:
                if events[at].type == _PHONEME_EVENT:
                    ipa = bytes(events[at].string).decode("utf-8", "ignore")
                    phonemes.append(Phoneme(events[at].sample, ipa))
                at += 1
            return 0

        library.espeak_SetSynthCallback(take)
        if library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")

        def say(text: str, speed: int, pitch: int, noise: int) -> Spoken:
            heard.clear()
            phonemes.clear()
            library.espeak_ng_SetRandSeed(ctypes.c_long(noise))
            library.espeak_SetParameter(_SPEED, speed, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            content = text.encode()
            library.espeak_Synth(
                content, ctypes.c_size_t(len(content) + 1), 0, _CHARACTERS, 0, _UTF8, None, None
            )
            return Spoken(np.frombuffer(b"".join(heard), dtype=np.int16), list(phonemes))

        try:
            yield say, rate
        finally:
            library.espeak_Terminate()
