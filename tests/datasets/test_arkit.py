"""Sounds and faces: what is read, what is refused and how it is named, crops, splits, exactness."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import faces
from tsuzuku.core import blendshapes, curve_files
from tsuzuku.datasets import arkit
from tsuzuku.datasets.arkit import ARKit, Config, timecode_rate


def opened(folder: Path, split: str = "train", **settings: Any) -> ARKit:
    return ARKit(Config(path=str(folder), **settings), split)


def test_it_imports_nothing_of_this_package_and_has_its_names() -> None:
    tree = ast.parse(Path(arkit.__file__).read_text(encoding="utf-8"))
    imported = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(name.startswith("tsuzuku") for name in imported)
    assert arkit.NAMES == blendshapes.NAMES
    assert len(set(arkit.NAMES)) == 52


def test_folders_are_splits(tmp_path: Path) -> None:
    faces.corpus(tmp_path, 3, 2)
    train, held_out = opened(tmp_path), opened(tmp_path, "validation")
    assert [len(train), len(held_out), len(opened(tmp_path, "test"))] == [3, 2, 0]
    assert train.report == []
    item = train[1]
    assert item["id"] == "train/01"
    assert item["audio"].shape == (12_800,)
    assert item["blendshapes"].shape == (48, 52)
    wanted = faces.rows(0.8, seed=1)
    np.testing.assert_allclose(item["blendshapes"], wanted, atol=1e-6)
    expected = faces.sound(0.8, seed=1)
    np.testing.assert_allclose(item["audio"], expected, atol=1e-4)
    batch = ARKit.collate([train[0], train[2]])
    assert batch["audio"].shape == (2, 16_000)
    assert batch["blendshapes"].shape == (2, 60, 52)
    assert batch["audio_lengths"].tolist() == [9600, 16_000]
    assert batch["frame_lengths"].tolist() == [36, 60]
    assert not batch["blendshapes"][0, 36:].any()
    shown = train.show(1)
    assert len(shown["blendshapes"]["names"]) == len(shown["blendshapes"]["value"]) == 52
    assert shown["blendshapes"]["fps"] == 60


def test_without_folders_files_are_held_out_by_seed(tmp_path: Path) -> None:
    for number in range(10):
        faces.write(tmp_path, f"{number}", 0.5, seed=number)
    sides = []
    for seed in range(3):
        train = {t.name for t in opened(tmp_path, seed=seed, validation_share=0.3).takes}
        held_out = opened(tmp_path, "validation", seed=seed, validation_share=0.3).takes
        assert len(held_out) == 3
        assert not train & {t.name for t in held_out}
        sides.append(frozenset(t.name for t in held_out))
    assert len(set(sides)) > 1
    faces.write(tmp_path, "a", 0.5)  # what comes leaves the others on their side, but for one
    held_out = {t.name for t in opened(tmp_path, "validation", validation_share=0.3).takes}
    assert len(held_out & sides[0]) >= 2


@pytest.mark.parametrize("fps", [24, 30, 60, 59.94])
def test_any_rate_becomes_the_models(tmp_path: Path, fps: float) -> None:
    faces.write(tmp_path, "train/a", 2, fps=fps, rate=44_100)
    faces.write(tmp_path, "val/b", 2)
    for rate in (30, 60, 25):
        item = opened(tmp_path, fps=rate)[0]
        assert item["audio"].shape == (32_000,)
        assert item["blendshapes"].shape == (2 * rate, 52)
        off = item["blendshapes"].numpy() - faces.rows(2, rate)
        # between the first row and the last, whose end is held
        assert np.abs(off[: int(1.9 * rate)]).max() < 0.02
        np.testing.assert_allclose(item["audio"][1000:-1000], faces.sound(2)[1000:-1000], atol=0.01)


def test_a_clocks_time_begins_with_the_sound(tmp_path: Path) -> None:
    faces.write(tmp_path, "train/a", 1)
    faces.write(tmp_path, "val/b", 1)
    path = tmp_path / "train/a.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    moved = [{**row, "timestamp": row["timestamp"] + 1.7e9} for row in rows]
    path.write_text("\n".join(map(json.dumps, moved)))
    np.testing.assert_allclose(opened(tmp_path)[0]["blendshapes"], faces.rows(1), atol=1e-3)


def test_live_link_recordings_are_read_by_their_names(tmp_path: Path) -> None:
    faces.write(tmp_path, "train/a", 1.5)
    faces.write(tmp_path, "val/b", 1)
    (tmp_path / "train/a.jsonl").unlink()
    made = faces.rows(1.5)
    text = curve_files.live_link(made.tolist(), 60)
    head, *body = text.splitlines()
    assert head.startswith("Timecode,BlendshapeCount,EyeBlinkLeft,EyeLookDownLeft,")
    assert len(head.split(",")) == 63
    # columns in another order and another case, in the middle of a day, at 30 frames a second
    order = [0, 1, *range(62, 1, -1)]
    shuffled = [",".join(line.split(",")[i] for i in order) for line in (head.lower(), *body)]
    shuffled = [line.replace("00:00:0", "13:59:5", 1) for line in shuffled]
    for written in (text, "\n".join(shuffled)):
        (tmp_path / "train/a.csv").write_text(written, encoding="utf-8")
        data = opened(tmp_path)
        assert data.report == []
        np.testing.assert_allclose(data[0]["blendshapes"], made, atol=1e-5)


@given(st.sampled_from([24, 25, 30, 60]), st.integers(0, 59), st.integers(80, 300))
def test_timecodes_tell_their_rate(rate: int, start: int, count: int) -> None:
    codes = [f"10:00:{n // rate % 60:02}:{n % rate:02}.250" for n in range(start, start + count)]
    assert timecode_rate(codes) == rate


def test_short_recordings_are_taken_for_sixty_frames() -> None:
    assert timecode_rate(["10:00:00:03.1", "10:00:00:04.1"]) == timecode_rate([]) == 60


BAD_ROWS = [
    ('{"timestamp": 0.2, "blendshapes": [0.5]}', "has 1 blendshapes instead of 52"),
    (json.dumps({"timestamp": 0.2, "blendshapes": [0.1] * 51 + [1.5]}), "1.5 for tongueOut"),
    (json.dumps({"timestamp": 0.2, "blendshapes": [float("nan")] * 52}), "nan for eyeBlinkLeft"),
    (json.dumps({"timestamp": 0.2, "blendshapes": ["x"] * 52}), "'x' for eyeBlinkLeft"),
    (json.dumps({"timestamp": 0.2, "blendshapes": [True] * 52}), "'True' for eyeBlinkLeft"),
    (json.dumps({"timestamp": 0.01, "blendshapes": [0.1] * 52}), "goes back in time"),
    (json.dumps({"timestamp": None, "blendshapes": [0.1] * 52}), "is no time"),
    (json.dumps({"timestamp": float("inf"), "blendshapes": [0.1] * 52}), "no finite time"),
    ('{"timestamp": 0.2}', "is not {"),
    ('{"timestamp": 0.2, "blendshapes": {}}', "no list"),
    ("[1]", "is not {"),
    ("nonsense", "is not JSON"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_ROWS)
def test_a_bad_row_is_named_and_left_out(tmp_path: Path, line: str, problem: str) -> None:
    faces.corpus(tmp_path, 1, 1)
    path = tmp_path / "train/00.jsonl"
    before = opened(tmp_path)[0]["blendshapes"]
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:12], line, *rows[13:]]))
    data = opened(tmp_path)
    (entry,) = data.report
    assert problem in entry.pop("problem")
    assert entry == {"row": 13, "id": "train/00.jsonl", "used": False}
    # what is missing is between its neighbours
    np.testing.assert_allclose(data[0]["blendshapes"], before, atol=0.01)
    with pytest.raises(ValueError, match=r"train/00\.jsonl, line 13: "):
        opened(tmp_path, on_error="stop")


def spoil(folder: Path, how: str) -> str:
    """Make `train/01` unusable; the file that is to be named."""
    wav, face = folder / "train/01.wav", folder / "train/01.jsonl"
    match how:
        case "no face":
            face.unlink()
            return "train/01.wav"
        case "no sound":
            wav.unlink()
            return "train/01.jsonl"
        case "empty sound":
            wav.write_bytes(b"")
            return "train/01.wav"
        case "no samples":
            soundfile.write(wav, np.zeros(0), 16_000)
            return "train/01.wav"
        case "not audio":
            wav.write_bytes(b"RIFF and then nothing")
            return "train/01.wav"
        case "too short":
            soundfile.write(wav, np.zeros(800), 16_000)
            return "train/01.wav"
        case "empty face":
            face.write_bytes(b"")
        case "long face":
            face.write_text("\n".join(faces.lines(faces.rows(3))))
        case "gap":
            rows = face.read_text().splitlines()
            face.write_text("\n".join(rows[:10] + rows[30:]))
        case "other table":
            face.rename(face.with_suffix(".csv"))
            face.with_suffix(".csv").write_text("name,text\na,b\n")
            return "train/01.csv"
        case _:
            face.rename(face.with_suffix(".csv"))
            text = curve_files.live_link(faces.rows(0.8).tolist(), 60)
            face.with_suffix(".csv").write_text(text.replace("JawOpen", "Jaw"))
            return "train/01.csv"
    return "train/01.jsonl"


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("no face", "has no partner train/01.jsonl or .csv"),
        ("no sound", "has no partner train/01.wav"),
        ("empty sound", "is empty"),
        ("no samples", "has no samples"),
        ("not audio", "is not sound that can be read"),
        ("too short", "lasts 0.05 seconds"),
        ("empty face", "has no usable rows"),
        ("long face", "is a face of 3.00 seconds for a sound of 0.80"),
        ("gap", "has no usable row from 0.15 to 0.50 seconds"),
        ("other table", "is no recording of Live Link Face: its columns are missing"),
        ("no column", "is no recording of Live Link Face: the column jawopen is missing"),
    ],
)
def test_a_bad_file_is_named_once_and_left_out(tmp_path: Path, how: str, problem: str) -> None:
    faces.corpus(tmp_path, 3, 1)
    name = spoil(tmp_path, how)
    data = opened(tmp_path)
    assert [take.name for take in data.takes] == ["train/00", "train/02"]
    (entry,) = data.report
    assert problem in entry["problem"]
    assert entry["id"] == name
    assert "row" not in entry
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        opened(tmp_path, on_error="stop")


def test_bad_lines_of_a_recording_are_named(tmp_path: Path) -> None:
    faces.corpus(tmp_path, 1, 1)
    (tmp_path / "train/00.jsonl").unlink()
    lines = curve_files.live_link(faces.rows(0.6).tolist(), 60).splitlines()
    lines[5] = lines[5].replace("00:00:00:", "0:0:", 1)
    lines[8] += ",1"
    lines[11] = lines[11].replace(",0.25,", ",much,", 1)
    (tmp_path / "train/00.csv").write_text("\n".join(lines))
    found = {entry["row"]: entry["problem"] for entry in opened(tmp_path).report}
    assert sorted(found) == [6, 9, 12]
    assert "instead of HH:MM:SS:FF.fff" in found[6]
    assert found[9] == "has 64 columns instead of 63"
    assert found[12] == "has 'much' for mouthsmileleft, which is no number"


def test_what_cannot_be_used_at_all_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; `tsuzuku data make face`"):
        opened(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no pairs of sound and face"):
        opened(tmp_path)
    faces.write(tmp_path, "one", 1)
    with pytest.raises(ValueError, match="there is one recording only"):
        opened(tmp_path)
    faces.write(tmp_path, "val/b", 1)
    assert len(opened(tmp_path)) == 1
    with pytest.raises(ValueError, match="no split 'dev'"):
        opened(tmp_path, "dev")


def test_long_recordings_are_read_in_parts(tmp_path: Path) -> None:
    faces.write(tmp_path, "train/long", 5.3, rate=48_000)
    faces.write(tmp_path, "val/long", 5.3, rate=22_050)
    train = opened(tmp_path, crop_seconds=2)
    held_out = opened(tmp_path, "validation", crop_seconds=2)
    assert train.lengths() == [120, 120, 120]
    assert held_out.lengths() == [120, 120, 78]
    whole, jaw = faces.sound(5.3), faces.rows(5.3)
    places = set()
    for seed in range(20):
        random.seed(seed)
        item = train[seed % 3]
        again = random.getstate()
        random.seed(seed)
        assert train[seed % 3]["audio"].equal(item["audio"])  # nothing but the seeded generator
        assert random.getstate() == again
        start = float(item["id"].partition("@")[2] or 0)
        frame, sample = round(start * 60), round(start * 16_000)
        places.add(frame)
        np.testing.assert_allclose(item["blendshapes"], jaw[frame : frame + 120], atol=1e-5)
        # but for the end of the file, where a resampler has nothing to go on
        heard, said = item["audio"][:31_000], whole[sample : sample + 31_000]
        np.testing.assert_allclose(heard, said, atol=0.01)
    assert len(places) > 10
    joined = np.concatenate([held_out[i]["blendshapes"] for i in range(3)])
    np.testing.assert_allclose(joined, jaw, atol=1e-5)
    assert sum(len(held_out[i]["audio"]) for i in range(3)) == 84_800


def test_its_fingerprint_is_of_what_is_in_it(tmp_path: Path) -> None:
    first = opened(faces.corpus(tmp_path / "a", 2, 1)).fingerprint()
    assert opened(faces.corpus(tmp_path / "b", 2, 1)).fingerprint() == first
    faces.write(tmp_path / "b", "train/01", 0.8, seed=9)
    assert opened(tmp_path / "b").fingerprint() != first
