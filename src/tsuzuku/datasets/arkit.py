"""Speech with the face that speaks it: sounds, and beside each the blendshapes of ARKit.

A folder with pairs of files `<name>.wav` (or .flac, .ogg, .opus, .mp3) and

- `<name>.jsonl`: lines `{"timestamp": seconds, "blendshapes": [52 values in 0..1]}`, or
- `<name>.csv`: a recording of Live Link Face, `Timecode,BlendshapeCount,EyeBlinkLeft,…`.

In `train/` and `val/` (and `test/`), or all together: then files are held out by `seed`.

A data-set plug-in in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `datasets/` folder works just as well.
"""

import csv
import hashlib
import itertools
import json
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

DATASET = "ARKit"

PLACES = ("data/arkit", "data/face")
"""Where the folder is looked for without a `path`."""
ADVICE = "`tsuzuku data make face` makes synthetic speech with its face"
RATE = 16_000
"""Samples a second of every item."""
SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
FACES = (".jsonl", ".csv")
"""The first of these that is there is read."""
FOLDERS = {
    "train": ("train",),
    "validation": ("val", "validation", "valid", "dev"),
    "test": ("test",),
}
LARGEST_GAP = 0.25
"""Seconds without a usable row beyond which a face is not known."""
SLACK = 0.01
"""As far beyond 0..1 a value may be: it is cut off."""
TIMECODES = (24, 25, 30, 48, 50, 60, 120)
"""Frames a second of timecodes."""

_IN_ORDER = """
    eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft
    eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight
    eyeSquintRight eyeWideRight jawForward jawRight jawLeft jawOpen mouthClose mouthFunnel
    mouthPucker mouthRight mouthLeft mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight
    mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight mouthRollLower
    mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft
    browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight noseSneerLeft noseSneerRight tongueOut
"""
NAMES = tuple(_IN_ORDER.split())
"""The blendshapes in the order of Live Link Face, which is that of the 52 values of a line."""

Floats = NDArray[np.float64]
Rows = tuple[Floats, NDArray[np.float32]]
"""Seconds [rows], and blendshapes [rows, 52] in 0..1."""
Problem = tuple[int, str]
"""The line, and what is wrong with it."""


class Config(BaseModel):
    """Settings of the data set."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    """Folder with the pairs of files; without it, the first of `PLACES` that exists."""
    fps: int = Field(default=60, ge=10, le=120)
    """Frames a second that the model learns; faces of any rate are brought to it."""
    crop_seconds: float = Field(default=4.0, ge=0.5, le=60)
    """The longest item; of longer recordings a part is drawn each time that one is read."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the files to validate with where there is no folder for it."""
    seed: int = 0
    """Which files are held out where there is no folder for it."""
    on_error: Literal["skip", "stop"] = "skip"
    """Whether rows and files that cannot be used are left out, or end the training."""
    min_seconds: float = Field(default=0.2, ge=0)
    """Shorter recordings are not used."""
    max_difference: float = Field(default=0.5, gt=0)
    """Seconds by which sound and face may differ in length."""


class Take(NamedTuple):
    """A recording that can be used."""

    name: str
    """Its place in the folder, without an ending."""
    file: str
    """The sound, relative to the folder."""
    rate: int
    """Samples a second of the file."""
    length: int
    """Samples at 16 kHz."""
    face: NDArray[np.float32]
    """[frames, 52] at the data set's frames a second, of the whole sound."""


class Survey(NamedTuple):
    """What is in a folder."""

    takes: dict[str, list[Take]]
    """By split; no `validation` where there is no folder for it."""
    report: list[dict[str, Any]]


class Piece(NamedTuple):
    """An item: a part of a take, by frames."""

    take: int
    start: int
    size: int


class ARKit(torch.utils.data.Dataset[dict[str, Any]]):
    """Items: `audio` float32 [N] in -1..1 at 16 kHz, `blendshapes` float32 [T, 52], `id`.

    T = ceil(N · fps / 16,000): frame i is the face at i / fps seconds. All frames of a file are on
    one side of the split. `report` names every row and file that is left out, and why: `id` is the
    file, `row` the line, where it is about one.

    Raises FileNotFoundError without the files, ValueError if nothing of them can be used (or, with
    `on_error: stop`, if anything cannot).
    """

    splits = ("train", "validation", "test")

    def __init__(self, config: Config, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"There is no split {split!r}, only {', '.join(self.splits)}.")
        self.config = config
        self.path = find_folder(config.path)
        survey = survey_of(self.path, config.model_dump_json(), tuple(_stamps(self.path)))
        self.report = list(survey.report)
        self.names, self.fps = NAMES, config.fps
        takes = parted(survey.takes, config)[split]
        # loader processes get a few large arrays instead of thousands of small ones
        self.takes = [take._replace(face=NO_FACE) for take in takes]
        self.faces = np.concatenate([NO_FACE, *(take.face for take in takes)])
        self.ends = np.cumsum([len(take.face) for take in takes], dtype=np.int64)
        self.random = split == "train"
        shared = math.gcd(RATE, config.fps)
        self.samples, self.frames = RATE // shared, config.fps // shared
        """Samples, and frames, until both begin at once again: items start there."""
        self.pieces = list(self._pieces())

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Any]:
        piece = self.pieces[index]
        total = len(self._face(piece.take))
        if self.random and total > piece.size:
            room = (total - piece.size) // self.frames
            piece = piece._replace(start=random.randint(0, room) * self.frames)
        return self._item(piece)

    def lengths(self) -> list[int]:
        """Frames of each item, for batches of like lengths."""
        return [piece.size for piece in self.pieces]

    def show(self, index: int) -> dict[str, Any]:
        """An item as a person hears and sees it."""
        item = self._item(self.pieces[index])
        face = {"type": "curves", "value": item["blendshapes"].T, "names": list(NAMES)}
        return {
            "audio": {"type": "audio", "value": item["audio"], "sample_rate": RATE},
            "blendshapes": face | {"fps": self.fps},
            "id": {"type": "text", "value": item["id"]},
        }

    def fingerprint(self) -> str:
        """Changes with any name, length or face; not with the place."""
        digest = hashlib.sha256()
        for take in self.takes:
            digest.update(f"{take.name}\0{take.length}\0".encode())
        digest.update(self.faces.tobytes())
        return digest.hexdigest()

    @staticmethod
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        """`audio` [B, N] and `blendshapes` [B, T, 52], padded with 0; `audio_lengths` and
        `frame_lengths` [B]; `id`, a list."""
        batch: dict[str, Any] = {"id": [item["id"] for item in items]}
        for key, length in (("audio", "audio_lengths"), ("blendshapes", "frame_lengths")):
            values = [item[key] for item in items]
            batch[key] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            batch[length] = torch.tensor([len(value) for value in values])
        return batch

    def _pieces(self) -> Iterator[Piece]:
        """All takes in parts of at most `crop_seconds`; as many are drawn of a long take."""
        longest = int(self.config.crop_seconds * self.fps) // self.frames * self.frames
        for number in range(len(self.takes)):
            total = len(self._face(number))
            for start in range(0, total, longest):
                count = longest if self.random else total - start
                yield Piece(number, start, min(count, longest, total))

    def _face(self, take: int) -> NDArray[np.float32]:
        return self.faces[self.ends[take - 1] if take else 0 : self.ends[take]]

    def _item(self, piece: Piece) -> dict[str, Any]:
        take = self.takes[piece.take]
        start = piece.start // self.frames * self.samples
        end = min(take.length, start + -(-piece.size // self.frames) * self.samples)
        try:
            sound = read_sound(self.path / take.file, take.rate, start, end)
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            raise ValueError(f"{take.file} cannot be read any more: {error}") from error
        face = self._face(piece.take)[piece.start :][: -(-len(sound) * self.fps // RATE)]
        return {
            "audio": torch.as_tensor(sound),
            "blendshapes": torch.as_tensor(face.copy()),
            "id": take.name if piece.start == 0 else f"{take.name}@{piece.start / self.fps:.2f}",
        }


NO_FACE = np.zeros((0, len(NAMES)), np.float32)


def find_folder(path: str | None) -> Path:
    """`path`, or one of `PLACES`. Raises FileNotFoundError with what to do about it."""
    for place in PLACES if path is None else (path,):
        folder = Path(place).expanduser()
        if folder.is_dir():
            return folder
    if path is None:
        raise FileNotFoundError(f"None of {', '.join(PLACES)} exists; {ADVICE}.")
    raise FileNotFoundError(f"{path} is not a folder; {ADVICE}.")


def _files(folder: Path) -> list[str]:
    """Sounds and faces anywhere in a folder, hidden ones aside, relative to it."""
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(place).relative_to(folder)
        fitting = (n for n in names if Path(n).suffix.lower() in SOUNDS + FACES)
        found += [(inside / n).as_posix() for n in fitting if not n.startswith(".")]
    return sorted(found)


def _stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    for name in _files(folder):
        seen = (folder / name).stat()
        yield name, seen.st_mtime_ns, seen.st_size


@lru_cache(maxsize=4)
def survey_of(folder: Path, settings: str, stamps: tuple[tuple[str, int, int], ...]) -> Survey:
    """Reads every face and every sound's header. The splits of a run share one survey."""
    config = Config.model_validate_json(settings)
    files: dict[str, dict[str, str]] = {}
    for name, _, _ in stamps:
        path = PurePosixPath(name)
        files.setdefault(str(path.with_suffix("")), {})[path.suffix.lower()] = name
    report: list[dict[str, Any]] = []
    takes: dict[str, list[Take]] = {}
    for stem, by_suffix in files.items():
        take, problems = _take(folder, stem, by_suffix, config)
        report += [{"row": r, "id": f, "problem": p, "used": False} for f, r, p in problems]
        if take is not None:
            takes.setdefault(_split_of(stem), []).append(take)
    for entry in report:
        if not entry["row"]:
            del entry["row"]  # it is about the file
    _judge(folder, sum(map(len, takes.values())), report, config)
    return Survey(takes, report)


def _split_of(stem: str) -> str:
    first = stem.partition("/")[0]
    return next((split for split, names in FOLDERS.items() if first in names), "train")


def _judge(folder: Path, usable: int, report: list[dict[str, Any]], config: Config) -> None:
    """Says what is left out; raises ValueError if nothing is left, or that is not wanted."""
    if usable and not report:
        return
    first = "; ".join(_said(entry) for entry in report[:3]) + ("; …" if len(report) > 3 else "")
    if not usable:
        why = first or f"it has no pairs of sound and face; {ADVICE}"
        raise ValueError(f"{folder} has nothing that can be used: {why}.")
    if config.on_error == "stop":
        raise ValueError(f"{folder}: {first}.")
    many = "row or file" if len(report) == 1 else "rows and files"
    print(f"{folder}: {len(report)} {many} left out ({first}).", file=sys.stderr)


def _said(entry: dict[str, Any]) -> str:
    line = f", line {entry['row']}" if "row" in entry else ""
    return f"{entry['id']}{line}: {entry['problem']}"


def parted(takes: dict[str, list[Take]], config: Config) -> dict[str, list[Take]]:
    """The takes of each split; without a folder to validate with, files of `train` are held out.

    By hash: a file that comes or goes leaves the others where they are. Raises ValueError where
    nothing is left to train on.
    """
    train, held_out = takes.get("train", []), takes.get("validation", [])
    if not train:
        raise ValueError("There is nothing to train on: no pair of files is in train/.")
    if "validation" not in takes:
        count = max(1, round(len(train) * config.validation_share))
        drawn = sorted(train, key=lambda take: _drawn(config.seed, take.name))[:count]
        names = {take.name for take in drawn}
        held_out = [take for take in train if take.name in names]
        train = [take for take in train if take.name not in names]
        if not train:
            raise ValueError("Nothing is left to train on: there is one recording only.")
    return {"train": train, "validation": held_out, "test": takes.get("test", [])}


def _drawn(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _take(
    folder: Path, stem: str, files: dict[str, str], config: Config
) -> tuple[Take | None, list[tuple[str, int, str]]]:
    """The recording, None if it cannot be used; and (file, line or 0, problem) of what is wrong."""
    sound = next((files[suffix] for suffix in SOUNDS if suffix in files), None)
    face = next((files[suffix] for suffix in FACES if suffix in files), None)
    if sound is None or face is None:
        missing = f"{stem}.wav" if sound is None else f"{stem}.jsonl or .csv"
        return None, [(face or sound or stem, 0, f"has no partner {missing}")]
    try:
        rate, seconds = _sound_facts(folder / sound, config)
    except ValueError as error:
        return None, [(sound, 0, str(error))]
    problems: list[Problem] = []
    read = read_jsonl if face.endswith("jsonl") else read_live_link
    try:
        times, values = read(folder / face, problems)
        times = _checked(times, seconds, config)
    except ValueError as error:
        return None, [*((face, *problem) for problem in problems), (face, 0, str(error))]
    length = max(1, round(seconds * RATE))
    grid = np.arange(-(-length * config.fps // RATE)) / config.fps
    take = Take(stem, sound, rate, length, interpolated(grid, times, values))
    return take, [(face, *problem) for problem in problems]


def interpolated(grid: Floats, times: Floats, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [grid, 52] between those of `values` [times, 52]; beyond its ends, its ends."""
    after = np.searchsorted(times, grid).clip(1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.repeat(values, len(grid), axis=0)
    before, span = times[after - 1], times[after] - times[after - 1]
    share = ((grid - before) / span).clip(0, 1).astype(np.float32)[:, None]
    made: Any = values[after - 1] * (1 - share) + values[after] * share
    return made


def _sound_facts(path: Path, config: Config) -> tuple[int, float]:
    """Samples a second, and seconds. Raises ValueError with what is wrong with the file."""
    if not path.stat().st_size:
        raise ValueError("is empty")
    try:
        info: Any = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        why = error.error_string.strip().rstrip(".")
        raise ValueError(f"is not sound that can be read ({why})") from error
    seconds = info.frames / info.samplerate
    if not info.frames:
        raise ValueError("has no samples")
    if seconds < config.min_seconds:
        raise ValueError(f"lasts {seconds:.2f} seconds ({config.min_seconds:g} is the least)")
    return info.samplerate, seconds


def _checked(times: Floats, seconds: float, config: Config) -> Floats:
    """Seconds of a face's rows from its sound's start. Raises ValueError if they do not fit it."""
    if not len(times):
        raise ValueError("has no usable rows")
    if times[0] > seconds:
        times = times - times[0]  # a clock's time
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > LARGEST_GAP:
        at = int(gaps.argmax())
        raise ValueError(f"has no usable row from {times[at]:.2f} to {times[at + 1]:.2f} seconds")
    lasts = float(times[-1]) + (float(np.median(gaps)) if len(gaps) else 0.0)
    if abs(lasts - seconds) > config.max_difference or times[0] > config.max_difference:
        raise ValueError(f"is a face of {lasts:.2f} seconds for a sound of {seconds:.2f}")
    return times


def read_jsonl(path: Path, problems: list[Problem]) -> Rows:
    """The usable rows of a JSONL file; what is wrong with others is appended to `problems`."""

    def parsed(line: str) -> tuple[float, list[Any]]:
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError("is not JSON") from None
        if not isinstance(row, dict) or not {"timestamp", "blendshapes"} <= row.keys():
            raise ValueError('is not {"timestamp": …, "blendshapes": […]}')
        row = cast(dict[str, Any], row)
        if not _is_number(row["timestamp"]):
            raise ValueError(f"has the timestamp {str(row['timestamp'])[:40]!r}, which is no time")
        if not isinstance(row["blendshapes"], list):
            raise ValueError("has blendshapes that are no list")
        return float(row["timestamp"]), cast(list[Any], row["blendshapes"])

    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    return _rows([(n, line) for n, line in enumerate(lines, 1) if line.strip()], parsed, problems)


def read_live_link(path: Path, problems: list[Problem]) -> Rows:
    """The usable rows of a Live Link Face CSV; what is wrong with others goes to `problems`.

    Columns go by their names. Raises ValueError if it is no such file.
    """
    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    header = [name.strip().lower() for name in next(csv.reader(lines[:1] or [""]))]
    wanted = ["timecode", *(name.lower() for name in NAMES)]
    missing = [name for name in wanted if name not in header]
    if missing:
        most = "its columns are" if len(missing) == len(wanted) else f"the column {missing[0]} is"
        raise ValueError(f"is no recording of Live Link Face: {most} missing")
    places = [header.index(name) for name in wanted]
    body = [(n, line) for n, line in enumerate(lines[1:], 2) if line.strip()]
    rate = timecode_rate([line.partition(",")[0] for _, line in body])

    def parsed(line: str) -> tuple[float, list[Any]]:
        fields = next(csv.reader([line]))
        if len(fields) != len(header):
            raise ValueError(f"has {len(fields)} columns instead of {len(header)}")
        values = [_float(fields[place], header[place]) for place in places[1:]]
        return _seconds(fields[places[0]], rate), values

    return _rows(body, parsed, problems)


def timecode_rate(codes: list[str]) -> int:
    """Frames a second of timecodes `HH:MM:SS:FF.fff`: of those that are usual, the least that FF
    stays below where it has begun anew; 60 where it never does."""
    parts = [code.split(":") for code in codes]
    frames = [_frame(part[3]) for part in parts if len(part) == 4]
    if all(later >= earlier for earlier, later in itertools.pairwise(frames)):
        return 60
    most = int(max(frames))
    return next((rate for rate in TIMECODES if most < rate), TIMECODES[-1])


def _frame(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 0.0


def _seconds(code: str, rate: int) -> float:
    parts = code.strip().split(":")
    try:
        hours, minutes, seconds, frames = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"has the timecode {code[:40]!r} instead of HH:MM:SS:FF.fff") from None
    return hours * 3600 + minutes * 60 + seconds + frames / rate


def _float(text: str, column: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"has {text[:40]!r} for {column}, which is no number") from None


def _rows(
    lines: list[tuple[int, str]],
    parsed: Callable[[str], tuple[float, list[Any]]],
    problems: list[Problem],
) -> Rows:
    """Seconds and blendshapes of the lines that can be used, in the order of time."""
    numbers: list[int] = []
    times: list[float] = []
    rows: list[list[Any]] = []
    for number, line in lines:
        try:
            time, values = parsed(line)
        except ValueError as error:
            problems.append((number, str(error)))
            continue
        numbers.append(number)
        times.append(time)
        rows.append(values)
    if not _all_right(times, rows):
        times, rows = _right(numbers, times, rows, problems)
        problems.sort()
    shaped = np.array(rows, dtype=np.float32).reshape(-1, len(NAMES))
    return np.array(times, dtype=np.float64), shaped.clip(0, 1)


def _all_right(times: list[float], rows: list[list[Any]]) -> bool:
    """Whether there is nothing wrong at all, which is quickly told."""
    if not all({float, int} >= set(map(type, row)) for row in rows):
        return False
    try:
        values, seconds = np.array(rows), np.array(times)
    except ValueError:
        return False
    if values.dtype != np.float64 or values.shape != (len(rows), len(NAMES)):
        return False
    fits = ((values >= -SLACK) & (values <= 1 + SLACK)).all()
    return bool(fits and np.isfinite(seconds).all() and (np.diff(seconds) > 0).all())


def _right(
    numbers: list[int], times: list[float], rows: list[list[Any]], problems: list[Problem]
) -> tuple[list[float], list[list[Any]]]:
    """The times and rows with which nothing is wrong; what is with others goes to `problems`."""
    kept: tuple[list[float], list[list[Any]]] = ([], [])
    for number, time, values in zip(numbers, times, rows, strict=True):
        try:
            _check_values(values)
            if not math.isfinite(time):
                raise ValueError("has no finite time")
            if kept[0] and time <= kept[0][-1]:
                raise ValueError(f"goes back in time, from {kept[0][-1]:.3f} s to {time:.3f} s")
        except ValueError as error:
            problems.append((number, str(error)))
            continue
        kept[0].append(time)
        kept[1].append(values)
    return kept


def _check_values(values: list[Any]) -> None:
    """Raises ValueError with what is wrong with a row's values."""
    if len(values) != len(NAMES):
        raise ValueError(f"has {len(values)} blendshapes instead of {len(NAMES)}")
    for name, value in zip(NAMES, values, strict=True):
        if not _is_number(value):
            raise ValueError(f"has {str(value)[:40]!r} for {name}, which is no number")
        if not -SLACK <= value <= 1 + SLACK:
            raise ValueError(f"has {value:g} for {name}, which is not in 0..1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_sound(path: Path, rate: int, start: int, end: int) -> NDArray[np.float32]:
    """Samples `start` to `end` (at 16 kHz) of a file with `rate` samples a second, channels mixed.

    Raises LibsndfileError, OSError or ValueError if it cannot be read.
    """
    # parts begin at whole seconds, which every rate has, with one more for the resampler to settle
    first = 0 if rate == RATE else max(0, start // RATE - 1)
    last = end if rate == RATE else -(-end // RATE) + 1
    with soundfile.SoundFile(str(path)) as file:
        file.seek(start if rate == RATE else min(first * rate, file.frames))
        count = end - start if rate == RATE else (last - first) * rate
        wave = file.read(count, dtype="float32", always_2d=True)
    mono = np.nan_to_num(np.ascontiguousarray(wave.mean(axis=1, dtype=np.float32)))
    if rate != RATE:
        mono = cast(Any, soxr).resample(mono, rate, RATE)[start - first * RATE :][: end - start]
    return np.pad(mono, (0, end - start - len(mono))).clip(-1, 1)
