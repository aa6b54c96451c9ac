"""MNIST (LeCun, Cortes & Burges, 1998) and what shares its files, such as Fashion-MNIST (2017).

A data-set plug-in in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `datasets/` folder works just as well.
"""

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

DATASET = "MNIST"

# What `data download` fetches: read with ast.literal_eval, so a pure literal it must stay.
DOWNLOADS = {
    "mnist": {
        "path": "data/mnist",
        "mirrors": [
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        "files": [
            {
                "name": "train-images-idx3-ubyte.gz",
                "size": 9912422,
                "sha256": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "md5": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            },
            {
                "name": "train-labels-idx1-ubyte.gz",
                "size": 28881,
                "sha256": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "md5": "d53e105ee54ea40749a09fcbcd1e9432",
            },
            {
                "name": "t10k-images-idx3-ubyte.gz",
                "size": 1648877,
                "sha256": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "md5": "9fb629c4189551a2d022fa330f9573f3",
            },
            {
                "name": "t10k-labels-idx1-ubyte.gz",
                "size": 4542,
                "sha256": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "md5": "ec29112dd5afa0611ce80d1b7f02629c",
            },
        ],
    },
    "fashion-mnist": {
        "path": "data/fashion-mnist",
        "mirrors": [
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ],
        "files": [
            {
                "name": "train-images-idx3-ubyte.gz",
                "size": 26421880,
                "sha256": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "md5": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            },
            {
                "name": "train-labels-idx1-ubyte.gz",
                "size": 29515,
                "sha256": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "md5": "25c81989df183df01b3e8a0aad5dffbe",
            },
            {
                "name": "t10k-images-idx3-ubyte.gz",
                "size": 4422102,
                "sha256": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "md5": "bef4ecab320f06d8554ea6380940ec79",
            },
            {
                "name": "t10k-labels-idx1-ubyte.gz",
                "size": 5148,
                "sha256": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "md5": "bb300cfdad3c16e7a12a480ee83cd310",
            },
        ],
    },
}

PLACES = ("data/mnist", "data/fashion-mnist", "data/digits", "/usr/share/datasets/fashion-mnist")
"""Where the files are looked for without a `path`; `data make digits` fills the
third, the last is Debian's package."""

SIDE = 28
"""Height and width of an image, in pixels."""

MAX_ITEMS = 1 << 20
"""More than any relative of MNIST has (EMNIST: 814,255): 822 MB of pixels at most."""

MAX_DEFLATE_RATIO = 1032
"""Deflate cannot shrink anything further (zlib's technical notes), so a smaller gzip file lies."""

ADVICE = (
    "`tsuzuku data download mnist` fetches the files, Debian's package dataset-fashion-mnist "
    "brings the ones of Fashion-MNIST"
)


class Config(BaseModel):
    """Settings of the data set."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = None
    """Folder of the four IDX files; without it, the first of `PLACES` that exists."""


class MNIST(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """60,000 images to train on and 10,000 to validate with, of ten classes.

    Item `i` is `(image, label)`: a float32 tensor [28, 28] in 0..1 (0 is the background) and an
    int in 0..9. The split "validation" reads the `t10k` files: the reference validates on them.

    Raises FileNotFoundError if a file is missing, ValueError if one is malformed.
    """

    splits = ("train", "validation")

    def __init__(self, config: Config, split: str) -> None:
        if split not in self.splits:
            raise ValueError(f"There is no split {split!r}, only {' and '.join(self.splits)}.")
        prefix = "train" if split == "train" else "t10k"
        folder = self.path = find_folder(config.path)
        images_path = find_file(folder, f"{prefix}-images", "idx3-ubyte")
        labels_path = find_file(folder, f"{prefix}-labels", "idx1-ubyte")
        images = read_images(images_path)
        labels = read_labels(labels_path)
        if len(images) != len(labels):
            raise ValueError(
                f"{images_path} holds {len(images)} images, but {labels_path.name} beside it "
                f"{len(labels)} labels."
            )
        # Bytes stay bytes: 47 MB instead of 188 for the 60,000, shared by forked loader workers.
        self.images = torch.as_tensor(images)
        self.labels = labels.tobytes()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index].to(torch.float32).div_(255), self.labels[index]


def find_folder(path: str | None) -> Path:
    """The folder `path`, or the first of `PLACES`; relative ones start at the workspace.

    Raises FileNotFoundError with what to do about it.
    """
    if path is not None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder; {ADVICE}.")
        return folder
    for place in PLACES:
        # a download that failed leaves an empty folder
        if any(Path(place).glob("train-images*")):
            return Path(place)
    raise FileNotFoundError(f"None of the folders {', '.join(PLACES)} has the data; {ADVICE}.")


def find_file(folder: Path, stem: str, kind: str) -> Path:
    """The file `<stem>-<kind>` or `<stem>.<kind>` in `folder`, plain or `.gz`.

    Both spellings are about: unpacking the original archives on Windows made the dot.
    Raises FileNotFoundError if there is none.
    """
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{separator}{kind}{suffix}"
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{folder} has no file {stem}-{kind} or {stem}.{kind}, plain or .gz; {ADVICE}."
    )


def read_images(path: Path) -> NDArray[np.uint8]:
    """The images of an IDX file: uint8 [N, 28, 28]. Raises ValueError if it is malformed."""
    return read_idx(path, (SIDE, SIDE)).reshape(-1, SIDE, SIDE)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The labels of an IDX file: uint8 [N], 0..9. Raises ValueError if it is malformed."""
    labels = read_idx(path, ())
    if labels.max() > 9:
        at = int(labels.argmax())
        raise ValueError(f"{path} has the label {labels[at]} at item {at}; only 0 to 9 exist.")
    return labels


def read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of an IDX file of unsigned bytes, flat, plain or gzip (told by its first bytes).

    Its header: two zero bytes, 0x08 for unsigned bytes, the number of dimensions, then each
    dimension as a big-endian 32-bit number; the first one counts the items.
    Raises ValueError, with one sentence that names the file, for anything else.
    """
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty.")
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read_stream(file, path, item_shape, largest=size)
        try:
            with gzip.open(file) as stream:
                # It reads like any binary file, without being declared as one.
                unpacked = cast(BinaryIO, stream)
                return _read_stream(unpacked, path, item_shape, size * MAX_DEFLATE_RATIO)
        except EOFError as error:
            raise ValueError(f"{path} is truncated: its gzip stream has no end.") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is not an intact gzip file ({error}).") from error


def _read_stream(
    stream: BinaryIO, path: Path, item_shape: tuple[int, ...], largest: int
) -> NDArray[np.uint8]:
    """Header and content; `largest` is the most bytes that the file can possibly hold."""
    rank = 1 + len(item_shape)
    header = stream.read(4 + 4 * rank)
    magic = bytes([0, 0, 8, rank])
    if header[:4] != magic:
        raise ValueError(f"{path} begins with 0x{header[:4].hex()} instead of 0x{magic.hex()}.")
    if len(header) < 4 + 4 * rank:
        raise ValueError(f"{path} is truncated: it ends within its header.")
    count, *shape = (int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    if tuple(shape) != item_shape:
        raise ValueError(
            f"{path} has items of {' x '.join(map(str, shape))} pixels instead of {SIDE} x {SIDE}."
        )
    if not 0 < count <= MAX_ITEMS:
        raise ValueError(f"{path} declares {count} items; 1 to {MAX_ITEMS} are possible.")
    declared = count * int(np.prod(item_shape, dtype=np.int64))
    if len(header) + declared > largest:
        raise ValueError(f"{path} declares {count} items, which do not fit in a file of its size.")
    content = _read_at_most(stream, declared)
    if len(content) < declared:
        raise ValueError(f"{path} is truncated: it has {len(content)} of {declared} bytes.")
    if stream.read(1):
        raise ValueError(f"{path} has bytes after its {count} items.")
    return np.frombuffer(content, dtype=np.uint8)


def _read_at_most(stream: BinaryIO, size: int) -> bytearray:
    """Memory grows with what is really there, not with what a header says."""
    content = bytearray()
    while len(content) < size:
        chunk = stream.read(min(1 << 20, size - len(content)))
        if not chunk:
            break
        content += chunk
    return content
