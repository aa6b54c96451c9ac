"""The MNIST data set: reading real files, and refusing every kind of broken one."""

from __future__ import annotations

import ast
import gzip
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tsuzuku.datasets import mnist
from tsuzuku.datasets.mnist import MNIST, Config, read_images, read_labels

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    return header + values.astype(np.uint8).tobytes()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def write_all(folder: Path, separator: str = "-", suffix: str = ".gz", count: int = 5) -> Path:
    pack = gzip.compress if suffix else bytes
    folder.mkdir(parents=True)
    for prefix, n in (("train", count), ("t10k", count - 2)):
        images = folder / f"{prefix}-images{separator}idx3-ubyte{suffix}"
        labels = folder / f"{prefix}-labels{separator}idx1-ubyte{suffix}"
        images.write_bytes(pack(idx(pictures(n))))
        labels.write_bytes(pack(idx(np.arange(n) % 10)))
    return folder


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_every_spelling(tmp_path: Path, separator: str, suffix: str) -> None:
    folder = write_all(tmp_path / "d", separator, suffix)
    train = MNIST(Config(path=str(folder)), "train")
    validation = MNIST(Config(path=str(folder)), "validation")
    assert (len(train), len(validation)) == (5, 3)
    image, label = train[3]
    assert image.dtype == torch.float32
    assert image.shape == (28, 28)
    np.testing.assert_allclose(image.numpy(), pictures(5)[3] / 255, rtol=1e-6)
    assert label == 3
    assert type(label) is int
    image.zero_()  # an item is the caller's own: the data set stays as it was
    assert train[3][0].sum() > 0


def test_goes_through_a_loader_of_worker_processes(tmp_path: Path) -> None:
    data = MNIST(Config(path=str(write_all(tmp_path / "d"))), "train")
    images, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)))
    assert images.shape == (4, 28, 28)
    assert labels.tolist() == [0, 1, 2, 3]


def test_real_fashion_mnist() -> None:
    if not FASHION.is_dir():
        message = f"REAL DATA MISSING: {FASHION} (Debian's package dataset-fashion-mnist)"
        assert os.environ.get("CI") != "true", message
        pytest.skip(message)
    train = MNIST(Config(path=str(FASHION)), "train")
    validation = MNIST(Config(path=str(FASHION)), "validation")
    assert (len(train), len(validation)) == (60_000, 10_000)
    assert [train[i][1] for i in range(5)] == [9, 0, 0, 3, 0]
    assert np.bincount(list(train.labels)).tolist() == [6000] * 10
    assert train.images.float().mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert 0.0 <= train[0][0].min() < train[0][0].max() == 1.0


def test_the_first_place_that_exists_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path / "data/fashion-mnist", count=4)
    assert len(MNIST(Config(), "train")) == 4
    write_all(tmp_path / "data/mnist", count=6)
    assert len(MNIST(Config(), "train")) == 6
    assert len(MNIST(Config(path="data/fashion-mnist"), "train")) == 4


def test_missing_data_says_what_would_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advice = "tsuzuku data download mnist.*dataset-fashion-mnist"
    with pytest.raises(FileNotFoundError, match=f"nowhere is not a folder.*{advice}"):
        MNIST(Config(path=str(tmp_path / "nowhere")), "train")
    monkeypatch.setattr(mnist, "PLACES", (str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(FileNotFoundError, match=f"None of the folders.*{advice}"):
        MNIST(Config(), "train")
    folder = write_all(tmp_path / "d")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"no file t10k-labels-idx1-ubyte or.*{advice}"):
        MNIST(Config(path=str(folder)), "validation")
    assert len(MNIST(Config(path=str(folder)), "train")) == 5


def test_unknown_split_and_unknown_setting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test', only train and validation"):
        MNIST(Config(path=str(tmp_path)), "test")
    with pytest.raises(ValidationError, match="pth"):
        Config.model_validate({"pth": "x"})


GOOD = idx(pictures(3))
PACKED = gzip.compress(GOOD)
HUGE = bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" + GOOD[8:]
BROKEN = {
    "is empty": b"",
    "begins with 0x00000801 instead of 0x00000803": idx(np.arange(3)),
    "begins with 0x0d0a0a0a": b"\r\n\n\n<html>",
    "begins with 0x0000 instead": b"\0\0",
    "ends within its header": GOOD[:9],
    "has items of 28 x 27 pixels instead of 28 x 28": idx(pictures(3)[:, :, :27]),
    "declares 4294967295 items; 1 to": HUGE,
    "declares 0 items": idx(pictures(3)[:0]),
    "do not fit in a file of its size": GOOD[:-1],
    "has bytes after its 3 items": GOOD + b"\0",
    "gzip stream has no end": PACKED[:-9],
    "not an intact gzip file .*CRC": PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:],
    "not an intact gzip file .*Not a gzipped": PACKED + b"garbage",
    "truncated: it has 2351 of 2352 bytes": gzip.compress(GOOD[:-1]),
    "items, which do not fit": gzip.compress(GOOD[:4] + b"\0\x0f\0\0" + GOOD[8:]),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_malformed_images_are_refused(tmp_path: Path, problem: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(BROKEN[problem])
    with pytest.raises(ValueError, match=problem) as caught:
        read_images(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    assert message.count(". ") == 0


def test_damage_anywhere_in_a_gzip_file_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    refused = 0
    for at in range(0, len(PACKED), 7):
        path.write_bytes(PACKED[:at] + bytes([PACKED[at] ^ 0xFF]) + PACKED[at + 1 :])
        try:
            np.testing.assert_array_equal(read_images(path), pictures(3))
        except ValueError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            refused += 1
    assert refused > len(PACKED) / 7 * 0.95  # the time stamp in the header may be anything


def test_a_lying_header_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    # a million images declared, in a file that could just hold them, but holds three
    lie = GOOD[:4] + (1 << 20).to_bytes(4, "big") + GOOD[8:]
    noise = np.random.default_rng(0).bytes(900_000)
    path.write_bytes(gzip.compress(lie + noise, 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="truncated"):
        read_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_labels_and_counts_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.array([0, 9, 10])))
    with pytest.raises(ValueError, match=r"labels has the label 10 at item 2; only 0 to 9"):
        read_labels(path)
    folder = write_all(tmp_path / "d")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(4))))
    with pytest.raises(ValueError, match=r"holds 5 images, but train-labels\S+ beside it 4 labels"):
        MNIST(Config(path=str(folder)), "train")


def test_downloads_is_a_literal_that_names_what_the_reader_looks_for() -> None:
    tree = ast.parse(Path(mnist.__file__).read_bytes())
    found = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOWNLOADS"
    ]
    assert found == [mnist.DOWNLOADS]
    for name, entry in found[0].items():
        assert entry["path"] in mnist.PLACES, name
        assert {f["name"] for f in entry["files"]} == {
            f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")
        }


def test_the_file_is_plain() -> None:
    source = Path(mnist.__file__).read_text()
    assert not re.search(r"^\s*(from|import) tsuzuku", source, re.MULTILINE)
