"""Between its last word and its end a worker still holds its lock; nobody has to know that."""

from __future__ import annotations

import threading
from pathlib import Path

from api import Api

from plain_plugins import make_workspace
from servers import serving
from tsuzuku.core.lock import RunLock
from tsuzuku.core.workspace import Workspace


def test_a_preview_waits_for_the_worker_to_let_go(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace")
    with serving(root) as served:
        api = Api(served.url)
        run_id = api.start(epochs=1)["run_id"]
        api.wait_for_status(run_id, "completed")
        run = Workspace(root).run_dir(run_id)
        api.wait("the worker's end", lambda: run.worker() is None)
        lock = RunLock(run.lock)
        lock.acquire()
        threading.Timer(0.5, lock.release).start()
        pair = {"model_name": "tiny", "dataset_name": "noise"}
        answer = api.post("/api/train/resume/preview", {**pair, "additional_epochs": 1})
        assert answer["mode"] == "continue"
        assert answer["checkpoint"].startswith(run_id)
