"""Typed outputs that came as JSON, as the files that a worker would have written."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsuzuku.core.answers import Output
from tsuzuku.core.curve_files import files_of
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree, is_list

ENDINGS = {"image": "png", "audio": "wav", "curves": "npy"}


def write_outputs(outputs: Mapping[str, Output], folder: Path, stem: str) -> Tree:
    """Write pictures, sound and curves to `folder/stem-name.*`; values, and paths where written.

    Curves with names are also written as texts, which are called `name.csv` and `name.jsonl`.
    """
    answer: Tree = {}
    for name, output in outputs.items():
        ending = ENDINGS.get(output.type)
        if ending is None:
            answer[name] = output.value
            continue
        path = folder / f"{stem}-{name.replace('/', '-')}.{ending}"
        try:
            content = npy(output.value) if ending == "npy" else base64.b64decode(output.value)
            texts = _texts(output) if ending == "npy" else {}
        except (ValueError, TypeError) as error:
            raise TsuzukuError(f"The server's output {name!r} cannot be read: {error}.") from None
        answer[name] = _written(path, content)
        for kind, text in texts.items():
            answer[f"{name}.{kind}"] = _written(path.with_suffix(f".{kind}"), text.encode())
    return answer


def _texts(output: Output) -> dict[str, str]:
    extra = output.model_extra or {}
    names, fps = extra.get("names"), extra.get("fps")
    if not is_list(names) or len(names) != len(output.value):
        return {}
    rate = float(fps) if isinstance(fps, int | float) and fps > 0 else None
    return files_of(list(zip(*output.value, strict=True)), [str(n) for n in names], rate)


def _written(path: Path, content: bytes) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise WrongInput(f"{path} cannot be written: {error.strerror or error}.") from None
    return str(path)


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
