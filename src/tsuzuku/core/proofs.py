"""Whether resuming a model and a data set was proven exact, and whether that still holds."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.preview_answers import ProofOnRecord
from tsuzuku.core.store import Store
from tsuzuku.core.trees import is_tree


def proof_on_record(store: Store, model: PluginFile, dataset: PluginFile) -> ProofOnRecord | None:
    """The newest verdict of `prove` about this pair; None if there is none."""
    rows = store.proofs(model_name=model.name, dataset_name=dataset.name)
    if not rows:
        return None
    verdict: dict[str, Any] = rows[0]["verdict"]
    source: Any = verdict.get("source_sha256")
    known: dict[str, Any] = source if is_tree(source) else {}
    stale = [p.label for p in (model, dataset) if known.get(p.label) != p.sha256()]
    if verdict.get("pytorch_version") not in (None, installed_torch()):
        stale.append("torch")
    return ProofOnRecord(
        exact=bool(verdict.get("exact")),
        current=not stale,
        stale_because=stale,
        kills=int(verdict.get("kills") or 0),
        steps=int(verdict.get("steps") or 0),
        time=float(verdict.get("time") or 0.0),
    )


def installed_torch() -> str:
    """The installed torch, without loading it."""
    try:
        return importlib.metadata.version("torch").split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
