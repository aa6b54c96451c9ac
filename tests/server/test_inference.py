"""Trying models over HTTP: the process that does it, what ends it, and what is sent to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from house import SLOW, House, house
from serving import ask

BUSY_THREADS = 60
"""More requests than a server has threads."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With one trained run."""
    with house(tmp_path_factory.mktemp("trying") / "workspace", inference_idle=2) as one:
        run_id = one.api.start(resume_from_checkpoint=False, epochs=1)["run_id"]
        one.api.wait_for_status(run_id, "completed")
        yield one


@pytest.fixture(autouse=True)
def _idle_afterwards(home: House) -> Iterator[None]:
    yield
    home.rest()


def infer(home: House, status: int = 200, file: Any = None, **form: Any) -> Any:
    """An inference on a validation sample, or on `file`: (name, content)."""
    form = form if file or form else {"sample": 0}
    answer = home.api.http.post("/api/inference", data=form, files={"file": file} if file else None)
    assert answer.status_code == status, answer.text[:500]
    assert "Traceback" not in answer.text
    return answer.json()


@contextmanager
def held(home: House) -> Iterator[None]:
    """Inferences do not end in this block."""
    hold, entered = home.root / "hold", home.root / "entered"
    hold.touch()
    entered.unlink(missing_ok=True)
    try:
        yield
    finally:
        hold.unlink(missing_ok=True)


def until_entered(home: House) -> None:
    home.api.wait("an inference", (home.root / "entered").exists)


def in_background(do: Any) -> threading.Thread:
    thread = threading.Thread(target=do)
    thread.start()
    return thread


def test_inference_while_a_training_runs(home: House) -> None:
    """Neither hinders the other; the model's process ends when nobody uses it."""
    started = home.api.start(resume_from_checkpoint=False, epochs=50, overrides={SLOW: 0.02})
    home.api.wait_for_step(started["run_id"], 1)
    worker = home.worker()
    answer = infer(home, run_id=home.api.get("/api/runs")["runs"][-1]["run_id"], sample=1)
    assert answer["outputs"]["text"]["type"] == "text"
    assert answer["total_time_ms"] >= answer["inference_time_ms"] >= 0
    assert home.worker().pid == worker.pid
    assert home.api.get("/api/status")["is_training"]
    home.api.wait("the end of the idle process", lambda: not home.workers("desk"))
    assert home.worker().pid == worker.pid


def test_a_training_takes_the_memory_back(home: House) -> None:
    infer(home)
    (desk,) = home.workers("desk")
    with held(home):
        # in use, it is not ended as idle; what is asked of it is answered first
        thread = in_background(lambda: infer(home))
        until_entered(home)
        home.api.start(resume_from_checkpoint=False, epochs=50, overrides={SLOW: 0.02})
    thread.join()
    home.api.wait("the end of the desk", lambda: not desk.is_running())


def test_a_killed_process_is_told_and_replaced(home: House) -> None:
    answers: list[Any] = []
    with held(home):
        thread = in_background(lambda: answers.append(infer(home, 400)))
        until_entered(home)
        home.worker("desk").kill()
        thread.join()
    assert answers[0]["code"] == "inference_failed"
    assert "SIGKILL" in answers[0]["detail"]
    assert infer(home)["outputs"]["text"]


def test_a_model_that_ends_the_process_is_told(home: House) -> None:
    (home.root / "die").touch()
    try:
        answer = infer(home, 400)
    finally:
        (home.root / "die").unlink()
    assert answer["code"] == "inference_failed"
    assert "exit code 3" in answer["detail"]
    assert infer(home)["outputs"]["text"]


def test_a_slow_model_does_not_hold_up_the_server(home: House) -> None:
    """However many wait for it."""
    codes: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=home.served.url, timeout=120) as http:
            codes.append(http.post("/api/inference", data={"sample": "0"}).status_code)

    with ExitStack() as stack, held(home):
        first = in_background(ask)
        stack.callback(first.join)
        until_entered(home)
        threads = [in_background(ask) for _ in range(BUSY_THREADS)]
        for thread in threads:
            stack.callback(thread.join)
        home.api.wait("those who are sent away", lambda: 409 in codes)
        assert not home.api.get("/api/status")["is_training"]
        assert home.api.get("/api/runs")["total"] >= 1
    assert set(codes) == {200, 409}
    assert len(codes) == BUSY_THREADS + 1


def test_what_is_in_use_is_not_deleted(home: House) -> None:
    answer = infer(home)
    path = f"/api/checkpoints/{answer['run_id']}/{answer['checkpoint']}"
    assert home.api.delete(path, status=409)["code"] == "in_use"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("a.exe", 415),
        ("noending", 415),
        ("../../../models/tiny.py", 415),
        ("../../../../etc/passwd\x00.png", 400),
        ("", 422),
        ("../../models/evil.txt", 400),  # a text is no sample of this model
        ("..\\..\\evil.json", 400),
        ("<b>ü&.png", 400),
    ],
)
def test_the_name_of_an_upload_serves_for_its_kind_only(
    home: House, name: str, status: int
) -> None:
    before = sorted(p for p in home.root.rglob("*") if ".cache" not in p.parts)
    answer = home.api.http.post("/api/inference", files={"file": (name, b"hello")})
    assert answer.status_code == status, answer.text[:500]
    assert answer.json().keys() == {"detail", "code", "hint"}
    assert str(home.root) not in answer.text
    after = sorted(p for p in home.root.rglob("*") if ".cache" not in p.parts)
    assert [p for p in after if p not in before] == []


def test_too_large_an_upload_is_refused_before_it_is_there(home: House) -> None:
    lengths = [("Content-Type", "multipart/form-data; boundary=x"), ("Content-Length", str(10**12))]
    answer = ask(home.served.url, "POST", "/api/inference", lengths, b"--x")
    assert answer.status == 413
    assert answer.code == "too_large"


def test_a_file_or_a_sample_is_needed(home: House) -> None:
    assert home.api.http.post("/api/inference").status_code == 400
    both = home.api.http.post(
        "/api/inference", data={"sample": "0"}, files={"file": ("a.txt", b"")}
    )
    assert both.status_code == 400
    for form, status in (
        ({"sample": "-1"}, 422), ({"sample": "x"}, 422), ({"sample": "99999"}, 400),
        ({"sample": "0", "run_id": "2020-01-01_00-00-00"}, 404),
        ({"sample": "0", "checkpoint": "../../config.yaml"}, 404),
        ({"sample": "0", "model_name": "nobody"}, 404),
    ):  # fmt: skip
        infer(home, status, **form)


def test_no_upload_is_left(home: House) -> None:
    assert not list(Path(home.root / "outputs").glob(".upload-*"))
