"""Makes a small data set in MNIST's files from the handwritten digits of scikit-learn.

The last resort of a demonstration where nothing can be downloaded: 1,797 real digits of 8 x 8
pixels (E. Alpaydin & C. Kaynak, 1998, UCI Machine Learning Repository).
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.workspace import sync_folder

TRAIN_COUNT = 1500
"""The first so many digits are for training, the other 297 for validation: other writers'."""

SIDE = 28
BOX = 20
"""MNIST fits each digit in a box of 20 x 20 pixels within its 28 x 28."""


def make_digits(target: Path) -> None:
    """Writes MNIST's four files (gzip) into the folder `target`, which appears as a whole.

    The same input gives the same bytes. Raises WrongInput if `target` is there and not empty
    (real data may be in it), TsuzukuError (`missing_package`) without scikit-learn.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise WrongInput(f"{target} is there already.", "Choose a folder that is new or empty.")
    images, labels = _load()
    train, validation = slice(None, TRAIN_COUNT), slice(TRAIN_COUNT, None)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        for prefix, part in (("train", train), ("t10k", validation)):
            _write(temporary / f"{prefix}-images-idx3-ubyte.gz", images[part])
            _write(temporary / f"{prefix}-labels-idx1-ubyte.gz", labels[part])
        temporary.chmod(0o755)
        sync_folder(temporary)
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [1797, 28, 28] and labels [1797], both uint8."""
    try:
        # scikit-learn is not typed
        from sklearn.datasets import load_digits  # pyright: ignore[reportUnknownVariableType]
    except ImportError as error:
        raise TsuzukuError(
            "Making digits needs the package scikit-learn, which is not installed.",
            'Install it: pip install "tsuzuku[demo]".',
            code="missing_package",
        ) from error
    bunch = cast(Any, load_digits())
    images = np.stack([enlarge(image) for image in bunch.images])
    return images, np.asarray(bunch.target, dtype=np.uint8)


def enlarge(digit: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A digit [8, 8] of 0..16 as MNIST would have it: uint8 [28, 28].

    It is enlarged (bicubic) to the box, then shifted so that its centre of mass is the middle of
    the image, as far as the box stays inside.
    """
    small = Image.fromarray((digit * (255 / 16)).astype(np.float32))
    box = np.asarray(small.resize((BOX, BOX), Image.Resampling.BICUBIC)).clip(0, 255)
    positions = np.arange(BOX) + 0.5
    mass = max(float(box.sum()), 1.0)
    image = np.zeros((SIDE, SIDE), dtype=np.uint8)
    top, left = (
        int(np.clip(round(SIDE / 2 - float(box.sum(axis=axis) @ positions) / mass), 0, SIDE - BOX))
        for axis in (1, 0)
    )
    image[top : top + BOX, left : left + BOX] = box.round()
    return image


def _write(path: Path, values: NDArray[np.uint8]) -> None:
    """An IDX file of unsigned bytes: magic number, dimensions (big endian), values."""
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    # No time in the gzip header: the fingerprint of the data set must not depend on the clock.
    with path.open("wb") as file:
        file.write(gzip.compress(header + values.tobytes(), mtime=0))
        file.flush()
        os.fsync(file.fileno())
