"""Whether a data set is still the one that a checkpoint was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAMPLED = 1 << 16
"""Bytes that are read of each file, at its beginning and at its end."""
FILES = 2_000
"""Files whose contents are sampled; of the others only names and sizes count."""


def dataset_fingerprint(dataset: Any, settings: Mapping[str, Any]) -> str:
    """A hash over names, sizes and sampled contents of the files, and the number of samples.

    The files are those below the data set's `path` setting; a data set may say something better
    by a method `fingerprint()` of its own. Times do not count: a copy is the same data.
    """
    digest = hashlib.sha256()
    own = getattr(dataset, "fingerprint", None)
    digest.update(str(own()).encode() if callable(own) else str(len(dataset)).encode())
    path = settings.get("path") or getattr(dataset, "path", None)
    if not callable(own) and isinstance(path, str | Path):
        root = Path(path).expanduser()
        files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        for number, file in enumerate(files):
            size = file.stat().st_size
            digest.update(f"{file.relative_to(root)}\0{size}\0".encode())
            if number < FILES:
                digest.update(_sample(file, size))
    return digest.hexdigest()


def _sample(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        head = file.read(SAMPLED)
        if size <= SAMPLED:
            return head
        file.seek(max(size - SAMPLED, 0))
        return head + file.read(SAMPLED)
