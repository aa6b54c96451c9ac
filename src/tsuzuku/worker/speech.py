"""Makes a corpus of spoken sentences in LJSpeech's layout with the synthesizer espeak-ng.

Several voices, speeds and pitches; what a recognizer can be trained on where no recordings are.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import connection
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.workspace import sync_folder
from tsuzuku.worker.espeak import Phoneme, Say, opened_voice
from tsuzuku.worker.sentences import sentences

COUNT = 1200
"""Utterances if nobody says how many: 40 minutes."""
TAKES = 2
"""How often each sentence is spoken, by different voices."""
TAKES_OF_OWN = 3
"""The same of a person's own lines, which are fewer."""
RATE = 16_000
"""Samples a second of the files."""
LONGEST_LINE = 400
"""Characters of a line: half a minute."""
MOST = 100_000
"""Utterances: two days of speech, 6 GB."""
QUIET = 100
"""Samples up to this size, of 32,767, are silence: espeak-ng ends with a pause."""
PROBLEM = "problem.txt"
"""Where a process says, among what it makes, why it could not."""
PART = 100
"""Utterances that one process speaks."""

VOICES = {
    "en": ["en-us", "en-us+f2", "en-gb-x-rp+m3", "en-us+m7", "en-gb-x-rp+f5", "en-us+f4"],
    "ja": ["ja", "ja+f2", "ja+m3", "ja+f4", "ja+m7"],
}  # fmt: skip
SPEEDS = (145, 185)
"""Words a minute."""
PITCHES = (38, 62)
"""On espeak-ng's scale of 0 to 99."""


@dataclass(frozen=True)
class Utterance:
    """What is said, how, and what the file is called."""

    name: str
    text: str
    voice: str
    speed: int
    pitch: int
    margins: tuple[float, float]
    """Seconds of silence before and after."""
    peak: float
    """Loudness: the largest sample, in 0..1."""
    noise: int
    """Seed of the synthesizer's own noise, such as breath."""


Work = Callable[[list[Utterance], Path], None]
"""What a process does: makes a part of the utterances into files of a folder."""


def make_speech(
    target: Path,
    count: int | None = None,
    seed: int = 0,
    text: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes `metadata.csv` and `wavs/` into the folder `target`, which appears as a whole.

    Without `text`, sentences are made up; else its lines are spoken. `report` is told how many of
    how many utterances are done. The same input gives the same bytes, on however many cores.
    Raises WrongInput if `target` is there and not empty, or for lines that cannot be spoken;
    TsuzukuError (`missing_package`) without espeakng-loader, soundfile or soxr.
    """
    refuse_what_is_there(target)
    require_packages()
    spoken = plan(count, seed, None if text is None else lines_of(text))
    parts = parts_of(spoken)
    with made_as_a_whole(target) as temporary:
        (temporary / "wavs").mkdir()
        done = 0
        report(done, len(spoken))
        for size in in_processes(speak, parts, temporary):
            done += size
            report(done, len(spoken))
        rows = "".join(f"{u.name}|{u.text}|{u.text}\n" for u in spoken)
        (temporary / "metadata.csv").write_text(rows, encoding="utf-8")


def refuse_what_is_there(target: Path) -> None:
    """Raises WrongInput unless `target` is new or an empty folder."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise WrongInput(f"{target} is there already.", "Choose a folder that is new or empty.")


@contextmanager
def made_as_a_whole(target: Path) -> Generator[Path]:
    """A folder to fill, which becomes `target` when that is done, and else is gone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        os.sync()  # thousands of small files: one sync beats an fsync for each
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def lines_of(path: Path) -> list[str]:
    """The lines of a person's file; raises WrongInput naming the first that cannot be said."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise WrongInput(f"{path} is not a UTF-8 text that can be read: {error}.") from None
    spoken: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = " ".join(unicodedata.normalize("NFKC", line).replace("|", " ").split())
        if not text:
            continue
        if len(text) > LONGEST_LINE:
            raise WrongInput(f"{path.name}, line {number}: more than {LONGEST_LINE} characters.")
        odd = next((c for c in text if c.isalpha() and not _can_be_read(c)), None)
        if odd is not None:
            hint = "Japanese has to be in kana." if "\u4e00" <= odd <= "\u9fff" else ""
            raise WrongInput(f"{path.name}, line {number}: no voice here can read {odd!r}.", hint)
        if not any(c.isalnum() for c in text):
            raise WrongInput(f"{path.name}, line {number}: {text!r} has nothing to say.")
        spoken.append(text)
    if not spoken:
        raise WrongInput(f"{path.name} has no lines to speak.")
    return spoken


def _can_be_read(letter: str) -> bool:
    return letter < "\u0250" or _is_kana(letter)


def _is_kana(letter: str) -> bool:
    return "\u3041" <= letter <= "\u30ff"


def plan(count: int | None, seed: int, lines: list[str] | None) -> list[Utterance]:
    """Who says what: each sentence goes to several voices, no two of them alike."""
    takes = TAKES if lines is None else TAKES_OF_OWN
    wanted = count if count is not None else COUNT if lines is None else takes * len(lines)
    if not 1 <= wanted <= MOST:
        raise WrongInput(f"count has to be from 1 to {MOST:,}; it is {wanted}.")
    said = sentences(-(-wanted // takes), seed) if lines is None else lines
    generator = random.Random(f"voices {seed}")
    made: list[Utterance] = []
    for number in range(wanted):
        text = said[number % len(said)]
        voices = VOICES["ja" if any(_is_kana(c) for c in text) else "en"]
        # a sentence's takes follow each other in the list of voices, from a place of its own
        turn = number % len(said) * takes + number // len(said)
        made.append(
            Utterance(
                name=f"made-{number + 1:0{max(4, len(str(wanted)))}}",
                text=text,
                voice=voices[turn % len(voices)],
                speed=generator.randint(*SPEEDS),
                pitch=generator.randint(*PITCHES),
                margins=(generator.uniform(0.05, 0.2), generator.uniform(0.05, 0.2)),
                peak=generator.uniform(0.4, 0.9),
                noise=generator.randrange(1, 1 << 31),
            )
        )
    return made


def parts_of(spoken: list[Utterance]) -> list[list[Utterance]]:
    """Parts of one voice each. They depend on what is said only, never on the machine."""
    by_voice: dict[str, list[Utterance]] = {}
    for utterance in spoken:
        by_voice.setdefault(utterance.voice, []).append(utterance)
    return [
        of_voice[start : start + PART]
        for of_voice in by_voice.values()
        for start in range(0, len(of_voice), PART)
    ]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(work: Work, parts: list[list[Utterance]], folder: Path) -> Iterator[int]:
    """Does `work` for each part in a process of its own, one a core at a time; yields their sizes.

    Synthesizing leaves traces in espeak-ng that alter what comes next, by a little: only a fresh
    process always says the same. Raises TsuzukuError with what went wrong in one.
    """
    waiting = parts[::-1]
    running: dict[int, tuple[Any, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < cores():
                part = waiting.pop()
                asked = (work, part, folder)
                process = _fresh_processes().Process(target=_work_or_say_why, args=asked)
                process.start()
                running[process.sentinel] = process, len(part)
            for ended in connection.wait(list(running)):
                process, size = running.pop(cast(int, ended))
                process.join()
                if process.exitcode:
                    said = folder / PROBLEM
                    why = (
                        said.read_text(encoding="utf-8")
                        if said.exists()
                        else f"exit code {process.exitcode}"
                    )
                    raise TsuzukuError(f"The sentences could not be spoken: {why}.")
                yield size
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


@lru_cache
def _fresh_processes() -> Any:
    """Where fresh processes come from: if possible, a server that has loaded the packages."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "soundfile", "soxr", "espeakng_loader"])
    return context


def _work_or_say_why(work: Work, part: list[Utterance], folder: Path) -> None:
    try:
        work(part, folder)
    except Exception as error:
        (folder / PROBLEM).write_text(" ".join(str(error).split()).rstrip("."), encoding="utf-8")
        sys.exit(1)


def speak(part: list[Utterance], folder: Path) -> None:
    """Writes a WAV file for each utterance: 16 kHz, mono, 16 bits."""
    with opened_voice(part[0].voice) as (say, rate):
        for utterance in part:
            samples, _, _ = recorded(utterance, say, rate)
            write_sound(folder / "wavs" / f"{utterance.name}.wav", samples)


def recorded(
    utterance: Utterance, say: Say, rate: int
) -> tuple[NDArray[np.int16], list[Phoneme], float]:
    """The sound of an utterance at 16 kHz with its margins, its phonemes as espeak-ng (at `rate`)
    counts their samples, and how many seconds later than there they are in the sound."""
    import soxr

    spoken, phonemes = say(utterance.text, utterance.speed, utterance.pitch, utterance.noise)
    if not len(spoken):
        raise RuntimeError(f"espeak-ng says nothing for {utterance.text!r}")
    loud = np.flatnonzero(np.abs(spoken) > QUIET)
    first = int(loud[0]) if len(loud) else 0
    spoken = spoken[first : loud[-1] + 1] if len(loud) else spoken
    wave = cast(Any, soxr).resample(spoken.astype(np.float32), rate, RATE)
    wave *= utterance.peak * 32767 / max(float(np.abs(wave).max()), 1.0)
    before, after = (np.zeros(int(s * RATE), np.int16) for s in utterance.margins)
    samples = np.concatenate([before, wave.round().astype(np.int16), after])
    return samples, phonemes, len(before) / RATE - first / rate


def write_sound(path: Path, samples: NDArray[np.int16]) -> None:
    import soundfile

    cast(Any, soundfile).write(path, samples, RATE, subtype="PCM_16")


def require_packages() -> None:
    for package in ("espeakng_loader", "soundfile", "soxr"):
        if importlib.util.find_spec(package) is None:
            raise TsuzukuError(
                f"Making speech needs the package {package.replace('_', '-')}, which is not "
                "installed.",
                "Install it: pip install tsuzuku.",
                code="missing_package",
            )
