"""Speech with faces: what phonemes do to a mouth, and a corpus with the same bytes for a seed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tsuzuku.core.blendshapes import NAMES
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.launch import worker_environment
from tsuzuku.datasets.arkit import ARKit, Config
from tsuzuku.worker import speech, visemes
from tsuzuku.worker.espeak import opened_voice
from tsuzuku.worker.face import COUNT, make_face, parted
from tsuzuku.worker.speech import plan
from tsuzuku.worker.visemes import VISEMES, Segment, face, loudness_of, segments
from worker_process import command, worker

pytest.importorskip("espeakng_loader")

Faces = NDArray[np.float64]


def spoken(*symbols: str, each: float = 0.15) -> list[Segment]:
    return [Segment(n * each, (n + 1) * each, s) for n, s in enumerate(symbols)]


def curve(made: Faces, name: str) -> Faces:
    return made[:, NAMES.index(name)]


def middle(made: Faces, number: int, name: str, each: float = 0.15) -> float:
    """A blendshape in the middle of a sound."""
    return float(curve(made, name)[round((number + 0.5) * each * 60)])


def test_each_sound_has_its_mouth() -> None:
    said = spoken("", "m", "ɑ", "u", "f", "i", "ð", "")
    made = face(said, np.full(72, 0.5))
    jaw, press = "jawOpen", "mouthPressLeft"
    assert middle(made, 2, jaw) > 0.3 > 0.12 > middle(made, 1, jaw)
    assert middle(made, 1, press) > 0.3 > 0.1 > middle(made, 2, press)
    assert middle(made, 3, "mouthPucker") > 0.4 > 0.2 > middle(made, 5, "mouthPucker")
    assert middle(made, 4, "mouthRollLower") > 0.3 > 0.15 > middle(made, 2, "mouthRollLower")
    assert middle(made, 5, "mouthStretchRight") > 0.2 > middle(made, 3, "mouthStretchRight")
    assert middle(made, 6, "tongueOut") > 0.2 > 0.05 > middle(made, 2, "tongueOut")
    for name in NAMES:  # the face is symmetric, and gazes ahead
        if name.endswith("Left") and name != "mouthLeft":
            other = name.removesuffix("Left") + "Right"
            np.testing.assert_array_equal(curve(made, name), curve(made, other))
        if "Look" in name or name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            assert not curve(made, name).any()


def test_neighbours_colour_a_sound() -> None:
    """In `utu` lips stay round over the t; in `iti` they stay spread."""
    rounded, spread = (face(spoken("", v, "t", v, ""), np.full(45, 0.5)) for v in "ui")
    assert middle(rounded, 2, "mouthPucker") > 0.15 > 0.01 > middle(spread, 2, "mouthPucker")
    assert middle(spread, 2, "mouthStretchLeft") > 0.1 > middle(rounded, 2, "mouthStretchLeft")


def test_a_pause_is_time_to_blink() -> None:
    said = [Segment(0, 0.3, ""), Segment(0.3, 0.6, "ɑ"), Segment(0.6, 1.4, "")]
    lids = curve(face(said, np.full(84, 0.5)), "eyeBlinkLeft")
    assert not lids[:37].any()  # nothing is said before it: that is no pause
    assert lids[40:50].max() > 0.85
    assert not lids[60:].any()


def test_what_is_loud_is_opened_further_with_raised_brows() -> None:
    said = spoken("ɑ", "ɑ")
    soft, loud = (face(said, np.full(18, level)) for level in (0.2, 1.0))
    assert (curve(loud, "jawOpen") > 1.4 * curve(soft, "jawOpen")).all()
    assert (curve(loud, "browInnerUp") > 5 * curve(soft, "browInnerUp")).all()


@given(
    st.lists(st.sampled_from(["", *"".join(VISEMES)]), min_size=1, max_size=12),
    st.floats(0.01, 0.3),
)
def test_faces_stay_in_range_and_move_smoothly(symbols: list[str], each: float) -> None:
    count = max(1, round(len(symbols) * each * 60))
    made = face(spoken(*symbols, each=each), np.full(count, 1.0))
    assert made.shape == (count, 52)
    assert ((made >= 0) & (made <= 1)).all()
    assert np.abs(np.diff(made, axis=0)).max(initial=0.0) < 0.35


def test_phonemes_become_single_sounds() -> None:
    found = segments([(0.1, "ˈoʊ"), (0.3, "tʃ"), (0.4, ""), (0.5, "?")], 0.6)
    assert [s.symbol for s in found] == ["", "o", "ʊ", "t", "ʃ", "", ""]
    assert [s.stressed for s in found] == [False, True, True, False, False, False, False]
    assert found[0].end == found[1].start == 0.1
    assert found[1].end == found[2].start == pytest.approx(0.2)
    assert found[-1].end == 0.6


def test_every_phoneme_of_the_voices_has_a_mouth() -> None:
    """But for pauses, and marks on what stands before them."""
    texts = {
        "en-us": "The quick brown fox jumps over a lazy dog; she measures church vision, thus.",
        "en-gb-x-rp": "Poor boys hear there, here and nowhere: bird, ear, pure joy.",
        "ja": "こんにちは、きょうはいいてんきですね。しゅっちょうでべんきょう。ふゆ",
    }
    for voice, text in texts.items():
        with opened_voice(voice) as (say, _):
            said, phonemes = say(text, 160, 50, 1)
        assert [p.start for p in phonemes] == sorted(p.start for p in phonemes)
        assert phonemes[-1].start <= len(said)
        for phoneme in phonemes:
            known = segments([(0, phoneme.ipa)], 1)[0].symbol
            assert bool(known) == bool(phoneme.ipa.strip("ʲˈˌː")), (voice, phoneme)


def test_loudness_is_relative_and_of_every_frame() -> None:
    sound = np.concatenate([np.zeros(8000), np.full(8000, 3000)]).astype(np.int16)
    level = loudness_of(sound, 16_000)
    assert level.shape == (60,)
    assert level[10] == 0
    assert level[45] == pytest.approx(1)
    np.testing.assert_allclose(loudness_of(sound // 3, 16_000), level, atol=1e-3)
    assert not loudness_of(np.zeros(160, np.int16), 16_000).any()


def test_splits_share_no_sentence_and_names_tell_them() -> None:
    made = parted(plan(COUNT, 3, None), 3)
    sentences = {
        split: {u.text for u in made if u.name.startswith(f"{split}/")}
        for split in ("train", "val", "test")
    }
    assert [len(found) for found in sentences.values()] == [240, 30, 30]
    assert sum(u.name.startswith("val/") for u in made) == 60
    assert len(set().union(*sentences.values())) == 300
    assert parted(plan(COUNT, 3, None), 3) == made
    assert {u.text for u in parted(plan(COUNT, 4, None), 4)} != set().union(*sentences.values())


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_makes_what_the_data_set_reads_the_same_for_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = worker(tmp_path, "make", "--name", "face", "--target", tmp_path / "a", "--count", 8)
    assert answers[0] == {"done": 0, "total": 8}
    assert answers[-2:] == [{"done": 8, "total": 8}, {"path": str(tmp_path / "a")}]
    monkeypatch.setattr(speech, "cores", lambda: 3)
    make_face(tmp_path / "b", 8)
    assert digests(tmp_path / "b") == digests(tmp_path / "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    count = 0
    for split in ARKit.splits:
        data = ARKit(Config(path=str(tmp_path / "a")), split)
        assert data.report == []
        for take in data.takes:
            count += 1
            sound, rate = soundfile.read(tmp_path / "a" / take.file, dtype="int16")
            assert rate == 16_000
            lines = (tmp_path / "a" / f"{take.name}.jsonl").read_text().count("\n")
            assert lines == -(-len(sound) * visemes.RATE // rate)
        for number in range(len(data)):
            jaw = data[number]["blendshapes"][:, NAMES.index("jawOpen")].numpy()
            assert jaw[0] < 0.05
            assert jaw[-1] < 0.05
            assert jaw.max() > 0.25
            heard = np.abs(data[number]["audio"].numpy())
            open_at, loud_at = jaw.argmax() / 60, (heard > 0.02).nonzero()[0] / 16_000
            assert loud_at[0] < open_at < loud_at[-1]
    assert count == 8


def test_never_over_something_and_never_too_few(tmp_path: Path) -> None:
    (tmp_path / "face").mkdir()
    (tmp_path / "face/mine.wav").write_bytes(b"mine")
    with pytest.raises(WrongInput, match="is there already"):
        make_face(tmp_path / "face", 8)
    for count in (0, 5, 100_001):
        with pytest.raises(WrongInput, match="count has to be from 6 to 100,000"):
            make_face(tmp_path / "new", count)
    (answer,) = worker(
        tmp_path, "make", "--name", "face", "--target", tmp_path / "new", "--count", 5, code=2
    )
    assert "count has to be from 6" in answer["error"]
    assert not (tmp_path / "new").exists()


def test_a_maker_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    words = command(tmp_path, "make", "--name", "face", "--target", tmp_path / "face")
    maker = subprocess.Popen(
        words, cwd=tmp_path, env=worker_environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert maker.stdout is not None
    maker.stdout.readline()  # it has begun
    maker.kill()
    maker.wait()
    assert not (tmp_path / "face").exists()
    make_face(tmp_path / "face", 6)
    assert len(list((tmp_path / "face").rglob("*.wav"))) == 6
