"""Every call answers as its OpenAPI document says: when all is well, and when nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from house import SLOW, House, house
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

EXCLUDED = [
    # names and settings that fit the schema may still be those of nothing
    positive_data_acceptance,
]
NOT_TRIED = {
    # fetches from other machines; test_downloads has a mirror of its own
    "POST /api/dataset/download",
}
EXPENSIVE = ("/verify", "/gather", "/export", "/evaluate")
"""Load torch for what exists; for what does not, they are as quick as any."""

load_all_checks()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With a finished run that has several checkpoints."""
    with house(tmp_path_factory.mktemp("schema") / "workspace") as one:
        overrides = {"checkpoint.every_steps": 1, SLOW: 0.005}
        run_id = one.api.start(epochs=2, overrides=overrides)["run_id"]
        one.api.wait_for_status(run_id, "completed")
        yield one


@pytest.fixture(scope="module")
def operations(home: House) -> list[APIOperation[Any, Any, Any]]:
    schema = schemathesis.openapi.from_url(f"{home.served.url}/openapi.json")
    return [result.ok() for result in schema.get_all_operations()]


def check(case: Case) -> Any:
    answer = case.call(timeout=120)
    # a body that is too large is not even read, so that nobody can say what else is wrong with it
    unread = [negative_data_rejection] if answer.status_code == 413 else []
    case.validate_response(answer, excluded_checks=[*EXCLUDED, *unread])
    assert b"Traceback" not in answer.content
    if answer.status_code >= 400:
        assert answer.json().keys() == {"detail", "code", "hint"}
    return answer


def good_calls(home: House) -> Iterator[tuple[str, dict[str, Any]]]:
    """A call of each operation that has to succeed, in an order in which they can."""
    api = home.api
    run_id = api.get("/api/runs")["runs"][0]["run_id"]
    names = [c["name"] for c in api.get("/api/checkpoints")["checkpoints"]]
    run = {"path_parameters": {"run_id": run_id}}
    one = {"path_parameters": {"run_id": run_id, "name": names[0]}}
    model = {"path_parameters": {"name": f"{run_id}-best"}}
    pair = {"model_name": "tiny", "dataset_name": "noise"}
    form = {"media_type": "multipart/form-data"}
    plain = "status progress runs checkpoints imports models exports datasets health"
    for path in plain.split():
        yield f"GET /api/{path}", {}
    yield "GET /api/config", {}
    yield "GET /api/system", {}
    yield "GET /api/events", {"query": {"after": 0, "limit": 1000}}
    yield "GET /api/runs/{run_id}", run
    yield "GET /api/runs/{run_id}/metrics", {**run, "query": {"points": 3, "tails": True}}
    yield "GET /api/lineage", {"query": {"run_id": run_id}}
    yield "GET /api/runs/{run_id}/log", {**run, "query": {"limit": 5}}
    yield "GET /api/runs/{run_id}/ranks", run
    # what a rank of it would have printed; test_ranks.py has real ones
    (home.root / "outputs" / run_id[:10] / run_id[11:] / "logs" / "rank-0.log").write_text("so\n")
    rank = {"path_parameters": {"run_id": run_id, "rank": 0}, "query": {"tail": 5}}
    yield "GET /api/runs/{run_id}/ranks/{rank}/log", rank
    yield "GET /api/checkpoints/{run_id}/{name}", one
    yield "GET /api/checkpoints/{run_id}/{name}/download", one
    yield "POST /api/checkpoints/{run_id}/{name}/pin", {**one, "body": {"pinned": True}}
    yield "POST /api/checkpoints/{run_id}/{name}/verify", one
    yield "POST /api/checkpoints/{run_id}/{name}/gather", one
    yield "POST /api/checkpoints/{run_id}/{name}/evaluate", {**one, "body": {}}
    yield "POST /api/checkpoints/{run_id}/{name}/export", {**one, "body": {"half": True}}
    (exported,) = (home.root / "outputs").glob("*/*/exports/*.safetensors")
    exports = {"path_parameters": {"run_id": run_id, "name": exported.name}}
    yield "GET /api/exports/{run_id}/{name}", exports
    yield "GET /api/models/{name}/download", model
    yield "POST /api/inference", {"body": {"sample": 1}, **form}
    yield "GET /api/datasets/{name}/samples", {"path_parameters": {"name": "noise"}}
    spoken = {"dataset_name": "speech", "count": 2, "seed": 1, "text": "Hello there."}
    yield "POST /api/dataset/make", {"body": spoken}
    yield "POST /api/checkpoints/prune", {"body": {"dry_run": True}}
    yield "POST /api/train/resume/preview", {"body": {**pair, "additional_epochs": 1}}
    yield "POST /api/train/resume", {"body": {**pair, "additional_epochs": 50}}
    yield "POST /api/train/stop", {}
    api.wait_for_status(run_id, "stopped")
    fresh = {"resume_from_checkpoint": False, "overrides": {SLOW: 0.02}}
    yield "POST /api/train/start", {"body": {**pair, **fresh}}
    home.rest()
    oldest = api.get("/api/checkpoints", run_id=run_id)["checkpoints"][-1]["name"]
    last = {"path_parameters": {"run_id": run_id, "name": oldest}}
    yield "DELETE /api/checkpoints/{run_id}/{name}", last
    home.api.wait("the end of the desk", lambda: not home.workers("desk"))
    yield "DELETE /api/models/{name}", model


def test_what_works_is_answered_as_documented(
    home: House, operations: list[APIOperation[Any, Any, Any]]
) -> None:
    """And no operation is left out."""
    left = {operation.label: operation for operation in operations}
    assert left.keys() >= NOT_TRIED
    for label in NOT_TRIED:
        del left[label]
    for label, given_to_it in good_calls(home):
        answer = check(left.pop(label).Case(**given_to_it))
        assert answer.status_code in (200, 202), f"{label}: {answer.status_code} {answer.text}"
    assert not left, "operations without a call that succeeds"


def tried(
    home: House, operations: list[APIOperation[Any, Any, Any]], count: int
) -> tuple[int, list[str]]:
    """`count` cases for each operation, half of them malformed; how many, and what was wrong."""
    runs = [run["run_id"] for run in home.api.get("/api/runs")["runs"]]
    newest = home.api.get("/api/checkpoints")["checkpoints"][0]["name"]
    wrong: list[str] = []
    done = 0
    for operation in operations:
        real = st.booleans()
        if operation.path.endswith(EXPENSIVE) or operation.method == "delete":
            real = st.just(False)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @given(operation.as_strategy(generation_mode=mode), real, st.sampled_from(runs))
            @settings(
                max_examples=count // 2,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def one(case: Case, known: bool, run_id: str) -> None:
                nonlocal done
                done += 1
                if known and case.path_parameters:
                    exist = {"run_id": run_id, "name": newest, "rank": 0}
                    case.path_parameters = {k: exist[k] for k in case.path_parameters}
                check(case)

            try:
                one()
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                if "Cannot generate" not in str(error) and "Unsatisfiable" not in repr(error):
                    wrong.append(f"== {operation.label} ({mode.value}): {error!r}"[:3000])
    return done, wrong


def test_what_schemathesis_thinks_of(
    home: House, operations: list[APIOperation[Any, Any, Any]]
) -> None:
    done, wrong = tried(home, operations, 8)
    assert not wrong, "\n\n".join(wrong)
    assert done >= 160, done
    assert home.api.get("/api/health")["ok"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_thousand_cases(home: House, operations: list[APIOperation[Any, Any, Any]]) -> None:
    done, wrong = tried(home, operations, 240)
    assert not wrong, "\n\n".join(wrong)
    assert done >= 5000, done
