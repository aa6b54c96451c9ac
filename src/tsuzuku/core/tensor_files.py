"""Files of tensors, as other programs write them, opened without torch and without running
anything: `.pt`, `.pth` and `.ckpt` (torch's zip archives), and `.safetensors`."""

from __future__ import annotations

import json
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.pickle_outline import NoOutline, Stored, Unopened, outline, values
from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.core.unpacking import require_bounded

SIZES = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4},
    **{"int16": 2, "int8": 1, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16},
}
"""Bytes of a value."""
SAFETENSORS = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64"},
    **{"I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
}
MOST_HEADER = 32 << 20
"""Bytes of a pickle or a header: a hundred thousand tensors have room in it."""


@dataclass(frozen=True)
class TensorFile:
    """An opened file: what is in it, with the places of its tensors, and where their bytes are."""

    path: Path
    contents: Any
    """See `pickle_outline.outline`; of a safetensors file the tensors by name."""
    places: dict[str, str | tuple[int, int]]
    """Of every storage: its name in the archive, or the bytes from one place to another."""

    def read(self, keys: set[str]) -> dict[str, bytes]:
        """The bytes of some storages; raises CorruptCheckpoint if they cannot be read."""
        found: dict[str, bytes] = {}
        try:
            with self.path.open("rb") as file:
                archive = None
                for key in keys:
                    place = self.places[key]
                    if isinstance(place, tuple):
                        file.seek(place[0])
                        found[key] = file.read(place[1] - place[0])
                    else:
                        archive = archive or zipfile.ZipFile(file)
                        found[key] = archive.read(place)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise _refused(self.path, f"its values cannot be read ({error})") from None
        except Exception as error:  # zlib's own
            if isinstance(error, OSError | MemoryError):
                raise
            raise _refused(self.path, f"its values cannot be read ({error})") from None
        return found


def open_tensors(path: Path) -> TensorFile:
    """Look into a file; nothing of it is run, and no tensor is read.

    Raises CorruptCheckpoint, saying in one sentence why it cannot be used.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _refused(path, "it is no regular file")
        with path.open("rb") as file:
            head = file.read(16)
        if path.suffix == ".safetensors":
            return _safetensors(path)
        if head[:2] == b"PK":
            return _archive(path)
    except OSError as error:
        raise CorruptCheckpoint(f"{path.name} cannot be read: {error.strerror or error}.") from None
    if not head:
        raise _refused(path, "it is empty")
    if head[:1] == b"\x80":
        raise CorruptCheckpoint(
            f"{path.name} was refused: it is a bare pickle or of torch before 1.6.",
            "Save it anew: `torch.save(torch.load(FILE, weights_only=True), NEW)`.",
        )
    raise _refused(path, "it is no file of torch")


def _archive(path: Path) -> TensorFile:
    require_bounded(path)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            sizes = {part.filename: part.file_size for part in parts}
            pickles = [name for name in sizes if name.count("/") == 1 and name.endswith("data.pkl")]
            if len(sizes) != len(parts) or len(pickles) != 1:
                raise _refused(path, "it is no archive of torch")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}constants.pkl" in sizes:
                raise _refused(path, "it is TorchScript, a program and not a state")
            if sizes[pickles[0]] > MOST_HEADER:
                raise _refused(path, "its table of contents is too large")
            order = archive.read(f"{root}byteorder") if f"{root}byteorder" in sizes else b"little"
            contents = outline(archive.read(pickles[0]))
    except NoOutline as error:
        raise _refused(path, str(error)) from None
    except CorruptCheckpoint:
        raise
    except OSError:
        raise
    except Exception as error:  # whatever a damaged archive makes the reader stumble over
        raise _refused(path, f"it cannot be unpacked ({error})") from None
    if order != b"little":
        raise _refused(path, "its bytes are in the order of another machine")
    head = f"{root}data/"
    stored = {name.removeprefix(head): name for name in sizes if name.startswith(head)}
    _require_whole(path, contents, {key: sizes[name] for key, name in stored.items()})
    return TensorFile(path, contents, dict(stored))


def _require_whole(path: Path, contents: Any, sizes: dict[str, int]) -> None:
    """Every storage that a tensor is in has to be there, in the size that it claims."""
    for tensor in tensors_in(contents):
        if sizes.get(tensor.key) != tensor.count * SIZES[tensor.dtype]:
            raise _refused(path, f"it holds a tensor of {list(tensor.shape)} without its values")


def tensors_in(contents: Any) -> list[Stored]:
    """All tensors in a tree; a container that is in many places is looked into once."""
    found: list[Stored] = []
    ahead: list[Any] = [contents]
    seen: set[int] = set()
    while ahead:
        value = ahead.pop()
        if isinstance(value, Stored):
            found.append(value)
        elif (is_tree(value) or is_list(value)) and id(value) not in seen:
            seen.add(id(value))
            ahead += value.values() if is_tree(value) else value
    return found


def unopened_in(contents: Any) -> list[str]:
    """The names of classes whose objects are in a tree."""
    names: dict[str, None] = {}
    ahead: list[Any] = [contents]
    seen: set[int] = set()
    while ahead:
        value = ahead.pop()
        if isinstance(value, Unopened):
            names[value.name] = None
        elif (is_tree(value) or is_list(value)) and id(value) not in seen:
            seen.add(id(value))
            ahead += value.values() if is_tree(value) else value
    return sorted(names)


def _safetensors(path: Path) -> TensorFile:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise _refused(path, "it was cut, or is no safetensors file")
        try:
            header: Any = json.loads(file.read(length))
            tensors = [
                (str(name), _row(row, 8 + length, size))
                for name, row in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _refused(path, "its header makes no sense") from None
    places: dict[str, str | tuple[int, int]] = {}
    places |= {name: place for name, (_, place) in tensors}
    found = {
        name: Stored(stored.dtype, stored.shape, stored.stride, 0, name, stored.count)
        for name, (stored, _) in tensors
    }
    return TensorFile(path, found, places)


def _row(row: Any, base: int, size: int) -> tuple[Stored, tuple[int, int]]:
    """A tensor of a safetensors header; raises ValueError where its numbers do not agree."""
    dtype, shape = SAFETENSORS[row["dtype"]], tuple[int, ...](row["shape"])
    begin, end = row["data_offsets"]
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in (*shape, begin, end)):
        raise ValueError
    stride = tuple(values(shape[axis + 1 :]) for axis in range(len(shape)))
    count = values(shape)
    if end - begin != count * SIZES[dtype] or base + end > size or len(shape) > 64:
        raise ValueError
    return Stored(dtype, shape, stride, 0, "", count), (base + begin, base + end)


def _refused(path: Path, why: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{path.name} was refused: {why}.")
