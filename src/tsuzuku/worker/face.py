"""Makes speech with the face that speaks it: what a model can learn to move a face by sound from.

espeak-ng speaks, and says when it speaks which phoneme; `visemes` makes a face of that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tsuzuku.core.curve_files import jsonl
from tsuzuku.core.errors import WrongInput
from tsuzuku.worker.espeak import opened_voice
from tsuzuku.worker.speech import (
    MOST,
    RATE,
    TAKES,
    Utterance,
    in_processes,
    made_as_a_whole,
    parts_of,
    plan,
    recorded,
    refuse_what_is_there,
    require_packages,
    write_sound,
)
from tsuzuku.worker.visemes import RATE as FRAMES
from tsuzuku.worker.visemes import face, loudness_of, segments

COUNT = 600
"""Utterances if nobody says how many: 25 minutes."""
FEWEST = 3 * TAKES
"""Utterances: a sentence for each split."""
HELD_OUT = 0.1
"""Share of the sentences to validate with, and as many to test with."""
BEFORE, AFTER = (0.1, 0.3), (0.35, 0.6)
"""Seconds of silence at the ends: a face comes from rest, blinks, and goes back there."""


def make_face(
    target: Path,
    count: int | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes `<split>/<name>.wav` and `<name>.jsonl` into the folder `target`, which appears whole.

    The splits `train`, `val` and `test` have no sentence in common. `report` is told how many of
    how many utterances are done. The same input gives the same bytes, on however many cores.
    Raises WrongInput if `target` is there and not empty, or for a count that cannot be;
    TsuzukuError (`missing_package`) without espeakng-loader, soundfile or soxr.
    """
    refuse_what_is_there(target)
    require_packages()
    wanted = COUNT if count is None else count
    if not FEWEST <= wanted <= MOST:
        raise WrongInput(f"count has to be from {FEWEST} to {MOST:,}; it is {wanted}.")
    spoken = parted(plan(wanted, seed, None), seed)
    with made_as_a_whole(target) as temporary:
        for split in ("train", "val", "test"):
            (temporary / split).mkdir()
        done = 0
        report(done, wanted)
        for size in in_processes(speak_with_face, parts_of(spoken), temporary):
            done += size
            report(done, wanted)


def parted(spoken: list[Utterance], seed: int) -> list[Utterance]:
    """The utterances with the folder of their split in their name; sentences stay together."""
    generator = random.Random(f"faces {seed}")
    sentences = list(dict.fromkeys(utterance.text for utterance in spoken))
    generator.shuffle(sentences)
    held_out = max(1, round(HELD_OUT * len(sentences)))
    folders = dict.fromkeys(sentences, "train")
    folders |= dict.fromkeys(sentences[:held_out], "val")
    folders |= dict.fromkeys(sentences[held_out : 2 * held_out], "test")
    return [
        replace(
            utterance,
            name=f"{folders[utterance.text]}/{utterance.name}",
            margins=(generator.uniform(*BEFORE), generator.uniform(*AFTER)),
        )
        for utterance in spoken
    ]


def speak_with_face(part: list[Utterance], folder: Path) -> None:
    """Writes the sound of each utterance and the face that speaks it."""
    with opened_voice(part[0].voice) as (say, rate):
        for utterance in part:
            sound, phonemes, later = recorded(utterance, say, rate)
            times = [(start / rate + later, ipa) for start, ipa in phonemes]
            # what espeak-ng calls a pause at the end may begin before the sound has died away
            spoken = segments(times, len(sound) / RATE)
            rows = face(spoken, loudness_of(sound, RATE)).round(4).tolist()
            write_sound(folder / f"{utterance.name}.wav", sound)
            lines = "".join(jsonl(rows, FRAMES))
            (folder / f"{utterance.name}.jsonl").write_text(lines, encoding="ascii")
