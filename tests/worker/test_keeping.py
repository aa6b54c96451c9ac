"""A training that compresses its older checkpoints, and goes on from one of them."""

from __future__ import annotations

import attempts
import torch

from tsuzuku.core import checkpoint_files
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.worker.check import first_difference, verify

COMPRESS = ["checkpoint.compress_after_n=1", "models.tiny.hidden=512", "scheduler=none"]


def test_older_checkpoints_are_compressed_and_resumed_from(
    workspace: Workspace, store: Store
) -> None:
    plain = attempts.straight(workspace, store, "num_epochs=4", *COMPRESS[1:])
    run = attempts.straight(workspace, store, "num_epochs=4", *COMPRESS)
    files, odd = checkpoint_files.in_folder(run.checkpoints)
    assert odd == []
    kinds = [f.info.get("compression") for f in files]
    links = [f.path.stat().st_nlink for f in files]
    # the best shares its bytes with its other name, the newest is to be at hand
    expected = ["deflate" if n == 1 else None for n in links[:-1]] + [None]
    assert kinds == expected
    assert "deflate" in kinds
    for file in files:
        assert verify(file.path) == "hash, structure and weights"
        assert first_difference(file.path, plain.checkpoints / file.name) is None
        (row,) = store.checkpoints(run_id=run.run_id, name=file.name)
        assert (row.size, row.sha256) == (file.info["size"], file.info["sha256"])
        assert row.size == file.path.stat().st_size
    older = next(f for f in files if f.info.get("compression") == "deflate")
    assert torch.load(older.path, weights_only=True)["epoch"] == older.epoch
    branch = attempts.resume(workspace, store, f"{run.run_id}/{older.name}", "num_epochs=4")
    assert attempts.attempt(workspace, branch) == 0, attempts.said(branch)
    last = files[-1]
    found = first_difference(branch.checkpoints / last.name, last.path)
    assert found is None or found.startswith("metadata")
