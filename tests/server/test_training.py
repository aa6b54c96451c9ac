"""Starting, stopping and resuming over HTTP, as the seeds describe it, with real workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from api import Api
from safetensors.numpy import save_file

from plain_plugins import make_workspace
from servers import serving

SLOW = "datasets.noise.delay"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("served") / "workspace")
    noise = folder / "datasets" / "noise.py"
    # a data set that takes its time, so that there is something to stop
    noise.write_text(
        noise.read_text()
        .replace('self.noise = float(config.get("noise", 0.1))',
                 'self.noise = float(config.get("noise", 0.1))\n'
                 '        self.delay = float(config.get("delay", 0))')
        .replace("def __getitem__(self, index):\n",
                 "def __getitem__(self, index):\n        import time\n"
                 "        time.sleep(self.delay)\n")
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def api(root: Path) -> Iterator[Api]:
    with serving(root) as served:
        yield Api(served.url)


@pytest.fixture(autouse=True)
def _idle_afterwards(api: Api) -> Iterator[None]:
    yield
    while (status := api.get("/api/status"))["is_training"]:
        api.http.post("/api/train/stop")
        api.wait("the end", lambda: not api.get("/api/status")["is_training"])
        assert status


def test_the_flow_of_a_training(api: Api) -> None:
    """The events between the start and the end, in the seeds' order, and idle again."""
    started = api.start(resume_from_checkpoint=False, epochs=2)
    assert started["attempt"] == 1
    assert started["resumed_from"] is None
    run = api.wait_for_status(started["run_id"], "completed", "failed")
    assert run["status"] == "completed"
    assert run["epoch"] == 2
    told = api.events(started["run_id"])
    kinds = [
        (e["type"], e["payload"].get("status") or e["payload"].get("message", "")) for e in told
    ]
    order = [
        ("status", "starting"),
        ("log", "Preparing the training..."),
        ("log", "Settings and data path are fine"),
        ("log", "Loading model tiny and data set noise"),
        ("log", "There is no checkpoint; training from the beginning"),
        ("log", "Training started"),
        ("status", "running"),
        ("progress", ""),
        ("validation_result", ""),
        ("checkpoint", ""),
        ("status", "completed"),
    ]
    places = [kinds.index(one) for one in order]
    assert places == sorted(places)
    steps = [e["payload"]["global_step"] for e in told if e["type"] == "progress"]
    assert steps == list(range(1, 15))
    assert [e["payload"]["epoch"] for e in told if e["type"] == "validation_result"] == [1, 2]
    status = api.get("/api/status")
    assert (status["is_training"], status["status"]) == (False, "completed")
    progress = api.get("/api/progress")
    assert progress["progress"] == 1.0
    assert (progress["current_epoch"], progress["total_epochs"]) == (2, 2)
    assert (progress["current_step"], progress["total_steps"]) == (7, 7)
    # nothing is left to train: said, and more epochs go on in the same run
    assert api.start(status=400, epochs=2)["code"] == "nothing_to_train"
    more = api.resume(additional_epochs=1)
    assert more["run_id"] == started["run_id"]
    assert more["attempt"] == 2
    assert more["resumed_from"].endswith("tiny-noise-epoch-2.pt")
    run = api.wait_for_status(more["run_id"], "completed", "failed")
    assert (run["status"], run["epoch"], run["total_epochs"]) == ("completed", 3, 3)


def test_stop_saves_and_resume_goes_on(api: Api) -> None:
    started = api.start(resume_from_checkpoint=False, epochs=2, overrides={SLOW: 0.02})
    run_id = started["run_id"]
    api.wait_for_step(run_id, 2)
    assert api.start(status=409)["code"] in ("already_running", "stopping")
    assert api.resume(status=409)["code"] in ("already_running", "stopping")
    assert api.post("/api/train/stop")["run_id"] == run_id
    # while it stops, and right after: a start waits its turn, and never is a second worker
    assert api.start(status=409)["code"] in ("already_running", "stopping")
    stopped = api.wait_for_status(run_id, "stopped", "failed")
    assert stopped["status"] == "stopped"
    newest = api.get("/api/checkpoints", run_id=run_id)["checkpoints"][0]
    assert newest["global_step"] >= 2
    assert newest["is_latest"]
    again = api.start(epochs=2, overrides={SLOW: 0.02})
    assert again["mode"] == "continue"
    assert again["resumed_from"] == f"{run_id}/{newest['name']}"
    api.wait_for_step(run_id, newest["global_step"] + 1)
    assert api.get("/api/status")["resumed_from"] == again["resumed_from"]
    api.post("/api/train/stop")
    api.wait_for_status(run_id, "stopped")
    metrics = api.get(f"/api/runs/{run_id}/metrics", keys="loss")
    steps = metrics["curves"]["loss"]["step"]
    assert steps == list(range(1, steps[-1] + 1))
    assert [r["step"] for r in metrics["resumes"]] == [newest["global_step"]]


def test_two_starts_at_once_are_one_training(api: Api) -> None:
    codes: list[int] = []
    together = threading.Barrier(6)

    def start() -> None:
        together.wait()
        body = {"model_name": "tiny", "dataset_name": "noise", "resume_from_checkpoint": False,
                "overrides": {SLOW: 0.05}}  # fmt: skip
        codes.append(api.http.post("/api/train/start", json=body).status_code)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202, 409, 409, 409, 409, 409]


def test_stop_right_after_start(api: Api) -> None:
    """The worker has not even loaded torch then; it still stops, and says so."""
    run_id = api.start(resume_from_checkpoint=False)["run_id"]
    assert api.post("/api/train/stop")["run_id"] == run_id
    assert api.wait_for_status(run_id, "stopped", "failed", "crashed", "completed")[
        "status"
    ] == "stopped"  # fmt: skip
    assert api.post("/api/train/stop", status=404)["code"] == "not_running"


def test_a_branch_from_an_older_checkpoint_joins_its_parents_curve(api: Api) -> None:
    first = api.start(resume_from_checkpoint=False, epochs=2)["run_id"]
    api.wait_for_status(first, "completed")
    branch = api.resume(
        specific_checkpoint=f"{first}/tiny-noise-epoch-1.pt",
        epochs=2,
        overrides={"learning_rate": 0.02},
    )
    assert branch["mode"] == "branch"
    assert branch["run_id"] != first
    run = api.wait_for_status(branch["run_id"], "completed", "failed")
    assert run["parent"] == f"{first}/tiny-noise-epoch-1.pt"
    whole = api.get(f"/api/runs/{branch['run_id']}/metrics", keys="loss,learning_rate")
    assert whole["lineage"] == [first, branch["run_id"]]
    assert whole["curves"]["loss"]["step"] == list(range(1, 15))
    rates = whole["curves"]["learning_rate"]["value"]
    assert rates[:7] == [0.01] * 7
    assert rates[7:] == [0.02] * 7
    alone = api.get(f"/api/runs/{branch['run_id']}/metrics", lineage="false")
    assert alone["curves"]["loss"]["step"] == list(range(8, 15))
    few = api.get(f"/api/runs/{branch['run_id']}/metrics", points=4)["curves"]["loss"]
    assert len(few["step"]) <= 4


def test_lightweight_is_ten_samples(api: Api) -> None:
    run_id = api.start(resume_from_checkpoint=False, lightweight=True, epochs=1)["run_id"]
    api.wait_for_status(run_id, "completed")
    logs = [e["payload"]["message"] for e in api.events(run_id) if e["type"] == "log"]
    assert any("Data: 9 samples to train on, 1 to" in line for line in logs), logs
    # a quick trial goes on from a quick trial only
    assert api.start(status=400, lightweight=True, epochs=1)["code"] == "nothing_to_train"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model_name": "tinny"}, 400, "unknown_model"),
        ({"dataset_name": "no"}, 400, "unknown_dataset"),
        ({"model_name": "../secret"}, 400, "unknown_model"),
        ({"specific_checkpoint": "nothing.pt"}, 404, "no_checkpoint"),
        ({"specific_checkpoint": "../../config.yaml"}, 404, "not_found"),
        ({"overrides": {"learning_rat": 1}}, 400, "bad_setting"),
        ({"overrides": {"learning_rate": -1}}, 400, "bad_setting"),
        ({"overrides": {"learning_rate": "${oc.env:HOME}"}}, 400, "bad_setting"),
        ({"overrides": {"server.port": 1}}, 400, "bad_setting"),
        ({"overrides": {"dataset.path": "nowhere"}}, 400, "missing_data"),
        ({"epochs": 0}, 422, "malformed"),
        ({"epochs": "3"}, 422, "malformed"),
        ({"batch_size": True}, 422, "malformed"),
        ({"nonsense": 1}, 422, "malformed"),
        ({"model_name": None}, 422, "malformed"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(
    api: Api, body: dict[str, object], status: int, code: str
) -> None:
    answer = api.start(status=status, **body)
    assert answer["code"] == code, answer
    assert not api.get("/api/status")["is_training"]
    if status == 400:  # who only watches learns of it, too
        assert api.events()[-1]["type"] == "error"


@pytest.mark.parametrize(
    "text",
    ['{"model_name":"tiny","dataset_name":"noise","overrides":{"learning_rate":NaN}}',
     '{"model_name":"tiny","dataset_name":"noise","overrides":{"learning_rate":1e999}}',
     '{"model_name":"tiny","dataset_name":"noise","overrides":{"learning_rate":-Infinity}}',
     '{"model_name":', "[" * 100_000, '"text"', "\xff"],
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused(api: Api, text: str) -> None:
    answer = api.http.post(
        "/api/train/start",
        content=text.encode("latin-1"),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text[:300]
    assert answer.json()["code"] == "malformed"


def test_resume_needs_a_checkpoint_of_the_pair(root: Path, api: Api) -> None:
    (root / "models" / "other.py").write_text((root / "models" / "tiny.py").read_text())
    body = {"model_name": "other", "dataset_name": "noise"}
    assert api.post("/api/train/resume", body, status=404)["code"] == "no_checkpoint"
    both = {**body, "epochs": 3, "additional_epochs": 1}
    assert api.post("/api/train/resume", both, status=400)["code"] == "wrong_input"


def test_a_file_in_imports_begins_a_run(root: Path, api: Api) -> None:
    """Listed, previewed, and named like a checkpoint; nothing outside of the folder is opened."""
    weights = {
        "model.net.0.weight": np.ones((8, 6), np.float32),
        "model.net.0.bias": np.ones(8, np.float32),
        "model.net.3.weight": np.ones((3, 8), np.float32),
        "model.net.3.bias": np.ones(3, np.float32),
    }
    (root / "imports").mkdir()
    save_file(weights, root / "imports" / "theirs.safetensors")
    save_file({"a": weights["model.net.3.bias"]}, root / "imports" / "wrong.safetensors")
    (root / "imports" / "cut.pt").write_bytes(b"PK")
    cut, theirs, _ = api.get("/api/imports")["imports"]
    assert (theirs["name"], theirs["has"]) == ("imports/theirs.safetensors", ["weights"])
    assert cut["problem"]
    pair = {"model_name": "tiny", "dataset_name": "noise"}
    asked = {**pair, "specific_checkpoint": theirs["name"], "additional_epochs": 1}
    plan = api.post("/api/train/resume/preview", asked)
    assert (plan["mode"], plan["checkpoint"]) == ("branch", theirs["name"])
    verdicts = {one["name"]: one["verdict"] for one in plan["components"]}
    assert (verdicts["optimizer"], verdicts["data order"]) == ("lost", "lost")
    started = api.resume(specific_checkpoint=theirs["name"], additional_epochs=1)
    assert started["resumed_from"] == theirs["name"]
    run = api.wait_for_status(started["run_id"], "completed", "failed")
    assert (run["status"], run["parent"], run["epoch"]) == ("completed", theirs["name"], 1)
    lineage = api.get(f"/api/runs/{started['run_id']}/metrics")["lineage"]
    assert lineage == [started["run_id"]]
    # now there are weights to compare with, without opening any
    plan = api.post("/api/train/resume/preview", asked)
    assert {one["name"]: one["verdict"] for one in plan["components"]}["weights"] == "exact"
    wrong = api.start(specific_checkpoint="imports/wrong.safetensors")
    run = api.wait_for_status(wrong["run_id"], "completed", "failed")
    assert run["status"] == "failed"
    assert "it has 'a', and this one has 'net.0.weight'" in run["message"]
    assert api.start(status=409, specific_checkpoint="imports/cut.pt")["code"]
    outside = (str(root / "config.yaml"), "imports/../config.yaml", "imports/", "imports/none.pt")
    for name in outside:
        answer = api.resume(status=404, specific_checkpoint=name)
        assert answer["code"] in ("no_checkpoint", "not_found")


def test_what_goes_wrong_in_a_worker_is_an_error_event(root: Path, api: Api) -> None:
    for name, line, expected in (
        ("broken", "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')",
         "out_of_memory"),
        ("missing", "import nothing_of_that_name", "bad_plugin"),
    ):  # fmt: skip
        source = (root / "models" / "tiny.py").read_text()
        if name == "broken":
            source = source.replace('logits = self.net(batch["x"])', line, 1)
        else:
            source = f"{line}\n{source}"
        (root / "models" / f"{name}.py").write_text(source)
        started = api.post(
            "/api/train/start", {"model_name": name, "dataset_name": "noise"}, status=202
        )
        run = api.wait_for_status(started["run_id"], "failed", "completed", "crashed")
        assert run["status"] == "failed"
        told = api.events(started["run_id"])
        errors = [e["payload"] for e in told if e["type"] == "error"]
        assert [e["code"] for e in errors] == [expected], errors
        assert "Traceback" not in errors[0]["message"]
        assert not api.get("/api/status")["is_training"]
    empty = root / "models" / "empty.py"
    empty.write_text('"""No class in here."""\n')
    started = api.post(
        "/api/train/start", {"model_name": "empty", "dataset_name": "noise"}, status=202
    )
    run = api.wait_for_status(started["run_id"], "failed", "completed", "crashed")
    assert "has no model" in run["message"]
