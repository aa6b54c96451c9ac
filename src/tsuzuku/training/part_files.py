"""The parts of a sharded checkpoint: safetensors files, as torch.distributed.checkpoint has them.

A part holds, of every sharded tensor, the piece that one rank had, and in its header under
`DCP_SHARDING_INFO` where in the whole tensor the piece belongs. torch's own
`HuggingFaceStorageReader` reads such a folder, too.

They are not written by torch's `HuggingFaceStorageWriter`: it makes one string of bytes of the
whole part beside the copy that it is made of, so that a host needs the memory twice; what it has
written would have to be read again for its SHA-256; a full disk reaches the caller as text within
a `CheckpointException`; and it wants DTensors, which a copy in host memory is not. Its default
writer keeps its index as a pickle. Nor is its reader used: each rank would open and plan over the
parts of all, where a tensor that is taken by its rows needs no plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from tsuzuku.core.errors import CorruptCheckpoint, TsuzukuError

TYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
}
NAMES = {name: kind for kind, name in TYPES.items()}
WHERE = "DCP_SHARDING_INFO"
CHUNK = 16 << 20
"""Bytes that are written at once."""


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: Any, /) -> int: ...


def write_part(
    file: Sink, pieces: Mapping[str, torch.Tensor], offsets: Mapping[str, Sequence[int]]
) -> None:
    """Write pieces of tensors, in host memory, by their names and by where they begin in the whole.

    Nothing is copied but what is not contiguous. Raises TsuzukuError for a type that the format
    does not know.
    """
    # the widest first, as every writer of the format has it: so each is aligned
    names = sorted(pieces, key=lambda name: (-pieces[name].element_size(), name))
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "pt",
            "DCP_VERSION": "1.0",
            WHERE: json.dumps({name: {"saved_offsets": list(offsets[name])} for name in names}),
        }
    }
    at = 0
    for name in names:
        piece = pieces[name]
        if piece.dtype not in TYPES:
            raise TsuzukuError(
                f"{name} is of the type {piece.dtype}, which a part of a checkpoint cannot hold.",
                "Set training.distributed.sharded_save to false.",
                code="unsafe_state",
            )
        end = at + piece.numel() * piece.element_size()
        shape = list(piece.shape)
        header[name] = {"dtype": TYPES[piece.dtype], "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        if pieces[name].numel():
            flat: Any = pieces[name].contiguous().reshape(-1).view(torch.uint8).numpy()
            raw = memoryview(flat)
            for begin in range(0, len(raw), CHUNK):
                file.write(raw[begin : begin + CHUNK])


class Scattered:
    """A tensor whose pieces are in parts; what is asked for is read then."""

    def __init__(self, name: str, dtype: torch.dtype, shape: torch.Size) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self._pieces: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = []

    def add(self, piece: Any, begin: tuple[int, ...]) -> None:
        """`piece`: a slice of safetensors that begins there."""
        size = tuple(piece.get_shape())
        inside = len(size) == len(begin) == len(self.shape) and all(
            b >= 0 and b + s <= whole for b, s, whole in zip(begin, size, self.shape, strict=True)
        )
        if not inside or NAMES.get(piece.get_dtype()) != self.dtype:
            raise CorruptCheckpoint(f"The parts of a checkpoint disagree about {self.name}.")
        self._pieces.append((piece, begin, size))

    def require_all(self) -> None:
        """Raise CorruptCheckpoint unless the pieces make up the whole, each value once."""
        there = sum(math.prod(size) for _, _, size in self._pieces)
        corners = {begin for _, begin, size in self._pieces if math.prod(size)}
        pieces = sum(1 for _, _, size in self._pieces if math.prod(size))
        if there != math.prod(self.shape) or len(corners) != pieces:
            raise CorruptCheckpoint(f"The parts of a checkpoint do not make up all of {self.name}.")

    def whole(self) -> torch.Tensor:
        """All of it."""
        return self.box((0,) * len(self.shape), tuple(self.shape))

    def box(self, begin: Sequence[int], size: Sequence[int]) -> torch.Tensor:
        """What lies from `begin` on in each dimension: only that is read."""
        found = torch.empty(tuple(size), dtype=self.dtype)
        for piece, at, length in self._pieces:
            low = [max(a, b) for a, b in zip(at, begin, strict=True)]
            ends = zip(at, length, begin, size, strict=True)
            high = [min(a + n, b + m) for a, n, b, m in ends]
            if any(h <= lo for lo, h in zip(low, high, strict=True)):
                continue
            there = tuple(slice(lo - a, h - a) for lo, h, a in zip(low, high, at, strict=True))
            here = tuple(slice(lo - b, h - b) for lo, h, b in zip(low, high, begin, strict=True))
            found[here] = piece[there if there else ...]
        return found


def opened(
    folder: Path, files: Sequence[str], tensors: Mapping[str, tuple[torch.dtype, torch.Size]]
) -> dict[str, Scattered]:
    """The tensors of a folder of parts. The files stay open: deleted, they can still be read.

    Raises FileNotFoundError where one is not there, CorruptCheckpoint where they do not hold what
    they should, each value of it once.
    """
    found = {name: Scattered(name, *what) for name, what in tensors.items()}
    opening: Any = safe_open  # its stubs say nothing
    for file in files:
        path = folder / file
        if not path.exists():
            raise FileNotFoundError(path)
        try:
            part = opening(str(path), framework="pt")
            facts: dict[str, str] = part.metadata() or {}
            where: dict[str, Any] = json.loads(facts.get(WHERE, "{}"))
            for name in part.keys():  # noqa: SIM118
                if name in found:
                    begin = tuple(int(b) for b in where[name]["saved_offsets"])
                    found[name].add(part.get_slice(name), begin)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise CorruptCheckpoint(f"{folder.name}/{file} cannot be opened: {said}.") from None
    for tensor in found.values():
        tensor.require_all()
    return found
