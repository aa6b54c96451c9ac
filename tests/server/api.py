"""Talking to a real server in tests: plain httpx, and waiting for what has to come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

PATIENCE = 120.0


class Api:
    """The API of a served workspace with `tiny` and `noise`."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=120)

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        return self._checked(self.http.get(path, params=query), status)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return self._checked(self.http.post(path, json=body), status)

    def delete(self, path: str, status: int = 200) -> Any:
        return self._checked(self.http.delete(path), status)

    def start(self, status: int = 202, **more: Any) -> Any:
        body = {"model_name": "tiny", "dataset_name": "noise", **more}
        return self.post("/api/train/start", body, status)

    def resume(self, status: int = 202, **more: Any) -> Any:
        body = {"model_name": "tiny", "dataset_name": "noise", **more}
        return self.post("/api/train/resume", body, status)

    def run(self, run_id: str) -> Any:
        return self.get(f"/api/runs/{run_id}")

    def events(self, run_id: str | None = None, after: int = 0) -> list[Any]:
        query = {"run_id": run_id} if run_id else {}
        return self.get("/api/events", after=after, limit=10_000, **query)["events"]

    def wait(self, what: str, ready: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `ready` returns, once that is true."""
        until = time.monotonic() + seconds
        while not (found := ready()):
            if time.monotonic() > until:
                told = [(e["type"], e["payload"]) for e in self.events()][-15:]
                raise AssertionError(f"{what} did not come; the last events: {told}")
            time.sleep(0.03)
        return found

    def wait_for_status(self, run_id: str, *statuses: str) -> Any:
        def reached() -> Any:
            run = self.run(run_id)
            return run if run["status"] in statuses else None

        return self.wait(f"status {statuses} of {run_id}", reached)

    def wait_for_step(self, run_id: str, step: int) -> Any:
        def reached() -> Any:
            progress = self.get("/api/progress", run_id=run_id)
            return progress if progress["global_step"] >= step else None

        return self.wait(f"step {step} of {run_id}", reached)

    def _checked(self, answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, f"{answer.status_code}: {answer.text[:500]}"
        assert "Traceback" not in answer.text
        body = answer.json()
        if status >= 400:
            assert body.keys() == {"detail", "code", "hint"}
            assert body["detail"].endswith((".", "?", "!")), body
        return body
