"""The fingerprint changes with the data, and only with the data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tsuzuku.core.data_files import SAMPLED, SAMPLED_FILES
from tsuzuku.training.fingerprint import dataset_fingerprint, files_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    (found / "wavs").mkdir(parents=True)
    (found / "list.csv").write_text("a|b\n", encoding="utf-8")
    (found / "wavs" / "あ.wav").write_bytes(bytes(1000))
    (found / "large.bin").write_bytes(bytes(3 * SAMPLED))
    return found


def fingerprint(dataset: Any, settings: dict[str, Any]) -> str:
    return dataset_fingerprint(dataset, files_of(dataset, settings))


def of(folder: Path, samples: int = 10) -> str:
    return fingerprint(range(samples), {"path": str(folder)})


def test_a_copy_elsewhere_with_other_times_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    os.utime(copy / "list.csv", (0, 0))
    assert of(copy) == of(folder)
    assert of(folder) == of(folder)


def test_every_change_of_the_data_shows(folder: Path) -> None:
    def truncate() -> None:
        (folder / "list.csv").write_text("a|c\n", encoding="utf-8")

    def head() -> None:
        flip(folder / "large.bin", 0)

    def tail() -> None:
        flip(folder / "large.bin", 3 * SAMPLED - 1)

    def rename() -> None:
        (folder / "wavs" / "あ.wav").rename(folder / "wavs" / "い.wav")

    def grow() -> None:
        with (folder / "large.bin").open("ab") as file:
            file.write(b"x")

    def add() -> None:
        (folder / "empty").touch()

    def remove() -> None:
        (folder / "empty").unlink()
        (folder / "list.csv").unlink()

    seen = {of(folder)}
    for change in (truncate, head, tail, rename, grow, add, remove):
        change()
        now = of(folder)
        assert now not in seen, change.__name__
        seen.add(now)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_every_part_of_a_file_up_to_twice_the_sample_counts(folder: Path) -> None:
    path = folder / "edge.bin"
    for size in (SAMPLED, SAMPLED + 1, 2 * SAMPLED):
        path.write_bytes(bytes(size))
        before = of(folder)
        for place in {0, SAMPLED - 1, size - SAMPLED, size - 1, size // 2}:
            flip(path, place)
            assert of(folder) != before, (size, place)
            flip(path, place)
        assert of(folder) == before


def test_the_number_of_samples_counts() -> None:
    assert fingerprint(range(3), {}) != fingerprint(range(4), {})


def test_a_path_that_is_a_file_a_link_or_nothing_is_fine(folder: Path, tmp_path: Path) -> None:
    one = of(folder / "list.csv")
    (folder / "list.csv").write_text("other", encoding="utf-8")
    assert of(folder / "list.csv") != one
    (folder / "broken").symlink_to("nowhere")
    of(folder)
    of(tmp_path / "nowhere")
    fingerprint(range(3), {"path": 5})


def test_a_data_set_may_speak_for_itself(folder: Path) -> None:
    class Own(list[int]):
        def __init__(self, word: str) -> None:
            super().__init__()
            self.word = word

        def fingerprint(self) -> str:
            return self.word

    settings = {"path": str(folder)}
    before = fingerprint(Own("a"), settings)
    (folder / "list.csv").write_text("changed", encoding="utf-8")
    assert fingerprint(Own("a"), settings) == before
    assert fingerprint(Own("b"), settings) != before


def test_of_very_many_files_all_names_and_sizes_count(tmp_path: Path) -> None:
    for number in range(SAMPLED_FILES + 2):
        (tmp_path / f"{number:05}").touch()
    before = of(tmp_path)
    (tmp_path / f"{SAMPLED_FILES + 1:05}").write_bytes(b"x")
    assert of(tmp_path) != before
