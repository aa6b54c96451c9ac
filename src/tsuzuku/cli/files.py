"""Typed outputs that came as JSON, as the files that a worker would have written."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsuzuku.core.answers import Output
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree

ENDINGS = {"image": "png", "audio": "wav", "curves": "npy"}


def write_outputs(outputs: Mapping[str, Output], folder: Path, stem: str) -> Tree:
    """Write pictures, sound and curves to `folder/stem-name.*`; values, and paths where written."""
    answer: Tree = {}
    for name, output in outputs.items():
        ending = ENDINGS.get(output.type)
        if ending is None:
            answer[name] = output.value
            continue
        path = folder / f"{stem}-{name.replace('/', '-')}.{ending}"
        try:
            content = npy(output.value) if ending == "npy" else base64.b64decode(output.value)
        except (ValueError, TypeError) as error:
            raise TsuzukuError(f"The server's output {name!r} cannot be read: {error}.") from None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise WrongInput(f"{path} cannot be written: {error.strerror or error}.") from None
        answer[name] = str(path)
    return answer


def npy(rows: list[list[float | None]]) -> bytes:
    """Rows of numbers as a NumPy file of float64; None is NaN. Raises ValueError for others."""
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        raise ValueError("the curves differ in length")
    values: list[Any] = [math.nan if v is None else v for row in rows for v in row]
    try:
        data = struct.pack(f"<{len(values)}d", *values)
    except struct.error as error:
        raise ValueError(str(error)) from None
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({len(rows)}, {width}), }}"
    # the format wants the data to begin at a multiple of 64
    head += " " * (-(len(head) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode("latin-1") + data
