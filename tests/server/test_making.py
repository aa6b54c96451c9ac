"""Data sets over HTTP: made with progress, looked at one by one, and what is wrong with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api import Api

from plain_plugins import make_workspace
from servers import serving

GRUMBLING = '''\
"""Samples that are numbers; one of them cannot be read, and it says so."""


class Grumbling:
    report = [{"row": 3, "id": "c", "problem": "is no number", "used": False}, "and it is old"]

    def __init__(self, config, split):
        pass

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 1:
            raise ValueError("no number")
        return float(index)
'''


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    root = make_workspace(tmp_path_factory.mktemp("making") / "workspace")
    (root / "datasets" / "grumbling.py").write_text(GRUMBLING, encoding="utf-8")
    with serving(root, "--no-dashboard") as served:
        yield Api(served.url)


def test_making_tells_how_far_it_is(api: Api) -> None:
    made: list[Any] = []
    body = {"dataset_name": "speech", "text": "One line.\nAnother.", "count": 4}
    maker = threading.Thread(target=lambda: made.append(api.post("/api/dataset/make", body)))
    maker.start()
    while not (making := api.get("/api/datasets", details=False)["making"]):
        assert maker.is_alive()
    assert making == ["speech"]
    assert api.post("/api/dataset/make", body, 409)["code"] == "already_running"
    maker.join()
    assert made == [{"message": "data/speech"}]
    assert api.get("/api/datasets", details=False)["making"] == []
    told = [e["payload"] for e in api.events() if e["payload"].get("dataset") == "speech"]
    assert told[0]["made"] == 0
    assert told[0]["total"] > 1
    assert told[-1]["done"] is True


def test_a_making_that_fails_is_an_error_event(api: Api) -> None:
    text = {"dataset_name": "speech", "text": "漢字"}
    refused = api.post("/api/dataset/make", text, 400)
    errors = [e["payload"] for e in api.events() if e["type"] == "error"]
    assert errors[-1]["dataset"] == "speech"
    assert refused["detail"] in errors[-1]["message"]
    assert api.get("/api/datasets", details=False)["making"] == []


def test_one_data_set_alone(api: Api) -> None:
    (noise,) = api.get("/api/datasets", dataset_name="noise")["datasets"]
    assert noise["name"] == "noise"
    assert sum(noise["splits"].values()) == 64
    assert api.get("/api/datasets", dataset_name="nothing")["datasets"] == []


def test_bad_rows_keep_their_shape(api: Api) -> None:
    (found,) = api.get("/api/datasets", dataset_name="grumbling")["datasets"]
    row = {"row": 3, "id": "c", "problem": "is no number", "used": False}
    assert found["report"] == [row, "and it is old"]


def test_a_sample_that_cannot_be_read_says_why(api: Api) -> None:
    path = "/api/datasets/grumbling/samples"
    both = [api.get(path, split=split, limit=8) for split in ("train", "validation")]
    samples = [sample for answer in both for sample in answer["samples"]]
    (broken,) = [sample for sample in samples if sample["error"]]
    assert len(samples) == 8
    assert "no number" in broken["error"]
    assert not broken["outputs"]


def test_made_digits_are_found_without_a_setting(api: Api) -> None:
    assert api.post("/api/dataset/make", {"dataset_name": "digits"})["message"] == "data/digits"
    (mnist,) = api.get("/api/datasets", dataset_name="mnist")["datasets"]
    assert not mnist["error"]
    assert Path(mnist["path"]).name == "digits"
    assert mnist["exists"] is True
    assert mnist["size_mb"] > 0
