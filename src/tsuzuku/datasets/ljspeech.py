"""Speech with its text, in the layout of LJSpeech (K. Ito & L. Johnson, 2017): any voice, any rate.

A folder with `metadata.csv`, whose lines are `id|text|normalized text` (the third may be missing),
and the sound files `wavs/<id>.wav` (or .flac, .ogg, .opus, .mp3).

A data-set plug-in in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `datasets/` folder works just as well.
"""

import contextlib
import hashlib
import io
import os
import random
import re
import shutil
import sys
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

DATASET = "LJSpeech"

# What `data download` fetches: read with ast.literal_eval, so a pure literal it must stay.
DOWNLOADS = {
    "ljspeech": {
        "path": "data/ljspeech",
        "mirrors": ["https://data.keithito.com/data/speech/"],
        "files": [
            {
                "name": "LJSpeech-1.1.tar.bz2",
                "size": 2748572632,
                "sha256": "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
                "unpack": True,
                "unpacked_size": 4200000000,
            },
        ],
    },
}

PLACES = ("data/ljspeech", "data/LJSpeech-1.1", "data/speech")
"""Where the folder is looked for without a `path`, up to two levels deep."""
ADVICE = (
    "`tsuzuku data download ljspeech` fetches LJSpeech (2.7 GB), `tsuzuku data make speech` makes "
    "a small corpus"
)
RATE = 16_000
"""Samples a second of every item."""
ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
SPARE_BYTES = 2 << 30
"""Room on the disk that the cache leaves to others."""

Sound = NDArray[np.int16]


class Config(BaseModel):
    """Settings of the data set."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    """Folder with `metadata.csv` and `wavs/`; without it, the first of `PLACES` that exists."""
    language: Literal["en", "ja", "other"] | None = None
    """How texts are cleaned: `en` spells out numbers, money and abbreviations; `ja` keeps kana,
    kanji, letters and digits; `other` keeps every letter and digit. Told from the texts if unset.
    """
    tokenizer: Literal["char", "subword"] = "char"
    vocabulary_size: int = Field(default=256, ge=32, le=65_536)
    """Pieces of the subword tokenizer, the blank included; characters are as many as there are."""
    alphabet: str | None = None
    """The characters there are; without it, those of the training split. To go on from weights
    that were learned on another corpus, give that one's: its vocabulary without the blank.
    """
    validation_share: float = Field(default=0.05, gt=0, lt=1)
    validation_list: str | None = None
    """A file with the ids to validate with, one a line; without it, a share is drawn by `seed`."""
    seed: int = 0
    on_error: Literal["skip", "stop"] = "skip"
    """Whether rows that cannot be used are left out, or end the training."""
    min_seconds: float = Field(default=0.1, ge=0)
    max_seconds: float = Field(default=80.0, gt=0)
    max_characters_per_second: float = Field(default=25.0, gt=0)
    """Faster than anybody speaks: the text is not what is said (and CTC could not align it)."""
    speed_perturbation: list[float] = []
    """Speeds (such as 0.9, 1, 1.1) of which one is drawn each time a training item is read."""
    cache: str | None = "data/.cache/ljspeech"
    """Folder for sound that had to be resampled or unpacked; null does without."""
    cache_gb: float = Field(default=8.0, ge=0)
    """The most that the cache holds, in 10^9 bytes; LJSpeech needs 2.8."""


class Row(NamedTuple):
    """A line of `metadata.csv` that can be used."""

    id: str
    file: str
    """Relative to the folder."""
    text: str
    """Cleaned."""
    length: int
    """Samples at 16 kHz."""
    direct: bool
    """It is 16 kHz and mono already, and quickly read."""


class Survey(NamedTuple):
    """What is in a folder."""

    folder: Path
    rows: list[Row]
    report: list[dict[str, Any]]
    language: str


class LJSpeech(torch.utils.data.Dataset[dict[str, Any]]):
    """Utterances: `audio` float32 [T] in -1..1 at 16 kHz, `tokens` int64 [L], `text`, `id`.

    Token 0 is the blank of CTC, token i is `vocabulary[i]`. A sentence that occurs several times
    is on one side of the split only. `report` names every row that is left out, and why.

    Raises FileNotFoundError without the files, ValueError if nothing of them can be used (or, with
    `on_error: stop`, if anything cannot).
    """

    splits = ("train", "validation")

    def __init__(self, config: Config, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"There is no split {split!r}, only {' and '.join(self.splits)}.")
        self.config = config
        folder = find_folder(config.path)
        stamps = tuple(_stamp(folder / name) for name in ("metadata.csv", "wavs"))
        survey = survey_of(folder, config.model_dump_json(), stamps)
        train, validation = parted(survey.rows, config)
        self.path = survey.folder
        self.report = list(survey.report)
        self.language = survey.language
        self.tokenizer_kind = config.tokenizer
        self.rows = train if split == "train" else validation
        self.vocabulary, encode = _tokenizer([row.text for row in train], config)
        tokens = encode([row.text for row in self.rows])
        self.tokens = np.concatenate([np.zeros(0, np.int32), *tokens])
        """All rows' tokens in one array: loader processes get one object instead of thousands."""
        self.token_ends = np.cumsum([len(t) for t in tokens], dtype=np.int64)
        self.speeds = config.speed_perturbation if split == "train" else []
        if any(not 0.5 <= speed <= 2 for speed in self.speeds):
            raise ValueError(f"speed_perturbation takes speeds of 0.5 to 2, not {self.speeds}.")
        self._fingerprint = _fingerprint(survey) if split == "train" else ""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        at, sound = self._readable(index)
        audio = sound.astype(np.float32) / 32768
        speed = random.choice(self.speeds) if self.speeds else 1.0
        if speed != 1.0:
            audio = cast(Any, soxr).resample(audio, RATE * speed, RATE, quality="MQ")
        end = int(self.token_ends[at])
        start = int(self.token_ends[at - 1]) if at else 0
        return {
            "audio": torch.as_tensor(audio),
            "tokens": torch.tensor(self.tokens[start:end], dtype=torch.int64),
            "text": self.rows[at].text,
            "id": self.rows[at].id,
        }

    def lengths(self) -> list[int]:
        """Samples of each item, for batches of like lengths."""
        return [row.length for row in self.rows]

    def show(self, index: int) -> dict[str, Any]:
        """An item as a person hears and reads it."""
        sound = self._sound(self.rows[index])
        return {
            "audio": {"type": "audio", "value": sound, "sample_rate": RATE},
            "text": {"type": "text", "value": self.rows[index].text, "id": self.rows[index].id},
        }

    def fingerprint(self) -> str:
        """Changes with any id, text, length, or (as far as sampled) sound; not with the place."""
        return self._fingerprint

    @staticmethod
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        """`audio` [B, T] and `tokens` [B, L], padded with 0; `…_lengths` [B]; texts and ids."""
        batch: dict[str, Any] = {}
        for name in ("audio", "token"):
            key = "audio" if name == "audio" else "tokens"
            values = [item[key] for item in items]
            batch[key] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
            batch[f"{name}_lengths"] = torch.tensor([len(v) for v in values])
        return batch | {key: [item[key] for item in items] for key in ("text", "id")}

    def _readable(self, index: int) -> tuple[int, Sound]:
        """The sound of a row; of the next row that has one, if its file went bad since."""
        for step in range(len(self.rows)):
            at = (index + step) % len(self.rows)
            try:
                return at, self._sound(self.rows[at])
            except (OSError, ValueError, soundfile.LibsndfileError) as error:
                said = f"{self.rows[at].file} cannot be read any more: {error}"
                if self.config.on_error == "stop":
                    raise ValueError(said) from error
                print(f"{said} Row {self.rows[at].id} is replaced by the next.", file=sys.stderr)
        raise ValueError(f"None of the files in {self.path} can be read any more.")

    def _sound(self, row: Row) -> Sound:
        path = self.path / row.file
        if row.direct or not self.config.cache or not self.config.cache_gb:
            return decoded(path)
        content = path.read_bytes()
        cache = Cache(Path(self.config.cache).expanduser(), int(self.config.cache_gb * 1e9))
        key = hashlib.sha256(content).hexdigest()
        sound = cache.get(key)
        if sound is None:
            sound = decoded(io.BytesIO(content))
            cache.put(key, sound)
        return sound


def find_folder(path: str | None) -> Path:
    """The folder with `metadata.csv`: `path`, or one of `PLACES`, or at most two levels below.

    Raises FileNotFoundError with what to do about it.
    """
    for place in PLACES if path is None else (path,):
        for pattern in ("metadata.csv", "*/metadata.csv", "*/*/metadata.csv"):
            for found in sorted(Path(place).expanduser().glob(pattern)):
                if (found.parent / "wavs").is_dir():
                    return found.parent
    if path is None:
        raise FileNotFoundError(f"None of {', '.join(PLACES)} has a metadata.csv; {ADVICE}.")
    raise FileNotFoundError(f"{path} has no metadata.csv with a folder wavs beside it; {ADVICE}.")


def _stamp(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_mtime_ns, seen.st_size


@lru_cache(maxsize=4)
def survey_of(folder: Path, settings: str, _stamps: object) -> Survey:
    """Reads the list and every file's header. Both splits of a run share one survey."""
    config = Config.model_validate_json(settings)
    listed, report = read_list(folder / "metadata.csv")
    texts = [text for _, _, text in listed]
    language = config.language or language_of(texts)
    rows: list[Row] = []
    rates: Counter[int] = Counter()
    notes: list[tuple[int, dict[str, Any]]] = []
    for number, name, text in listed:
        entry: dict[str, Any] = {"row": number, "id": name}
        try:
            row, rate, channels = _row(folder, name, clean(text, language), config)
        except ValueError as error:
            report.append(entry | {"problem": str(error), "used": False})
            continue
        rows.append(row)
        rates[rate] += 1
        if channels > 1:
            problem = f"{row.file} has {channels} channels, which are mixed to one"
            report.append(entry | {"problem": problem, "used": True})
        notes.append((rate, entry | {"file": row.file}))
    usual = rates.most_common(1)[0][0] if rates else 0
    for rate, entry in notes:
        if rate != usual:
            problem = f"{entry.pop('file')} has {rate} samples a second, most others have {usual}"
            report.append(entry | {"problem": problem, "used": True})
    report.sort(key=lambda entry: entry["row"])
    _judge(folder, rows, [e for e in report if not e["used"]], config)
    return Survey(folder, rows, report, language)


def _judge(folder: Path, rows: list[Row], bad: list[dict[str, Any]], config: Config) -> None:
    """Says which rows are left out; raises ValueError if that is all of them, or not wanted."""
    if not bad and rows:
        return
    first = "; ".join(f"line {entry['row']}: {entry['problem']}" for entry in bad[:3])
    said = f"{folder / 'metadata.csv'}: {len(bad)} of {len(bad) + len(rows)} rows cannot be used"
    said += f" ({first}{'; …' if len(bad) > 3 else ''})" if bad else ""
    if not rows or config.on_error == "stop":
        raise ValueError(f"{said}.")
    print(f"{said} and are left out; the data set's report names them all.", file=sys.stderr)


def read_list(path: Path) -> tuple[list[tuple[int, str, str]], list[dict[str, Any]]]:
    """(line number, id, text) of each line, and the lines that are none. No quotes, as LJSpeech."""
    listed: list[tuple[int, str, str]] = []
    report: list[dict[str, Any]] = []
    known: set[str] = set()
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.decode("utf-8", "replace").split("|")]
        name = fields[0].removesuffix(".wav")
        text = next((field for field in reversed(fields[1:3]) if field), "")
        problem = ""
        if "\ufffd" in line.decode("utf-8", "replace"):
            problem = "is not UTF-8"
        elif len(fields) not in (2, 3):
            problem = f"has {len(fields)} fields instead of id|text|normalized"
        elif not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            problem = f"has the id {name[:80]!r}, which names no file"
        elif name in known:
            problem = f"has the id {name[:80]!r} of an earlier line"
        if problem:
            entry = {"row": number, "id": name[:80], "problem": problem, "used": False}
            report.append(entry)
            continue
        known.add(name)
        listed.append((number, name, text))
    return listed, report


def _row(folder: Path, name: str, text: str, config: Config) -> tuple[Row, int, int]:
    """The row, its rate and its channels. Raises ValueError with what is wrong with it."""
    if not text:
        raise ValueError("has no text to learn")
    places = (f"wavs/{name}{ending}" for ending in ENDINGS)
    file = next((place for place in places if (folder / place).is_file()), None)
    if file is None:
        raise ValueError(f"wavs/{name}.wav is missing")
    if not (folder / file).stat().st_size:
        raise ValueError(f"{file} is empty")
    try:
        info: Any = soundfile.info(str(folder / file))
    except soundfile.LibsndfileError as error:
        why = error.error_string.strip().rstrip(".")
        raise ValueError(f"{file} is not sound that can be read ({why})") from error
    seconds = info.frames / info.samplerate
    if not info.frames:
        raise ValueError(f"{file} has no samples")
    if not config.min_seconds <= seconds <= config.max_seconds:
        allowed = f"{config.min_seconds:g} to {config.max_seconds:g} are allowed"
        raise ValueError(f"{file} lasts {seconds:.2f} seconds ({allowed})")
    if len(text) > config.max_characters_per_second * seconds:
        raise ValueError(f"{file} lasts {seconds:.2f} seconds, too few for {len(text)} characters")
    plain = info.samplerate == RATE and info.channels == 1 and info.format in ("WAV", "FLAC")
    length = max(1, round(seconds * RATE))
    return Row(name, file, text, length, plain), info.samplerate, info.channels


def parted(rows: list[Row], config: Config) -> tuple[list[Row], list[Row]]:
    """Rows to train on and to validate with; rows of the same text are on the same side."""
    if config.validation_list is not None:
        path = Path(config.validation_list).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"validation_list: {path} is not a file.")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = {line.partition("|")[0].strip().removesuffix(".wav") for line in lines}
        names |= {PurePosixPath(name).name for name in names}
        held_out = [row for row in rows if row.id in names]
    else:
        counts = Counter(row.text for row in rows)
        wanted = max(1, round(len(rows) * config.validation_share))
        chosen: set[str] = set()
        # by hash: a row that comes or goes leaves the others where they are
        for text in sorted(counts, key=lambda t: _drawn(config.seed, t)):
            if wanted <= 0:
                break
            chosen.add(text)
            wanted -= counts[text]
        held_out = [row for row in rows if row.text in chosen]
    if not 0 < len(held_out) < len(rows):
        side = "validate with" if not held_out else "train on"
        raise ValueError(f"Nothing is left to {side}: {len(rows)} rows, {len(held_out)} held out.")
    names = {row.id for row in held_out}
    return [row for row in rows if row.id not in names], held_out


def _drawn(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _fingerprint(survey: Survey) -> str:
    digest = hashlib.sha256()
    for row in survey.rows:
        digest.update(f"{row.id}\0{row.text}\0{row.length}\0".encode())
    for row in survey.rows[:: len(survey.rows) // 1000 + 1]:
        with (survey.folder / row.file).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size // 2 - 4096))
            digest.update(file.read(8192))
    return digest.hexdigest()


Encode = Callable[[Sequence[str]], list[NDArray[np.int32]]]


def _tokenizer(texts: list[str], config: Config) -> tuple[list[str], Encode]:
    """The vocabulary of the training texts, and what makes tokens: [L] for each text.

    What the vocabulary does not have gets no token.
    """
    if config.tokenizer == "subword":
        return _subwords(texts, config.vocabulary_size)
    characters = config.alphabet if config.alphabet is not None else "".join(texts)
    vocabulary = ["", *sorted(set(characters))]
    number = {character: i for i, character in enumerate(vocabulary)}

    def encode(texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.array([number[c] for c in t if c in number], dtype=np.int32) for t in texts]

    return vocabulary, encode


def _subwords(texts: list[str], size: int) -> tuple[list[str], Encode]:
    """Byte-pair encoding; "▁" begins a word, so pieces joined with " " for "▁" are the text."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    pairs = cast(Any, Tokenizer(models.BPE()))
    pairs.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    trainer = cast(Any, trainers.BpeTrainer)(vocab_size=size - 1, show_progress=False)
    pairs.train_from_iterator(texts, trainer)
    pieces: dict[str, int] = pairs.get_vocab()

    def encode(texts: Sequence[str]) -> list[NDArray[np.int32]]:
        made = pairs.encode_batch(list(texts))
        return [np.array(e.ids, dtype=np.int32) + np.int32(1) for e in made]

    return ["", *sorted(pieces, key=lambda piece: pieces[piece])], encode


def decoded(source: Path | io.BytesIO) -> Sound:
    """Any sound file as 16-bit samples [T] at 16 kHz, channels mixed.

    16 bits with and without a cache: an item is the same whether it was cached or not.
    Raises LibsndfileError or ValueError if there is nothing to hear in it.
    """
    opened = str(source) if isinstance(source, Path) else source
    with cast(Any, soundfile.SoundFile)(opened) as file:
        rate: int = file.samplerate
        if rate == RATE and file.channels == 1 and file.subtype == "PCM_16":
            sound: Sound = file.read(dtype="int16")
        else:
            wave = file.read(dtype="float32", always_2d=True)
            mono = np.ascontiguousarray(wave.mean(axis=1, dtype=np.float32))
            if rate != RATE:
                mono = cast(Any, soxr).resample(mono, rate, RATE)
            sound = (np.nan_to_num(mono).clip(-1, 1) * 32767).round().astype(np.int16)
    if not len(sound):
        raise ValueError("it has no samples.")
    return sound


class Cache:
    """16-bit sound by the hash of the file it came from, in 256 folders of bounded size.

    Any process may be killed at any moment: a file has its name only when it is whole, and a
    checksum finds what a power failure made of it. A disk without room just means no cache.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most = most_bytes // 256

    def get(self, key: str) -> Sound | None:
        try:
            content = (self.folder / key[:2] / key).read_bytes()
        except OSError:
            return None
        whole = len(content) > 4 and zlib.crc32(content[4:]) == int.from_bytes(content[:4], "big")
        return np.frombuffer(content, dtype="<i2", offset=4) if whole else None

    def put(self, key: str, sound: Sound) -> None:
        content = sound.astype("<i2", copy=False).tobytes()
        folder = self.folder / key[:2]
        temporary = folder / f".{key}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < SPARE_BYTES + len(content) or not self._room(folder, len(content)):
                return
            temporary.write_bytes(zlib.crc32(content).to_bytes(4, "big") + content)
            temporary.replace(folder / key)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _room(self, folder: Path, needed: int) -> bool:
        """Makes room by dropping files at random: reading in epochs, the oldest is needed next."""
        if needed + 4 > self.most:
            return False
        sizes: dict[str, int] = {}
        for entry in os.scandir(folder):
            seen = entry.stat()
            if entry.name.startswith(".") and seen.st_mtime < time.time() - 3600:
                Path(entry.path).unlink(missing_ok=True)  # of a process that was killed
            else:
                sizes[entry.name] = seen.st_size
        names = [name for name in sizes if not name.startswith(".")]
        random.SystemRandom().shuffle(names)  # the seeded generators belong to the training
        used = sum(sizes.values())
        while used + needed + 4 > self.most and names:
            used -= sizes[names[-1]]
            (folder / names.pop()).unlink(missing_ok=True)
        return used + needed + 4 <= self.most


def language_of(texts: Iterable[str]) -> str:
    """`ja` with kana, `en` where next to all letters are plain Latin ones, else `other`."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    letters = {c: n for c, n in counts.items() if c.isalpha()}
    total = sum(letters.values())
    if sum(n for c, n in letters.items() if "\u3041" <= c <= "\u30ff") > total * 0.01:
        return "ja"
    return "en" if sum(n for c, n in letters.items() if ord(c) > 127) <= total * 0.003 else "other"


def clean(text: str, language: str) -> str:
    """What is to be recognized: lower case, without punctuation, in Unicode's NFKC.

    English keeps a-z, the apostrophe within words and single spaces. Japanese keeps kana, kanji,
    letters and digits, and no spaces.
    """
    if language == "en":
        text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " and ", text)  # NFKC makes 21/2 of 2½
    text = unicodedata.normalize("NFKC", text).translate(QUOTES)
    if language == "en":
        for pattern, spoken in ENGLISH:
            text = pattern.sub(spoken, text)
        decomposed = unicodedata.normalize("NFKD", text.lower())
        text = "".join(c for c in decomposed if not unicodedata.combining(c))
        text = re.sub(r"[^a-z' ]", " ", text)
    else:
        kept = (c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in text.lower())
        text = "".join(kept)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    return ("" if language == "ja" else " ").join(text.split())


_UP_TO_TEN = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_TEENS = ["thir", "four", "fif", "six", "seven", "eigh", "nine"]
ONES = [*_UP_TO_TEN, "eleven", "twelve", *(f"{start}teen" for start in _TEENS)]
TENS = ["", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ["", " thousand", " million", " billion", " trillion"]
ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
QUOTES = str.maketrans("’‘ʼ`“”«»–—−⁄", "''''\"\"\"\"---/")


def cardinal(digits: str) -> str:
    """`1,234` as words; digit by digit where it begins with 0 or is beyond trillions."""
    digits = digits.replace(",", "")
    if len(digits) > 15 or (digits[0] == "0" and len(digits) > 1):
        return " ".join(ONES[int(d)] for d in digits)
    number, words = int(digits), list[str]()
    for scale in SCALES:
        number, part = divmod(number, 1000)
        if part:
            words.insert(0, _below_thousand(part) + scale)
    return " ".join(words) or "zero"


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words += [TENS[rest // 10]] + ([ONES[rest % 10]] if rest % 10 else [])
    elif rest:
        words.append(ONES[rest])
    return " ".join(words)


def ordinal(digits: str) -> str:
    """`21` as "twenty first"."""
    head, _, last = cardinal(digits).rpartition(" ")
    plain = last[:-1] + "ie" if last.endswith("y") else last
    return f"{head} {ORDINALS.get(last, plain + 'th')}".strip()


def year(digits: str) -> str:
    """`1905` as "nineteen oh five"; `2005` as "two thousand five"."""
    first, last = divmod(int(digits), 100)
    if first % 10 == 0 and last < 10:
        return cardinal(digits)
    rest = "hundred" if not last else f"oh {ONES[last]}" if last < 10 else _below_thousand(last)
    return f"{_below_thousand(first)} {rest}"


def _plural(words: str) -> str:
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def _decimal(match: re.Match[str]) -> str:
    return f" {cardinal(match[1])} point {' '.join(ONES[int(d)] for d in match[2])} "


def _money(match: re.Match[str]) -> str:
    one, many, cent, cents = MONEY[match[1]]
    whole, _, part = match[2].partition(".")
    if match[3]:
        return f" {match[2]} {match[3]} {many}"
    said = f" {cardinal(whole)} {one if whole == '1' else many}"
    if part and len(part) <= 2 and int(part):
        count = int(part.ljust(2, "0"))
        said += f" {_below_thousand(count)} {cent if count == 1 else cents}"
    return said + " "


def _time(match: re.Match[str]) -> str:
    hour, minute = _below_thousand(int(match[1])) or "zero", int(match[2])
    past = f" oh {ONES[minute]}" if minute < 10 else f" {_below_thousand(minute)}"
    return f" {hour}{past if minute else ''} "


def _fraction(match: re.Match[str]) -> str:
    above, below = match[1], match[2]
    part = {"2": "half", "4": "quarter"}.get(below, ordinal(below))
    many = "halves" if below == "2" else _plural(part)
    return f" {cardinal(above)} {part if above == '1' else many} "


ABBREVIATIONS = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Messrs": "messieurs", "Dr": "doctor",
    "Drs": "doctors", "Prof": "professor", "Rev": "reverend", "Hon": "honorable", "Gen": "general",
    "Col": "colonel", "Maj": "major", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant",
    "Gov": "governor", "Sen": "senator", "Jr": "junior", "Sr": "senior", "Esq": "esquire",
    "Co": "company", "Inc": "incorporated", "Ltd": "limited", "Ave": "avenue", "Ft": "fort",
    "Mt": "mount", "etc": "et cetera", "vs": "versus", "dept": "department", "approx":
    "approximately",
}  # fmt: skip
SIGNS = {"&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees"}

Spoken = str | Callable[[re.Match[str]], str]
N = r"(\d+(?:,\d{3})*)"
RULES: list[tuple[str, Spoken]] = [
    (r"\bSt\.(?=\s+[A-Z])", "saint"),
    (r"\bSt\.", "street"),
    (r"\b[Nn]os?\.\s*(?=\d)|#(?=\d)", "number "),
    (rf"\b({'|'.join(ABBREVIATIONS)})\.", lambda m: ABBREVIATIONS[m[1]]),
    (r"\b(?:[A-Za-z]\.){2,}", lambda m: " ".join(m[0].split("."))),
    (r"([$£€¥])\s*(\d[\d,]*(?:\.\d+)?)(?:\s+([tbm]r?illion|thousand|hundred))?", _money),
    (r"\b(\d{1,2}):([0-5]\d)\b", _time),
    (r"\b(\d{3}0)'?s\b", lambda m: f" {_plural(year(m[1]))} "),
    (r"'?\b([2-9]0)'?s\b", lambda m: f" {_plural(cardinal(m[1]))} "),
    (rf"{N}(?:st|nd|rd|th)\b", lambda m: f" {ordinal(m[1])} "),
    (rf"{N}\.(\d+)", _decimal),
    (r"\b(\d{1,3})/(\d{1,3})\b", _fraction),
    (r"(?<=\d)\s*-\s*(?=\d)", " to "),
    (r"(?<![\w-])-(?=\d)", "minus "),
    (r"\b(1[1-9]\d\d|20\d\d)\b(?!,\d)", lambda m: f" {year(m[1])} "),
    (N, lambda m: f" {cardinal(m[1])} "),
    (r"[&%@+=°]", lambda m: f" {SIGNS[m[0]]} "),
]
"""What English says otherwise than it writes, in the order in which it is put right."""
ENGLISH = [(re.compile(pattern), spoken) for pattern, spoken in RULES]
