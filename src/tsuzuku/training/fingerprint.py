"""Whether a data set is still the one that a checkpoint was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsuzuku.core.data_files import Survey, survey


def files_of(
    dataset: Any, settings: Mapping[str, Any], known: Survey | None = None
) -> Survey | None:
    """The files below the data set's `path`; None where it names none. `known` as in `survey`."""
    path = settings.get("path") or getattr(dataset, "path", None)
    return survey(Path(path).expanduser(), known) if isinstance(path, str | Path) else None


def dataset_fingerprint(dataset: Any, files: Survey | None) -> str:
    """A hash over names, sizes and sampled contents of the files, and the number of samples.

    A data set may say something better by a method `fingerprint()` of its own. Times do not count:
    a copy is the same data.
    """
    digest = hashlib.sha256()
    own = getattr(dataset, "fingerprint", None)
    if callable(own):
        digest.update(str(own()).encode())
    else:
        digest.update(f"{len(dataset)}\0{files.contents if files else ''}".encode())
    return digest.hexdigest()
