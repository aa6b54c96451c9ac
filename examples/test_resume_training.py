"""Tests over HTTP that a stopped training resumes as if nothing had happened.

HTTP だけを使い、停止した学習が何事もなかったように再開されることを検査します。

    python examples/test_resume_training.py                 # a server at http://127.0.0.1:8000
    python examples/test_resume_training.py --own-server    # its own, in a temporary workspace

It trains a model for a moment, stops it, resumes it, trains the same once more without stopping,
and compares the curves. It needs httpx and nothing else; the server has to be idle, and keeps the
two runs. Exit code: 0 if every check held, 1 if one did not, 2 if it could not be checked.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 300.0
"""Seconds that one step of a training may take."""

LOG_INTERVAL = 5
MEASURED = {"samples_per_second"}
"""Curves that tell of the machine, and not of the training."""

FINAL = ("stopped", "completed", "failed", "crashed")

Wish = dict[str, Any]


class Unable(Exception):
    """It cannot be checked any further."""


class Checks:
    """Prints each check with its outcome, and counts those that did not hold."""

    def __init__(self) -> None:
        self.count = self.failed = 0

    def __call__(self, holds: bool, japanese: str, english: str, seen: object = "") -> None:
        self.count += 1
        self.failed += not holds
        print(f"{'✓' if holds else '✗'} {japanese} / {english}", flush=True)
        if not holds:
            print(f"    {seen}", flush=True)


class Server:
    """The few calls that are needed."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=60)

    def post(self, path: str, body: Wish | None = None) -> httpx.Response:
        return self.http.post(f"/api/{path}", json=body)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(f"/api/{path}", params=query)
        if answer.is_error:
            raise Unable(f"GET /api/{path}: {problem(answer)}")
        return answer.json()

    def wait(self, run_id: str, what: str, ready: Callable[[], Any]) -> Any:
        """What `ready` returns, once that is true. Raises Unable when the run ends before."""
        until = time.monotonic() + PATIENCE
        while True:
            run = self.get(f"runs/{run_id}")
            if found := ready():
                return found
            if run["status"] in FINAL:
                raise Unable(f"{run_id} is {run['status']} before {what}: {run['message']}")
            if time.monotonic() > until:
                raise Unable(f"{what} did not come within {PATIENCE:g} seconds.")
            time.sleep(0.05)

    def wait_for_status(self, run_id: str, status: str) -> None:
        self.wait(run_id, status, lambda: self.get(f"runs/{run_id}")["status"] == status)

    def checkpoints(self, run_id: str) -> list[Any]:
        return self.get("checkpoints", run_id=run_id)["checkpoints"]

    def metrics(self, run_id: str) -> Any:
        return self.get(f"runs/{run_id}/metrics", points=20_000)


def problem(answer: httpx.Response) -> str:
    """Status and words of an answer that is an error."""
    try:
        body = answer.json()
        return f"{answer.status_code} {body['code']}: {body['detail']} {body['hint']}".strip()
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code}: {answer.text[:200]}"


def check_start(server: Server, check: Checks, wish: Wish) -> str:
    """Start, and start again while it trains; the id of the run."""
    status = server.get("status")
    if status["is_training"]:
        raise Unable(f"The server is training {status['run_id']}; stop that first.")
    answer = server.post("train/start", wish)
    if answer.status_code != 202:
        raise Unable(f"POST /api/train/start: {problem(answer)}")
    started = answer.json()
    check(True, "学習の開始は 202 を返す", "a start is answered with 202")
    fresh = started["resumed_from"] is None and started["attempt"] == 1
    check(fresh, "新規の学習には再開元がない", "a fresh run resumes nothing", started)
    second = server.post("train/start", wish)
    refused = second.status_code == 409 and second.json()["code"] == "already_running"
    check(refused, "学習中の2つ目の開始は 409", "a second start meanwhile: 409", problem(second))
    return str(started["run_id"])


def check_stop(server: Server, check: Checks, run_id: str) -> Any:
    """Stop after the first checkpoint; the checkpoint that the stop has saved."""
    server.wait(run_id, "its first checkpoint", lambda: server.checkpoints(run_id))
    answer = server.post("train/stop")
    right = answer.status_code == 200 and answer.json()["run_id"] == run_id
    check(right, "停止は 200 と run_id を返す", "a stop: 200 and the run's id", problem(answer))
    server.wait_for_status(run_id, "stopped")
    check(
        not server.get("status")["is_training"],
        "停止後は待機中に戻る",
        "after the stop the server is idle",
    )
    newest = server.checkpoints(run_id)[0]
    reached = server.get("progress", run_id=run_id)["global_step"]
    check(
        newest["is_latest"] and newest["global_step"] >= reached,
        "停止時に最後のステップが保存される",
        "the stop has saved the last step",
        (newest["global_step"], reached),
    )
    again = server.post("train/stop")
    check(again.status_code == 404, "停止中の停止は 404", "nothing to stop: 404", problem(again))
    return newest


def check_resume(server: Server, check: Checks, pair: Wish, run_id: str, newest: Any) -> None:
    """Ask for what is not there, look ahead, and resume."""
    missing = server.post("train/resume", {**pair, "specific_checkpoint": "no-such-one.pt"})
    check(
        missing.status_code == 404,
        "存在しないチェックポイントからの再開は 404",
        "resuming from a checkpoint that is not there: 404",
        problem(missing),
    )
    preview = server.post("train/resume/preview", pair).json()
    exact = [part["verdict"] == "exact" for part in preview.get("components", [])]
    check(
        preview.get("mode") == "continue" and bool(exact) and all(exact),
        "プレビューは、すべてが正確な継続を示す",
        "the preview says: continue, everything exact",
        preview,
    )
    answer = server.post("train/resume", pair)
    if answer.status_code != 202:
        raise Unable(f"POST /api/train/resume: {problem(answer)}")
    resumed, origin = answer.json(), f"{run_id}/{newest['name']}"
    check(True, "学習の再開は 202 を返す", "a resume is answered with 202")
    check(
        resumed["run_id"] == run_id and resumed["attempt"] == 2,
        "同じ実行の2回目の試行になる",
        "it is the second attempt of the same run",
        resumed,
    )
    server.wait(
        run_id, "its worker", lambda: server.get("status")["status"] in ("running", "completed")
    )
    answers = (resumed, server.get("status"), server.get("progress"))
    seen = [answer["resumed_from"] for answer in answers]
    check(
        seen == [origin] * 3,
        "resumed_from は停止時のチェックポイント",
        "resumed_from is the checkpoint of the stop, in all answers",
        seen,
    )


def check_curves(check: Checks, newest: Any, resumed: Any, straight: Any) -> None:
    """The resumed run's curves: whole, and those of a run that was never stopped."""
    step = newest["global_step"]
    marks = [mark["step"] for mark in resumed["resumes"]]
    check(marks == [step], "再開した位置が記録される", "the place of the resume is known", marks)
    steps = resumed["curves"]["loss"]["step"]
    apart = {later - earlier for earlier, later in itertools.pairwise(steps)}
    check(
        apart == {LOG_INTERVAL} and steps[0] == LOG_INTERVAL,
        "損失の曲線に欠けも重複もない",
        "no step of the loss is missing or doubled",
        apart,
    )
    check(
        steps[0] <= step < steps[-1],
        "曲線は再開の前後にまたがる",
        "the curve goes on across the resume",
        (steps[0], step, steps[-1]),
    )
    rates = resumed["curves"]["learning_rate"]["value"]
    falls = all(later < earlier for earlier, later in itertools.pairwise(rates))
    check(
        falls and resumed["curves"]["learning_rate"] == straight["curves"]["learning_rate"],
        "学習率はスケジュールどおりに続く",
        "the learning rate follows its schedule throughout",
        rates,
    )
    keys = sorted(set(straight["keys"]) - MEASURED)
    other = [k for k in keys if resumed["curves"].get(k) != straight["curves"][k]]
    check(
        not other and "val_loss" in keys,
        f"中断しない学習と全曲線が一致する（{len(keys)} 本、末尾の桁まで）",
        f"all {len(keys)} curves equal those of a run without a stop, to the last digit",
        f"they differ in {other}",
    )


def test_resume(server: Server, check: Checks, options: argparse.Namespace) -> None:
    pair = {"model_name": options.model, "dataset_name": options.dataset}
    overrides = {
        "scheduler": "cosine",  # so that the learning rate tells where it is
        "log_interval": LOG_INTERVAL,
        "checkpoint.every_steps": 20,
        **({"dataset.path": options.data} if options.data else {}),
    }
    wish = {
        **pair,
        "epochs": options.epochs,
        "batch_size": 16,
        "limit_samples": options.samples,
        "resume_from_checkpoint": False,
        "overrides": overrides,
    }
    run_id = check_start(server, check, wish)
    newest = check_stop(server, check, run_id)
    check_resume(server, check, pair, run_id, newest)
    server.wait_for_status(run_id, "completed")
    run = server.get(f"runs/{run_id}")
    outcomes = [attempt["status"] for attempt in run["attempts"]]
    check(
        outcomes == ["stopped", "completed"] and run["epoch"] == options.epochs,
        "再開した学習が完了する",
        "the resumed training completes",
        outcomes,
    )
    answer = server.post("train/start", wish)
    if answer.status_code != 202:
        raise Unable(f"POST /api/train/start: {problem(answer)}")
    other_id = answer.json()["run_id"]
    server.wait_for_status(other_id, "completed")
    check_curves(check, newest, server.metrics(run_id), server.metrics(other_id))


@contextmanager
def own_server(check: Checks) -> Iterator[str]:
    """A server in a temporary workspace, with a small data set that it makes itself."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="tsuzuku-") as folder:
        tsuzuku = [sys.executable, "-m", "tsuzuku", "-w", folder]
        subprocess.run([*tsuzuku, "init", folder], check=True, stdout=subprocess.DEVNULL)
        # more threads make so small a model slower, above all where others work too
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (Path(folder) / "server.log").open("wb") as log:
            process = subprocess.Popen(
                [*tsuzuku, "serve", "--port", str(port)], stderr=log, env=env
            )
        try:
            wait_until_ready(url, process)
            check(True, "サーバーが起動する", "the server starts")
            answer = httpx.post(
                f"{url}/api/dataset/make", json={"dataset_name": "digits"}, timeout=60
            )
            if answer.is_error:
                raise Unable(f"POST /api/dataset/make: {problem(answer)}")
            yield url
        finally:
            subprocess.run([*tsuzuku, "stop"], capture_output=True)  # a training would outlive it
            process.terminate()
            process.wait()
        orderly = process.returncode in (0, 143, -signal.SIGTERM)
        check(orderly, "サーバーが正常に終了する", "the server ends in order", process.returncode)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            httpx.get(f"{url}/api/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise Unable("The server did not start.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--token", default=os.environ.get("TSUZUKU_TOKEN"), help="or TSUZUKU_TOKEN")
    parser.add_argument("--model", default="vae")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="path of the data set, if not the configured one")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--own-server", action="store_true", help="start one for this")
    return parser.parse_args()


def main() -> int:
    options, check = arguments(), Checks()
    try:
        if options.own_server:
            options.data = options.data or "data/digits"
            with own_server(check) as url:
                test_resume(Server(url, None), check, options)
        else:
            test_resume(Server(options.url, options.token), check, options)
    except Unable as error:
        print(f"✗ 検査を続けられません / It cannot be checked any further: {error}")
        return 2
    except httpx.HTTPError as error:
        print(f"✗ サーバーに接続できません / No server at {options.url}: {error}")
        return 2
    held = check.count - check.failed
    print(f"{check.count} 件中 {held} 件に合格 / {held} of {check.count} checks held")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
