"""Curves as text files: what is written is what is read back."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import faces
from tsuzuku.core.blendshapes import NAMES, are_blendshapes
from tsuzuku.core.curve_files import files_of, timecode
from tsuzuku.datasets.arkit import read_jsonl, read_live_link


@pytest.mark.parametrize("fps", [24, 25, 30, 59.94, 60, 90])
def test_faces_are_read_back_by_the_data_set(tmp_path: Path, fps: float) -> None:
    rows = np.random.default_rng(0).random((200, 52))
    made = files_of(rows.tolist(), NAMES, fps)
    assert set(made) == {"csv", "jsonl"}
    for ending, read in (("csv", read_live_link), ("jsonl", read_jsonl)):
        path = tmp_path / f"a.{ending}"
        path.write_text(made[ending], encoding="utf-8")
        problems: list[tuple[int, str]] = []
        times, values = read(path, problems)
        assert problems == []
        np.testing.assert_allclose(times, np.arange(200) / fps, atol=2e-5)
        np.testing.assert_allclose(values, rows, atol=1e-6)


def test_the_table_has_the_columns_of_live_link_face() -> None:
    rows = list(csv.reader(files_of(faces.rows(1).tolist(), NAMES, 60)["csv"].splitlines()))
    assert {len(row) for row in rows} == {63}
    assert rows[0][:3] == ["Timecode", "BlendshapeCount", "EyeBlinkLeft"]
    assert rows[0][53:] == [
        *("TongueOut", "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch"),
        *("LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
    ]
    assert rows[1][:2] == ["00:00:00:00.000", "61"]
    assert rows[60][0] == "00:00:00:59.000"


def test_blendshapes_that_are_missing_rest_and_gaps_do_too() -> None:
    made = files_of([[None, 0.5]], ["tongueOut", "jawOpen"], 30)
    values = json.loads(made["jsonl"])["blendshapes"]
    assert len(values) == 52
    assert sum(values) == values[NAMES.index("jawOpen")] == 0.5


def test_other_curves_are_plain_tables() -> None:
    rows = [[1.0, None], [2.5, -3.0]]
    made = files_of(rows, ["a,b", 'say "c"'], 2)
    assert list(csv.reader(made["csv"].splitlines())) == [
        ["seconds", "a,b", 'say "c"'],
        ["0.0", "1.0", ""],
        ["0.5", "2.5", "-3.0"],
    ]
    assert [json.loads(line) for line in made["jsonl"].splitlines()] == [
        {"seconds": 0.0, "values": [1.0, None]},
        {"seconds": 0.5, "values": [2.5, -3.0]},
    ]
    assert files_of(rows, ["a", "b"], None)["csv"].startswith("frame,a,b\n0,1.0,\n1,")
    # faces need a time
    assert files_of([[0.5]], ["jawOpen"], None)["csv"] == "frame,jawOpen\n0,0.5\n"


@given(st.integers(0, 10**7))
def test_timecodes_go_on(thousandths: int) -> None:
    code = timecode(thousandths / 1000)
    hours, minutes, seconds, frames = code.split(":")
    assert (len(hours), len(minutes), len(seconds), len(frames)) == (2, 2, 2, 6)
    assert int(minutes) < 60 > int(seconds)
    assert float(frames) < 60
    told = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(frames) / 60
    assert told == pytest.approx(thousandths / 1000, abs=2e-5)
    assert all(a <= b for a, b in pairwise([code, timecode(thousandths / 1000 + 0.01)]))


def test_which_curves_move_a_face() -> None:
    assert are_blendshapes(NAMES)
    assert are_blendshapes(["jawOpen"])
    assert not are_blendshapes([])
    assert not are_blendshapes(["jawOpen", "loss"])
    assert not are_blendshapes(["eyeBlinkLeft"])
