"""Speech in LJSpeech's layout: what is read, what is refused and named, how it is split."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError

from spoken import SENTENCES, tones, write_corpus
from tsuzuku.core.workspace import Workspace
from tsuzuku.datasets import ljspeech
from tsuzuku.datasets.ljspeech import Config, LJSpeech
from tsuzuku.training.data import epoch_batches
from tsuzuku.worker.downloads import Download


def opened(folder: Path, split: str = "train", **settings: Any) -> LJSpeech:
    return LJSpeech(Config(path=str(folder), **{"cache": None} | settings), split)


def said(dataset: LJSpeech, item: dict[str, Any]) -> str:
    """The text that an item's tokens say."""
    pieces = "".join(dataset.vocabulary[int(t)] for t in item["tokens"])
    return pieces.replace("▁", " ").strip()


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_reads_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    folder = write_corpus(tmp_path / "d", SENTENCES[:8], rate=22_050, ending=ending)
    train = opened(folder)
    assert train.vocabulary[0] == ""
    assert train.vocabulary == ["", *sorted(set("".join(row.text for row in train.rows)))]
    for index, length in enumerate(train.lengths()):
        item = train[index]
        assert item["audio"].dtype == torch.float32
        assert item["audio"].ndim == 1
        # an MP3 begins and ends with padding, which its header does not always tell
        assert abs(len(item["audio"]) - length) <= (4000 if ending == ".mp3" else 1)
        assert 0.2 < item["audio"].abs().max() < 0.6
        assert item["tokens"].dtype == torch.int64
        assert said(train, item) == item["text"]
        assert item["text"] == SENTENCES[int(item["id"][1:])]
    assert train.report == []


def test_a_batch_is_padded_and_says_how_long_everything_is(tmp_path: Path) -> None:
    train = opened(write_corpus(tmp_path / "d", SENTENCES[:8]))
    items = [train[i] for i in range(3)]
    batch = LJSpeech.collate(items)
    assert batch["audio"].shape == (3, max(len(item["audio"]) for item in items))
    assert batch["audio"].dtype == torch.float32
    assert batch["text"] == [item["text"] for item in items]
    for row, item in enumerate(items):
        for values, lengths in (("audio", "audio_lengths"), ("tokens", "token_lengths")):
            length = int(batch[lengths][row])
            assert length == len(item[values])
            assert torch.equal(batch[values][row, :length], item[values])
            assert not batch[values][row, length:].any()
    assert batch["token_lengths"].dtype == batch["audio_lengths"].dtype == torch.int64


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_tone_keeps_its_pitch_and_loudness_at_any_rate(tmp_path: Path, rate: int) -> None:
    folder = write_corpus(tmp_path / "d", ["a" * 60, "b" * 60], rate=rate)
    time = np.arange(2 * rate) / rate
    for name in ("u000", "u001"):
        tone = 0.5 * np.sin(2 * np.pi * 1000 * time)
        soundfile.write(folder / "wavs" / f"{name}.wav", tone, rate, subtype="PCM_24")
    audio = opened(folder, max_characters_per_second=100)[0]["audio"].numpy()
    assert len(audio) == 32_000
    spectrum = np.abs(np.fft.rfft(audio[8000:24_000]))
    assert spectrum.argmax() == 1000
    assert np.abs(audio[8000:24_000]).max() == pytest.approx(0.5, abs=0.005)


def broken_corpus(folder: Path) -> dict[str, str]:
    """A corpus with one row of each kind of trouble; what is to be said of each."""
    write_corpus(folder, SENTENCES, rate=16_000)
    wavs = folder / "wavs"
    good = tones("x" * 30, 16_000)
    (wavs / "empty.wav").touch()
    (wavs / "noise.wav").write_bytes(b"this is not sound" * 100)
    soundfile.write(wavs / "nothing.wav", good[:0], 16_000)
    soundfile.write(wavs / "long.wav", np.tile(good, 12), 16_000)
    soundfile.write(wavs / "short.wav", good[:800], 16_000)
    soundfile.write(wavs / "hasty.wav", good[:8000], 16_000)
    soundfile.write(wavs / "stereo.wav", np.stack([good, good], 1), 16_000)
    soundfile.write(wavs / "rate.wav", tones("x" * 30, 44_100), 44_100)
    soundfile.write(wavs / "mute.wav", good, 16_000)
    (wavs / "folder.wav").mkdir()
    rows = {
        "gone": "wavs/gone.wav is missing",
        "folder": "wavs/folder.wav is missing",
        "empty": "wavs/empty.wav is empty",
        "noise": "wavs/noise.wav is not sound that can be read",
        "nothing": "wavs/nothing.wav has no samples",
        "long": "wavs/long.wav lasts 21.60 seconds",
        "short": "wavs/short.wav lasts 0.05 seconds",
        "hasty": "wavs/hasty.wav lasts 0.50 seconds, too few for 18 characters",
        "stereo": "wavs/stereo.wav has 2 channels",
        "rate": "wavs/rate.wav has 44100 samples a second, most others have 16000",
    }
    with (folder / "metadata.csv").open("ab") as file:
        for name in rows:
            file.write(f"{name}|A fine sentence.|a fine sentence, ok\n".encode())
        file.write(b"mute|...|?!\n")
        file.write(b"u000|twice|twice\n")
        file.write(b"alone\n")
        file.write(b"../../etc/passwd|outside|outside\n")
        file.write(b"latin|caf\xe9|caf\xe9\n")
    return rows | {
        "mute": "has no text",
        "u000": "of an earlier line",
        "alone": "has 1 fields",
        "../../etc/passwd": "names no file",
        "latin": "is not UTF-8",
    }


def test_every_bad_row_is_named_once_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = broken_corpus(tmp_path / "d")
    train = opened(tmp_path / "d", max_seconds=20)
    validation = opened(tmp_path / "d", "validation", max_seconds=20)
    assert [entry["id"] for entry in train.report] == list(expected)
    lines = (tmp_path / "d/metadata.csv").read_bytes().split(b"\n")
    for entry in train.report:
        assert expected[entry["id"]] in entry["problem"]
        assert lines[entry["row"] - 1].startswith(entry["id"].encode())
    used = {entry["id"] for entry in train.report if entry["used"]}
    assert used == {"stereo", "rate"}
    names = [row.id for row in [*train.rows, *validation.rows]]
    assert sorted(names) == sorted([f"u{i:03}" for i in range(len(SENTENCES))] + list(used))
    for row in range(len(train)):
        assert len(train[row]["audio"]) == train.rows[row].length
    # both splits of a run look once, and say once what they leave out
    assert capsys.readouterr().err.count("13 of 63 rows cannot be used") == 1


def test_a_bad_row_ends_it_where_that_is_wanted(tmp_path: Path) -> None:
    broken_corpus(tmp_path / "d")
    with pytest.raises(ValueError, match=r"13 of 63 .*line 49: wavs/gone\.wav is missing; line 50"):
        opened(tmp_path / "d", max_seconds=20, on_error="stop")


def test_a_truncated_wav_is_as_long_as_what_is_there(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "d", SENTENCES[:8], rate=16_000)
    for path in (folder / "wavs").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 3 // 4])
    train = opened(folder, max_characters_per_second=50)
    assert [len(train[i]["audio"]) for i in range(len(train))] == train.lengths()


def test_a_file_that_went_bad_since_is_replaced_or_ends_it(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "d", SENTENCES[:8])
    skipping, stopping = opened(folder), opened(folder, on_error="stop")
    (folder / skipping.rows[2].file).write_bytes(b"gone bad")
    assert skipping[2]["id"] == skipping[3]["id"] == skipping.rows[3].id
    assert said(skipping, skipping[2]) == skipping.rows[3].text
    with pytest.raises(ValueError, match=r"u00\d\.wav cannot be read any more"):
        stopping[2]


def test_a_folder_without_data_says_what_to_do(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(FileNotFoundError, match="tsuzuku data make speech"):
        opened(tmp_path)
    (tmp_path / "wavs").mkdir()
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(ValueError, match="0 of 0 rows cannot be used"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="no split 'test'"):
        opened(tmp_path, "test")
    with pytest.raises(ValidationError, match="max_seconds"):
        Config(max_seconds=-1)


def test_an_unpacked_download_is_found_below_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "data/ljspeech/LJSpeech-1.1/LJSpeech-1.1", SENTENCES[:4])
    dataset = LJSpeech(Config(cache=None), "train")
    assert dataset.path == Path("data/ljspeech/LJSpeech-1.1/LJSpeech-1.1")
    assert len(dataset) == 3


def test_the_download_is_described_as_data_download_wants_it() -> None:
    tree = ast.parse(Path(ljspeech.__file__).read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    (spec,) = [Download.model_validate(d) for d in ast.literal_eval(values["DOWNLOADS"]).values()]
    assert spec.files[0].folder == "LJSpeech-1.1"
    assert spec.path in ljspeech.PLACES


def test_a_sentence_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    texts = [*SENTENCES[:40], *SENTENCES[:40], *SENTENCES[:20]]
    folder = write_corpus(tmp_path / "d", texts, seconds_each=0.05)
    sides: dict[int, set[str]] = {}
    for seed in (0, 1):
        train, held_out = opened(folder, seed=seed), opened(folder, "validation", seed=seed)
        assert not {row.text for row in train.rows} & {row.text for row in held_out.rows}
        assert len(train) + len(held_out) == 100
        assert 5 <= len(held_out) <= 7  # 5 %, and the rest of the last sentence's takes
        assert held_out.vocabulary == train.vocabulary
        sides[seed] = {row.text for row in held_out.rows}
    assert sides[0] != sides[1]
    # a row that is gone takes nobody along
    lost = next(row for row in opened(folder).rows)
    (folder / lost.file).unlink()
    assert {row.text for row in opened(folder, "validation").rows} == sides[0]


def test_a_list_says_who_validates(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "d", SENTENCES[:10])
    chosen = tmp_path / "held out.txt"
    chosen.write_text("u003\nwavs/u007.wav|whatever\nunknown\n", encoding="utf-8")
    held_out = opened(folder, "validation", validation_list=str(chosen))
    assert [row.id for row in held_out.rows] == ["u003", "u007"]
    assert len(opened(folder, validation_list=str(chosen))) == 8
    chosen.write_text("unknown\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Nothing is left to validate with"):
        opened(folder, validation_list=str(chosen))
    with pytest.raises(FileNotFoundError, match=r"validation_list: .*no\.txt is not a file"):
        opened(folder, validation_list=str(tmp_path / "no.txt"))


def test_the_vocabulary_is_that_of_the_training_split_or_the_one_given(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "d", ["ab ba ab", "aa bb", "abab zz"])
    listed = tmp_path / "list"
    listed.write_text("u002")
    held_out = opened(folder, "validation", validation_list=str(listed))
    assert held_out.vocabulary == ["", " ", "a", "b"]
    assert held_out[0]["text"] == "abab zz"
    assert said(held_out, held_out[0]) == "abab"  # z cannot be said, and counts as missed
    given = opened(folder, validation_list=str(listed), alphabet=" 'abz")
    assert given.vocabulary == ["", " ", "'", "a", "b", "z"]


def test_japanese_keeps_kana_and_kanji(tmp_path: Path) -> None:
    texts = [
        "今日は、良い天気です。",
        "「コーヒー」を三杯 飲みました!",
        "明日はｶﾞｯｺｳへ行く",
        "本が読みたい",
    ]
    train = opened(write_corpus(tmp_path / "d", texts, seconds_each=0.1))
    rows = [*train.rows, *opened(tmp_path / "d", "validation").rows]
    assert train.language == "ja"
    assert {row.text for row in rows} == {
        "今日は良い天気です",
        "コーヒーを三杯飲みました",
        "明日はガッコウへ行く",
        "本が読みたい",
    }
    assert said(train, train[0]) == train.rows[0].text


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["The café is open.", *SENTENCES], "en"),
        (["Schöne Grüße aus Köln", "drei Äpfel"], "other"),
        (["Привет, мир"], "other"),
        (["你好世界"], "other"),
        (["ひらがなだけ"], "ja"),
        ([], "en"),
    ],
)
def test_the_language_is_told_from_the_texts(texts: list[str], language: str) -> None:
    assert ljspeech.language_of(texts) == language


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello, World! It's 'fine'.", "hello world it's fine"),
        ("Dr. Who met Mrs. Dalloway at St. Paul's, Main St.",
         "doctor who met missus dalloway at saint paul's main street"),
        ("She said no. No. 5 is mine, nos. 6 too",
         "she said no number five is mine number six too"),
        ("0 7 13 20 21 100 101 999", "zero seven thirteen twenty twenty one one hundred "
         "one hundred one nine hundred ninety nine"),
        ("1,000 and 1,234,567", "one thousand and one million two hundred thirty four thousand "
         "five hundred sixty seven"),
        ("in 1066, 1800, 1905, 1984, 2000, 2005 and 2019", "in one thousand sixty six eighteen "
         "hundred nineteen oh five nineteen eighty four two thousand two thousand five and "
         "twenty nineteen"),
        ("the 1960s, the '80s", "the nineteen sixties the eighties"),
        ("1st 2nd 3rd 4th 5th 8th 9th 12th 20th 21st 100th", "first second third fourth fifth "
         "eighth ninth twelfth twentieth twenty first one hundredth"),
        ("$1", "one dollar"),
        ("$1,234.56", "one thousand two hundred thirty four dollars fifty six cents"),
        ("£2.01, €3.50 and ¥500", "two pounds one penny three euros fifty cents and five hundred "
         "yen"),
        ("$3.5 million", "three point five million dollars"),
        ("3.14 and 50%", "three point one four and fifty percent"),
        ("1/2, 3/4, 2/3, ½ and 2½", "one half three quarters two thirds one half and two and one "
         "half"),
        ("at 10:30 or 7:05 or 12:00", "at ten thirty or seven oh five or twelve"),
        ("-5 degrees, 1914-18", "minus five degrees nineteen fourteen to eighteen"),
        ("agent 007", "agent zero zero seven"),
        ("1234567890123456", "one two three four five six seven eight nine zero one two three "
         "four five six"),
        ("the U.S. and the FBI", "the u s and the fbi"),
        ("well-known café — naïve", "well known cafe naive"),
        ("R&D @ 6", "r and d at six"),
        ("“Don’t”, he said… ", "don't he said"),
        ("...", ""),
    ],
)  # fmt: skip
def test_english_is_written_as_it_is_spoken(written: str, spoken: str) -> None:
    assert ljspeech.clean(written, "en") == spoken
    assert ljspeech.clean(spoken, "en") == spoken


def test_other_languages_keep_their_letters() -> None:
    assert ljspeech.clean("Schöne Grüße, 3 Äpfel!", "other") == "schöne grüße 3 äpfel"
    assert ljspeech.clean("Привет,  мир", "other") == "привет мир"


def test_subwords_say_the_same_and_come_out_the_same_everywhere(tmp_path: Path) -> None:
    from plain_plugins import ran

    folder = write_corpus(tmp_path / "d")
    train = opened(folder, tokenizer="subword", vocabulary_size=60)
    assert len(train.vocabulary) == 60
    assert train.vocabulary[0] == ""
    assert len(set(train.vocabulary)) == 60
    for index in range(len(train)):
        item = train[index]
        assert said(train, item) == item["text"]
        assert len(item["tokens"]) < len(item["text"])
    code = (
        "import sys\nfrom tsuzuku.datasets.ljspeech import *\n"
        "c = Config(path=sys.argv[1], cache=None, tokenizer='subword', vocabulary_size=60)\n"
        "d = LJSpeech(c, 'train')\nprint(d.vocabulary, d.tokens.tolist())"
    )
    assert ran(code, folder).strip() == f"{train.vocabulary} {train.tokens.tolist()}"


def test_speeds_are_drawn_by_the_generators_that_the_trainer_seeds(tmp_path: Path) -> None:
    import random

    folder = write_corpus(tmp_path / "d", SENTENCES[:8])
    speeds = [0.9, 1.0, 1.1]
    train = opened(folder, speed_perturbation=speeds)
    plain = train.lengths()[0]
    lengths: set[int] = set()
    for seed in range(20):
        random.seed(seed)
        one = train[0]["audio"]
        random.seed(seed)
        assert torch.equal(train[0]["audio"], one)
        lengths.add(len(one))
    assert sorted(round(plain / length, 2) for length in lengths) == speeds
    held_out = opened(folder, "validation", speed_perturbation=speeds)
    assert {len(held_out[0]["audio"]) for _ in range(20)} == {held_out.lengths()[0]}
    assert train.show(0)["audio"]["value"].shape == (plain,)
    with pytest.raises(ValueError, match=r"speeds of 0\.5 to 2"):
        opened(folder, speed_perturbation=[0.0])


@pytest.mark.parametrize("batch_size", [8, 16, 32])
def test_padding_is_below_five_percent_on_lengths_like_ljspeechs(batch_size: int) -> None:
    """Its clips last 1.1 to 10.1 s, 6.57 on average, with the mode near the upper end."""
    generator = np.random.default_rng(0)
    seconds = 1.1 + 9.0 * generator.beta(2.2, 1.42, 12_445)
    assert abs(seconds.mean() - 6.57) < 0.1
    real = padded = 0.0
    for batch in epoch_batches(np.arange(len(seconds)), batch_size, 0, 0, seconds):
        real += seconds[batch].sum()
        padded += seconds[batch].max() * len(batch)
    assert 1 - real / padded < 0.05


def test_the_fingerprint_knows_the_data_wherever_it_is(tmp_path: Path) -> None:
    first = opened(write_corpus(tmp_path / "a")).fingerprint()
    assert opened(write_corpus(tmp_path / "b")).fingerprint() == first
    path = tmp_path / "b/wavs/u005.wav"
    sound, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, sound // 2, rate)
    ljspeech.survey_of.cache_clear()  # as in the next process: nothing else has changed
    assert opened(tmp_path / "b").fingerprint() != first


def test_a_person_can_look_into_it(tmp_path: Path) -> None:
    from tsuzuku.core.plugin_files import find
    from tsuzuku.core.settings import TrainingSettings
    from tsuzuku.worker.browse import open_dataset, overview, samples

    broken_corpus(tmp_path / "d")
    settings = {"path": str(tmp_path / "d"), "cache": None, "max_seconds": 20}
    dataset = open_dataset(find("datasets", "ljspeech", tmp_path), settings, TrainingSettings())
    seen = overview(dataset)
    assert seen["path"] == str(tmp_path / "d")
    assert sum(seen["splits"].values()) == len(SENTENCES) + 2
    assert len(seen["report"]) == 15
    (shown,) = samples(dataset, "validation", 0, 1)["samples"]
    heard, read = shown["outputs"]["audio"], shown["outputs"]["text"]
    assert heard["sample_rate"] == 16_000
    assert heard["seconds"] == pytest.approx(len(read["value"]) * 0.06, abs=0.01)
    assert read["value"] == SENTENCES[int(read["id"][1:])]
