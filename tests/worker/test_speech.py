"""The corpus made by espeak-ng: LJSpeech's layout, the same bytes for the same seed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.datasets.ljspeech import Config, LJSpeech
from tsuzuku.worker import speech
from tsuzuku.worker.sentences import sentences
from tsuzuku.worker.speech import lines_of, make_speech, parts_of, plan
from worker_process import worker

pytest.importorskip("espeakng_loader")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_makes_what_the_data_set_reads(tmp_path: Path) -> None:
    target = tmp_path / "data/speech"
    told: list[tuple[int, int]] = []
    make_speech(target, count=24, report=lambda done, total: told.append((done, total)))
    assert sorted(p.name for p in target.parent.iterdir()) == ["speech"]  # nothing left over
    assert told[0] == (0, 24)
    assert told[-1] == (24, 24)
    assert told == sorted(told)
    config = Config(path=str(target), cache=None, validation_share=0.1)
    train, validation = LJSpeech(config, "train"), LJSpeech(config, "validation")
    assert train.report == []
    assert train.language == "en"
    rows = [*train.rows, *validation.rows]
    assert len(rows) == 24
    assert all(row.direct for row in rows)  # nothing to resample, nothing to cache
    assert len({row.text for row in rows}) == 12
    assert len({row.text for row in validation.rows}) == 1
    for row in rows:
        sound, rate = soundfile.read(target / row.file, dtype="int16")
        assert rate == 16_000
        assert 0.39 * 32767 <= np.abs(sound).max() <= 0.91 * 32767
        assert not sound[:800].any()
        assert not sound[-800:].any()
        words_a_second = len(row.text.split()) / (len(sound) / rate)
        assert 1 < words_a_second < 7, row
    # the voices are not each other: takes of one sentence differ in more than loudness
    takes = [row.length for row in rows if row.text == rows[0].text]
    assert len(set(takes)) == 2


def test_same_bytes_for_the_same_seed_however_it_is_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_speech(tmp_path / "a", count=30, seed=5)
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(speech, "cores", lambda: 5)
    make_speech(tmp_path / "b", count=30, seed=5)
    first = digests(tmp_path / "a")
    assert len(first) == 31
    assert digests(tmp_path / "b") == first
    make_speech(tmp_path / "c", count=30, seed=6)
    assert not set(digests(tmp_path / "c").values()) & set(first.values())


def test_never_over_something(tmp_path: Path) -> None:
    precious = tmp_path / "speech/metadata.csv"
    precious.parent.mkdir()
    precious.write_bytes(b"real")
    with pytest.raises(WrongInput, match="is there already"):
        make_speech(precious.parent, count=1)
    assert precious.read_bytes() == b"real"
    for count in (0, -1, 100_001):
        with pytest.raises(WrongInput, match="count has to be from 1 to 100,000"):
            make_speech(tmp_path / "new", count=count)
    assert not (tmp_path / "new").exists()


def test_speaks_a_persons_own_lines(tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("\ufeffThe bill is $5|really.\n\n  こんにちは、せかい  \n", encoding="utf-8")
    make_speech(tmp_path / "out", text=text)
    metadata = (tmp_path / "out/metadata.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1] for line in metadata] == 3 * [
        "The bill is $5 really.",
        "こんにちは、せかい",
    ]
    assert len(list((tmp_path / "out/wavs").iterdir())) == 6
    voices = [utterance.voice for utterance in plan(None, 0, lines_of(text))]
    assert len(set(voices)) == 6
    assert [voice.startswith("ja") for voice in voices] == 3 * [False, True]
    config = Config(path=str(tmp_path / "out"), cache=None, language="other")
    assert len(LJSpeech(config, "train")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fine\n日本で".encode(), r"line 2: no voice here can read '日'.*kana"),
        ("Привет".encode(), r"line 1: no voice here can read 'П'"),
        (b"fine\n...\n", r"line 2: '\.\.\.' has nothing to say"),
        (b"word " * 100, r"line 1: more than 400 characters"),
        (b"\n \n", r"has no lines to speak"),
        (b"caf\xe9", r"is not a UTF-8 text"),
        (None, r"is not a UTF-8 text that can be read: .*No such file"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_spoken_are_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    text = tmp_path / "mine.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(WrongInput, match=message):
        make_speech(tmp_path / "out", text=text)
    assert not (tmp_path / "out").exists()


def test_sentences_are_many_and_have_every_letter() -> None:
    made = sentences(400, 0)
    assert made == sentences(400, 0)
    assert len(set(made)) == 400
    assert set(made) != set(sentences(400, 1))
    assert set("".join(made).lower()) >= set("abcdefghijklmnopqrstuvwxyz '")
    assert all(3 <= len(line.split()) <= 12 and line[-1] in ".?!" for line in made)
    assert not any("{" in line or "  " in line for line in made)


def test_a_sentences_takes_have_different_voices_in_parts_of_one_voice() -> None:
    spoken = plan(1200, 0, None)
    takes: dict[str, set[str]] = {}
    for utterance in spoken:
        takes.setdefault(utterance.text, set()).add(utterance.voice)
    assert len(takes) == 600
    assert {len(voices) for voices in takes.values()} == {2}
    parts = parts_of(spoken)
    assert sorted(u.name for part in parts for u in part) == [u.name for u in spoken]
    assert all(len({u.voice for u in part}) == 1 and len(part) <= 100 for part in parts)
    assert {u.voice for u in spoken} == set(speech.VOICES["en"])


def test_every_voice_speaks(tmp_path: Path) -> None:
    """In one process each, as the worker does: a voice that espeak-ng lacks ends with an error."""
    lines = tmp_path / "lines"
    lines.write_text("One\nTwo\nThree\nFour\nいち\nに\nさん\nし\n", encoding="utf-8")
    spoken = plan(40, 0, lines_of(lines))
    assert {u.voice for u in spoken} == {v for voices in speech.VOICES.values() for v in voices}
    make_speech(tmp_path / "out", count=40, text=lines)
    assert len(list((tmp_path / "out/wavs").iterdir())) == 40


def test_a_voice_that_is_not_there_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(speech.VOICES, "en", ["en-us", "xx-nobody"])
    with pytest.raises(TsuzukuError, match=r"could not be spoken: .*no voice 'xx-nobody'"):
        make_speech(tmp_path / "out", count=4)
    assert list(tmp_path.iterdir()) == []


def test_a_deep_installation_speaks_too(tmp_path: Path) -> None:
    """espeak-ng cuts long paths; its own folder is linked from a deep one here."""
    import espeakng_loader

    deep = tmp_path / ("deep" * 40) / "espeakng_loader"
    deep.parent.mkdir()
    deep.symlink_to(Path(espeakng_loader.__file__).parent)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tsuzuku.worker.espeak import opened_voice\n"
        "import espeakng_loader; assert espeakng_loader.get_data_path().startswith(sys.argv[1])\n"
        "with opened_voice('en-us') as (say, rate):\n"
        "    print(rate, len(say('The queen opened it.', 150, 50, 1).samples))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, deep.parent], capture_output=True, text=True, check=True
    )
    rate, length = map(int, done.stdout.split())
    assert length > rate / 2


def test_without_the_synthesizer_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(TsuzukuError, match="needs the package espeakng-loader"):
        make_speech(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_worker_makes_it_and_tells_how_far_it_is(tmp_path: Path) -> None:
    target = tmp_path / "speech"
    words = ["make", "--name", "speech", "--target", target, "--count", 4, "--seed", 1]
    answers = worker(tmp_path, *words)
    assert answers[0] == {"done": 0, "total": 4}
    assert answers[-2:] == [{"done": 4, "total": 4}, {"path": str(target)}]
    assert len(list((target / "wavs").iterdir())) == 4
    (answer,) = worker(tmp_path, *words, code=2)
    assert "is there already" in answer["error"]
    make_speech(tmp_path / "here", count=4, seed=1)
    assert digests(tmp_path / "here") == digests(target)
    assert target.stat().st_mode & 0o777 == 0o755
