"""The digits made from scikit-learn: MNIST's files, MNIST's looks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.datasets.mnist import MNIST, Config
from tsuzuku.worker.digits import enlarge, make_digits


def test_makes_what_the_data_set_reads(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    target = tmp_path / "data/digits"
    make_digits(target)
    assert sorted(p.name for p in target.parent.iterdir()) == ["digits"]  # nothing left over
    train = MNIST(Config(path=str(target)), "train")
    validation = MNIST(Config(path=str(target)), "validation")
    assert (len(train), len(validation)) == (1500, 297)
    assert [train[i][1] for i in range(10)] == list(range(10))
    counts = np.bincount(list(train.labels) + list(validation.labels))
    assert counts.sum() == 1797
    assert counts.min() > 170
    pixels = train.images.numpy()
    # a margin, as in MNIST, save for the few whose mass is far off their middle
    assert (pixels[:, [0, 1, -1, -2]].max(axis=(1, 2)) > 0).mean() < 0.02
    assert pixels[:, 4:24, 4:24].sum() / pixels.sum() > 0.95
    assert pixels.max(axis=(1, 2)).min() > 200
    mass = pixels.astype(float)
    rows = (mass.sum(2) @ (np.arange(28) + 0.5)) / mass.sum((1, 2))
    assert abs(np.median(rows) - 14) < 0.5


def test_same_bytes_every_time_and_never_over_something(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    make_digits(tmp_path / "a")
    (tmp_path / "b").mkdir()
    make_digits(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    precious = tmp_path / "c" / "train-images-idx3-ubyte.gz"
    precious.parent.mkdir()
    precious.write_bytes(b"real")
    with pytest.raises(WrongInput, match="is there already"):
        make_digits(precious.parent)
    assert precious.read_bytes() == b"real"


def test_a_digit_is_enlarged_and_centred_by_mass() -> None:
    digit = np.zeros((8, 8))
    digit[3:5, 1] = 16  # left of the middle
    image = enlarge(digit).astype(float)
    assert image.shape == (28, 28)
    columns = image.sum(0) @ (np.arange(28) + 0.5) / image.sum()
    assert columns == pytest.approx(12, abs=1.0)  # moved right by 4, then the box is at the edge
    assert enlarge(np.zeros((8, 8))).max() == 0


def test_without_scikit_learn_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(TsuzukuError, match=r"needs the package scikit-learn.*tsuzuku\[demo\]"):
        make_digits(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
