"""The drawn face: it moves as blendshapes say, and the animated picture is one."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import faces
from tsuzuku.core.blendshapes import NAMES
from tsuzuku.worker import face_picture
from tsuzuku.worker.face_picture import drawing, picture
from tsuzuku.worker.outputs import write_outputs


def test_blendshapes_move_the_parts_of_the_face() -> None:
    rest = drawing({})
    opened = drawing({"jawOpen": 1.0})
    assert opened.chin > rest.chin
    assert opened.inner[3][1] > rest.inner[3][1] + 40
    shut = drawing({"jawOpen": 0.3, "mouthClose": 0.3})
    assert shut.inner[3][1] == rest.inner[3][1]
    assert drawing({"mouthPucker": 1.0}).outer[0][0] > rest.outer[0][0]
    assert drawing({"mouthStretchLeft": 1.0}).outer[0][0] < rest.outer[0][0]
    assert drawing({"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}).outer[0][1] < rest.outer[0][1]
    left = drawing({"eyeBlinkLeft": 1.0})
    assert left.eyes[1][1] == 0  # the face's left is the picture's right
    assert left.eyes[0] == rest.eyes[0]
    assert drawing({"browInnerUp": 1.0}).brows[0][0][1] < rest.brows[0][0][1]
    assert drawing({"tongueOut": 1.0}).tongue == 1


@pytest.mark.parametrize("name", ["jawOpen", "tongueOut", "eyeBlinkLeft", "mouthFunnel"])
def test_it_can_be_seen(name: str) -> None:
    before, after = (np.asarray(picture(value)) for value in ({}, {name: 1.0, "jawOpen": 0.5}))
    assert before.shape == (240, 200, 3)
    assert (before != after).any(-1).sum() > 50


def frames_of(content: bytes) -> Any:
    return Image.open(io.BytesIO(content))


def test_the_animated_picture_lasts_as_long_as_the_curves() -> None:
    curves = faces.rows(1.5).T
    with frames_of(face_picture.animated(curves, NAMES, 60)) as made:
        assert made.format == "WEBP"
        assert made.n_frames == 30
        seen = []
        for number in (0, 10):
            made.seek(number)
            made.load()
            seen.append(np.asarray(made.convert("RGB")))
        assert made.info["duration"] == 50
    assert (seen[0] != seen[1]).any()
    with frames_of(face_picture.animated(faces.rows(18).T, NAMES, 60)) as made:
        assert made.n_frames == 160
    with frames_of(face_picture.animated(np.full((1, 1), np.nan), ["jawOpen"], 10)) as made:
        assert made.size == (200, 240)


def test_predictions_write_it_where_curves_are_a_face(tmp_path: Any) -> None:
    curves = {"type": "curves", "value": faces.rows(0.5).T}
    face = curves | {"names": list(NAMES), "fps": 60}
    other = {"type": "curves", "value": [[1.0, 2.0]], "names": ["loss"], "fps": 1}
    answer = write_outputs({"face": face, "a/b": other, "plain": curves}, tmp_path, "x", "m.py")
    assert {key: path.rpartition("/")[2] for key, path in answer.items()} == {
        "face": "x-face.npy",
        "face.csv": "x-face.csv",
        "face.jsonl": "x-face.jsonl",
        "face.webp": "x-face.webp",
        "a/b": "x-a-b.npy",
        "a/b.csv": "x-a-b.csv",
        "a/b.jsonl": "x-a-b.jsonl",
        "plain": "x-plain.npy",
    }
    assert len(list(tmp_path.iterdir())) == len(answer)
