"""The desk: a real process that keeps models warm, asked over its pipes."""

from __future__ import annotations

import base64
import io
import json
import shutil
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attempts
import numpy as np
import pytest
from PIL import Image

from plain_plugins import NOISE, TINY, make_workspace
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from worker_process import DeskProcess

TALKER = TINY.replace(
    "    def inference(self, sample):",
    """\
    def inference(self, sample):
        import os, subprocess, sys
        print('{"id": 1, "ok": true, "forged": 1}')
        os.write(1, b'{"forged": 2}\\\\n')
        subprocess.run(["echo", "forged"])
        word = sample.get("text", "").strip()
        if word == "exit":
            sys.exit(5)
        if word == "fail":
            raise RuntimeError("no\\\\nway")
        if word == "read":
            return {"read": sys.stdin.read()}
        if word == "memory":
            return {"x": torch.empty(10**14)}
        if word == "odd":
            return {"x": {"type": "video", "value": 1}}
        if word == "list":
            return [1]
        if word == "bits":
            return ({"word": text} for text in ("one", "two"))
        if "image" in sample:
            return {"shape": str(sample["image"].shape)}
        if "item" in sample:
            x = sample["item"]["x"]
            return {"answer": self.net(x[None])[0, 0], "x": x.tolist().__repr__()}
        wave = torch.tensor([0.0, 1.0, -1.0, 2.0, float("nan")])
        return {
            "text": "あ\\\\ud800",
            "number": float("nan"),
            "tensor": torch.tensor(3),
            "image": {"type": "image", "value": torch.tensor([[[0, 0.5, 1, 7, float("nan")]]])},
            "audio": {"type": "audio", "value": wave, "sample_rate": 8000},
            "curves": {"type": "curves", "value": torch.ones(5, 2), "names": ["a", "b"], "fps": 30},
        }

    def unused(self, sample):""",
).replace("\\\\", "\\")

SHAPES = '''\
"""Samples of every kind, and one that cannot be read."""
import collections
import numpy as np
import torch
from PIL import Image

Pair = collections.namedtuple("Pair", "left right")


class Shapes:
    splits = ("train", "validation", "test", "missing")
    report = [{"row": 3, "why": float("nan")}, "short"]

    def __init__(self, config, split):
        if split == "missing":
            raise FileNotFoundError("no such split here")
        self.split = split
        self.path = "."

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index == 1:
            raise ValueError("row 1 is broken")
        return {
            "grey": np.full((4, 6), 128, dtype=np.uint8),
            "colour": torch.rand(3, 4, 6),
            "bool": torch.ones(2, 2, dtype=torch.bool),
            "mel": torch.linspace(-8, 2, 12).reshape(3, 4).to(torch.bfloat16),
            "picture": Image.new("RGB", (5, 2)),
            "wave": torch.zeros(9),
            "long": torch.zeros(5000),
            "ids": np.arange(3),
            "table": torch.zeros(2, 3, dtype=torch.int64),
            "deep": {"a": (1, 2.5), "b": Pair("x", None)},
            "nan": float("nan"),
            "object": object,
        }
'''

SHOWING = (
    NOISE
    + """
    def show(self, index):
        return {"index": index, "x": {"type": "curves", "value": self.x[index], "names": ["x"]}}
"""
)


@dataclass
class Place:
    """A workspace with a trained run, and a desk in it."""

    workspace: Workspace
    run: RunDir
    checkpoint: Path
    desk: DeskProcess

    @property
    def asked(self) -> dict[str, str]:
        return {"run_id": self.run.run_id, "checkpoint": str(self.checkpoint)}

    def predict(self, word: str) -> dict[str, Any]:
        """What it answers for a text file with that word."""
        path = self.workspace.root / "word.txt"
        path.write_text(word, encoding="utf-8")
        return self.desk.ask("predict", **self.asked, file=str(path))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = make_workspace(tmp_path_factory.mktemp("desk") / "workspace")
    for name, source in (("models/tiny", TALKER), ("datasets/shapes", SHAPES)):
        (root / f"{name}.py").write_text(source, encoding="utf-8")
    workspace = Workspace(root)
    with Store(workspace.db) as store:
        run = attempts.straight(workspace, store, "num_epochs=1")
    with DeskProcess(root) as desk:
        yield Place(workspace, run, attempts.last(run), desk)
        assert desk.end() == 0


def test_the_second_time_is_warm_and_says_the_same(place: Place) -> None:
    place.desk.ask("forget")
    cold = place.desk.ask("predict", **place.asked, sample=2)
    warm = place.desk.ask("predict", **place.asked, sample=2)
    assert (cold["ok"], cold["warm"], warm["warm"]) == (True, False, True)
    assert cold["outputs"] == warm["outputs"]  # dropout, augmentation and all
    assert (warm["run_id"], warm["checkpoint"]) == (place.run.run_id, place.checkpoint.name)
    for answer in (cold, warm):
        times = [answer[f"{k}_time_ms"] for k in ("first_token", "inference", "total")]
        assert times == sorted(times)
        assert times[0] > 0
    other = place.desk.ask("predict", **place.asked, sample=3)
    assert other["outputs"]["x"] != warm["outputs"]["x"]


def test_a_sample_is_one_that_the_run_validates_on(place: Place) -> None:
    """The data set has no validation split: what was split off by the seed is meant."""
    listed = place.desk.ask("samples", dataset="noise", split="validation", limit=50)
    assert listed["splits"] == {"train": 56, "validation": 8}
    assert [s["index"] for s in listed["samples"]] == list(range(8))
    assert place.desk.ask("predict", **place.asked, sample=7)["ok"]
    beyond = place.desk.ask("predict", **place.asked, sample=8)
    assert beyond["error"] == "There is no sample 8; the last one is 7."


def test_outputs_of_every_type(place: Place) -> None:
    answer = place.predict("all")
    outputs = answer["outputs"]
    assert outputs["text"] == {"type": "text", "value": "あ\\ud800"}
    assert outputs["number"] == {"type": "number", "value": None}
    assert outputs["tensor"] == {"type": "number", "value": 3}
    image = outputs["image"]
    assert (image["width"], image["height"]) == (5, 1)
    picture = Image.open(io.BytesIO(base64.b64decode(image["value"])))
    assert np.asarray(picture).tolist() == [[0, 128, 255, 255, 0]]
    audio = outputs["audio"]
    assert (audio["sample_rate"], audio["seconds"]) == (8000, 5 / 8000)
    with wave.open(io.BytesIO(base64.b64decode(audio["value"]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        sound = np.frombuffer(file.readframes(9), dtype="<i2").tolist()
    assert sound == [0, 32767, -32767, 32767, 0]
    curves = {"type": "curves", "value": [[1.0] * 5] * 2, "names": ["a", "b"], "fps": 30}
    assert outputs["curves"] == curves


def test_a_picture_comes_to_the_model_and_a_file_may_be_called_like_a_number(place: Place) -> None:
    root = place.workspace.root
    Image.new("RGB", (7, 5)).save(root / "it.png")
    answer = place.desk.ask("predict", **place.asked, file=str(root / "it.png"))
    assert answer["outputs"]["shape"]["value"] == "(5, 7, 3)"
    (root / "0").write_bytes(b"a file")
    answer = place.desk.ask("predict", **place.asked, file="0")
    assert "number" in answer["outputs"]


def test_a_model_that_answers_bit_by_bit(place: Place) -> None:
    answer = place.predict("bits")
    assert answer["outputs"] == {"word": {"type": "text", "value": "two"}}
    assert 0 < answer["first_token_time_ms"] <= answer["inference_time_ms"]


@pytest.mark.parametrize(
    ("word", "code", "said"),
    [
        ("exit", "failed", "SystemExit: 5."),
        ("fail", "bad_plugin", "RuntimeError: no way"),
        ("odd", "bad_output", "models/tiny.py: 'x': 'video' is not a type of output."),
        ("list", "bad_output", "models/tiny.py: inference has to return a dict of outputs."),
        ("memory", "out_of_memory", "There is not enough memory for this."),
    ],
)
def test_what_a_model_does_wrong_ends_nothing(
    place: Place, word: str, code: str, said: str
) -> None:
    answer = place.predict(word)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert said in answer["error"]
    assert "\n" not in answer["error"]
    assert place.desk.ask("predict", **place.asked, sample=0)["ok"]


def test_a_plug_in_that_reads_takes_no_request_away(place: Place) -> None:
    assert place.predict("read")["outputs"]["read"]["value"] == ""
    assert place.desk.ask("forget")["ok"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"do": "dance"}, "bad_request"),
        ({}, "bad_request"),
        ({"do": "predict"}, "bad_request"),
        ({"do": "predict", "sample": -1}, "bad_request"),
        ({"do": "predict", "sample": True}, "bad_request"),
        ({"do": "predict", "sample": 0, "file": "a"}, "bad_request"),
        ({"do": "predict", "sample": 0, "run_id": "../../etc", "checkpoint": "x"}, "not_found"),
        ({"do": "samples"}, "bad_request"),
        ({"do": "samples", "dataset": "noise", "offset": -1}, "bad_request"),
        ({"do": "samples", "dataset": "noise", "split": "tset"}, "not_found"),
        ({"do": "samples", "dataset": "shapes", "split": "missing"}, "not_found"),
        ({"do": "dataset", "dataset": "../noise"}, "unknown_dataset"),
        ({"do": "dataset", "dataset": "mnist", "settings": {"pat": 1}}, "bad_setting"),
        ({"do": "dataset", "dataset": "mnist", "settings": {"path": "nowhere"}}, "wrong_input"),
    ],
)
def test_wrong_requests_are_answered(place: Place, request_: dict[str, Any], code: str) -> None:
    answer = place.desk.send(json.dumps({"id": "i", **request_}).encode())
    assert (answer["id"], answer["ok"], answer["code"]) == ("i", False, code)
    assert answer["error"].endswith((".", "?"))
    assert set(answer) == {"id", "ok", "error", "hint", "code"}


@pytest.mark.parametrize("line", [b"{", b"[1]", b"1", b"\xff\xfe", b"[" * 100_000, b'{"do": 1}'])
def test_lines_that_are_no_request(place: Place, line: bytes) -> None:
    answer = place.desk.send(line)
    assert (answer["id"], answer["ok"], answer["code"]) == (None, False, "bad_request")


def test_a_missing_and_an_altered_checkpoint(place: Place) -> None:
    copy = place.checkpoint.with_name("copy.pt")
    asked = {"run_id": place.run.run_id, "checkpoint": str(copy), "sample": 0}
    assert place.desk.ask("predict", **asked)["code"] == "no_sidecar"
    shutil.copy(f"{place.checkpoint}.json", f"{copy}.json")
    content = bytearray(place.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    answer = place.desk.ask("predict", **asked)
    assert (answer["code"], "was altered" in answer["error"]) == ("corrupt_checkpoint", True)
    copy.unlink()
    Path(f"{copy}.json").unlink()
    latest = place.run.checkpoints / "tiny-noise-latest.pt"
    assert latest.is_symlink()
    asked["checkpoint"] = str(latest)
    assert place.desk.ask("predict", **asked)["checkpoint"] == place.checkpoint.name


def test_samples_of_every_kind(place: Place) -> None:
    answer = place.desk.ask("samples", dataset="shapes", split="test", offset=0, limit=10)
    assert (answer["total"], answer["split"]) == (3, "test")
    assert answer["splits"] == {"train": 3, "validation": 3, "test": 3}
    good, bad, last = answer["samples"]
    assert bad["outputs"] == {}
    assert "row 1 is broken" in bad["error"]
    assert last["index"] == 2
    outputs = good["outputs"]
    sizes = {k: (v["width"], v["height"]) for k, v in outputs.items() if v["type"] == "image"}
    assert sizes == {
        "grey": (6, 4), "colour": (6, 4), "bool": (2, 2), "mel": (4, 3), "picture": (5, 2),
    }  # fmt: skip
    assert outputs["mel"]["range"] == [-8.0, 2.0]
    assert outputs["wave"]["value"] == "float32 [9]"
    assert outputs["wave (curve)"]["value"] == [[0.0] * 9]
    assert outputs["ids (curve)"]["value"] == [[0.0, 1.0, 2.0]]
    assert outputs["long"]["value"] == "float32 [5000]"
    assert "long (curve)" not in outputs
    assert outputs["table"]["value"] == "int64 [2, 3]"
    assert outputs["deep.a.0"] == {"type": "number", "value": 1}
    assert outputs["deep.b.left"] == {"type": "text", "value": "x"}
    assert outputs["nan"] == {"type": "number", "value": None}
    assert outputs["object"]["type"] == "text"


def test_what_a_data_set_is(place: Place) -> None:
    answer = place.desk.ask("dataset", dataset="shapes", settings={"x": 1})
    assert answer["splits"] == {"train": 3, "validation": 3, "test": 3}
    assert answer["path"] == str(place.workspace.root)
    assert answer["size"] > 1000
    assert answer["settings"] == {"x": 1}
    broken, *rows = answer["report"]
    assert broken["split"] == "missing"
    assert "no such split here" in broken["problem"]
    assert rows == [{"row": 3, "why": None}, "short"]
    assert place.desk.ask("dataset", dataset="noise")["path"] is None


def test_an_edited_data_set_is_read_again_and_shows_itself(place: Place) -> None:
    root = place.workspace.root
    plugin = root / "datasets" / "shown.py"
    plugin.write_text(NOISE, encoding="utf-8")
    first = place.desk.ask("samples", dataset="shown", split="validation", limit=1)
    assert set(first["samples"][0]["outputs"]) == {"x", "x (curve)", "y"}
    plugin.write_text(SHOWING, encoding="utf-8")
    splits = [
        place.desk.ask("samples", dataset="shown", split=name, limit=100)["samples"]
        for name in ("train", "validation")
    ]
    shown = [s["outputs"]["index"]["value"] for split in splits for s in split]
    # `show` is asked for the data set's own index, and the two parts are the whole
    assert sorted(shown) == list(range(64))
    assert splits[1][0]["outputs"]["x"]["names"] == ["x"]
    fewer = place.desk.ask("samples", dataset="shown", settings={"count": 16}, limit=100)
    assert fewer["splits"] == {"train": 14, "validation": 2}


def test_only_the_last_two_models_stay(place: Place) -> None:
    place.desk.ask("forget")
    assert place.desk.ask("forget")["forgotten"] is False
    names = ["one.pt", "two.pt", "three.pt"]
    for name in names:
        for end in ("", ".json"):
            shutil.copy(f"{place.checkpoint}{end}", place.run.checkpoints / f"{name}{end}")

    def is_warm(name: str) -> bool:
        path = str(place.run.checkpoints / name)
        return place.desk.ask("predict", run_id=place.run.run_id, checkpoint=path, sample=0)["warm"]

    assert [is_warm(n) for n in [*names, "three.pt", "two.pt", "one.pt", "two.pt"]] == [
        *(False, False, False), True, True, False, True,
    ]  # fmt: skip
    assert place.desk.ask("forget")["forgotten"] is True
    assert is_warm("two.pt") is False
    for name in names:
        for end in ("", ".json"):
            (place.run.checkpoints / f"{name}{end}").unlink()


def test_it_ends_with_its_input_and_without_a_reader(workspace: Workspace) -> None:
    with DeskProcess(workspace.root) as desk:
        assert desk.end() == 0
    with DeskProcess(workspace.root) as desk:
        assert desk.process.stdin is not None
        assert desk.process.stdout is not None
        desk.process.stdout.close()
        desk.process.stdin.write(b'{"id": 1, "do": "forget"}\n' * 2)
        desk.process.stdin.flush()
        assert desk.process.wait(60) == 0
