"""Watching: status, progress, runs, metrics, events."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from tsuzuku.core import family, progress, ranks, run_log
from tsuzuku.core import lineage as lines
from tsuzuku.core.answers import Events, Metrics, Progress, RunInfo, RunList, RunLog, Status
from tsuzuku.core.errors import NotFound
from tsuzuku.core.finding import tip
from tsuzuku.core.lineage_answers import Lineage
from tsuzuku.core.rank_answers import Placement, RankLog
from tsuzuku.core.schemas import Run
from tsuzuku.core.schemas import Status as RunStatus
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems
from tsuzuku.server.strict_json import StrictRoute

router = APIRouter(prefix="/api", tags=["watch"], route_class=StrictRoute)

OptionalRun = Annotated[str | None, Query(max_length=40)]
OptionalName = Annotated[str | None, Query(max_length=100)]
Limit = Annotated[int | None, Query(ge=1, le=1_000_000)]
Offset = Annotated[int, Query(ge=0, le=10**9)]
Step = Annotated[int | None, Query(ge=0, le=10**15)]


@router.get("/status", responses=problems(404, 422))
def status(here: Here, run_id: OptionalRun = None) -> Status:
    """Whether a training runs, and how the one that runs, or ran last, stands."""
    running = here.supervisor.running()
    run = _chosen(here, running, run_id)
    if run is None:
        return Status(is_training=False, status="idle")
    return Status(
        is_training=bool(running) if run_id is None else any(r.run_id == run_id for r in running),
        status=run.status,
        run_id=run.run_id,
        model_name=run.model_name,
        dataset_name=run.dataset_name,
        resumed_from=_origin(here, run),
        message=run.message,
        running=[r.run_id for r in running],
    )


@router.get("/progress", responses=problems(404, 422))
def get_progress(here: Here, run_id: OptionalRun = None) -> Progress:
    """How far the run is that is being trained, or was last."""
    running = here.supervisor.running()
    run = _chosen(here, running, run_id)
    if run is None:
        return Progress(is_training=False, server_time=time.time())
    alive = any(r.run_id == run.run_id for r in running)
    return progress.of(here.store, run, alive, _origin(here, run))


@router.get("/runs", response_model=RunList, responses=problems(422))
def runs(
    here: Here,
    model_name: OptionalName = None,
    dataset_name: OptionalName = None,
    status: RunStatus | None = None,
    limit: Limit = None,
    offset: Offset = 0,
) -> Response:
    """The runs, newest first."""
    items = here.store.runs_json(
        model_name=model_name,
        dataset_name=dataset_name,
        status=status,
        limit=limit,
        offset=offset,
    )
    return listed("runs", items, here.store.count("runs"))


@router.get("/lineage", response_model=Lineage, responses=problems(404, 422))
def lineage(
    here: Here,
    run_id: Annotated[
        str | None, Query(max_length=40, description="Only the family of this run.")
    ] = None,
    model_name: Annotated[
        str | None, Query(max_length=100, description="Only families in which a run has it.")
    ] = None,
    dataset_name: Annotated[
        str | None, Query(max_length=100, description="Only families in which a run has it.")
    ] = None,
    limit: Limit = None,
) -> Response:
    """Which runs branched from which and where, with their attempts and checkpoints."""
    found = family.lineage(
        here.workspace,
        here.store,
        run_id=run_id,
        model_name=model_name,
        dataset_name=dataset_name,
        limit=limit,
    )
    return Response(found.model_dump_json(), media_type="application/json")


@router.get("/runs/{run_id}", responses=problems(404, 422))
def run(run_id: str, here: Here) -> RunInfo:
    """One run with its attempts."""
    return RunInfo.model_validate_json(_one(here, run_id))


@router.get("/runs/{run_id}/metrics", responses=problems(404, 422))
def metrics(
    run_id: str,
    here: Here,
    keys: Annotated[
        str | None, Query(max_length=2000, description="Names with commas between; all if absent.")
    ] = None,
    points: Annotated[int, Query(ge=1, le=20_000, description="At most so many a curve.")] = 2000,
    from_step: Step = None,
    to_step: Step = None,
    lineage: Annotated[
        bool, Query(description="Join the curves of the runs that it branched from.")
    ] = True,
    tails: Annotated[
        bool,
        Query(description="Add what these trained beyond the branch, `points` each."),
    ] = False,
) -> Metrics:
    """Curves over the global step, with the places at which the training was resumed."""
    _one(here, run_id)
    wanted = [k for k in keys.split(",") if k] if keys is not None else None
    segments = lines.segments(here.store, run_id) if lineage else lines.alone(run_id)
    found = _metrics(here, segments, wanted, points, from_step, to_step)
    if tails:
        for key in found.curves:
            beyond = lines.tails(here.store, segments, key, points, from_step, to_step)
            if beyond:
                found.tails[key] = beyond
    return found


@router.get("/runs/{run_id}/log", responses=problems(404, 422))
def get_log(
    run_id: str,
    here: Here,
    before: Annotated[
        int | None, Query(ge=0, le=10**15, description="Only events below this number.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 500,
) -> RunLog:
    """The newest events of a run but `progress`, in order; or those before a number."""
    _one(here, run_id)
    with here.store.reading() as db:
        return run_log.before(db, run_id, 10**15 if before is None else before, limit)


@router.get("/runs/{run_id}/ranks", responses=problems(404, 422))
def get_ranks(run_id: str, here: Here) -> Placement:
    """Where the ranks of the run's newest attempt are, their speed and memory, and stragglers.

    A run that one process trains has none.
    """
    attempt = RunInfo.model_validate_json(_one(here, run_id)).attempt
    with suppress(NotFound):  # its folder may have been deleted by hand
        return ranks.placement(here.workspace.run_dir(run_id), attempt)
    return Placement(run_id=run_id, attempt=attempt)


@router.get("/runs/{run_id}/ranks/{rank}/log", responses=problems(404, 422))
def get_rank_log(
    run_id: str,
    rank: Annotated[int, Path(ge=0, le=1_000_000)],
    here: Here,
    tail: Annotated[int, Query(ge=1, le=10_000, description="At most so many lines.")] = 500,
) -> RankLog:
    """The last lines that a rank has printed, at most a mebibyte of them."""
    return ranks.log(here.workspace.run_dir(run_id), rank, tail)


@router.get("/events", response_model=Events, responses=problems(404, 422))
async def events(
    here: Here,
    after: Annotated[int, Query(ge=0, le=10**15)] = 0,
    run_id: OptionalRun = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Events after a number, in order, as the WebSocket sends them."""
    if run_id is not None:
        here.workspace.run_dir(run_id)
    return Response(
        await here.feed.events_json(after, run_id, limit), media_type="application/json"
    )


def listed(name: str, items: list[str], total: int) -> Response:
    """A listing whose items are JSON already."""
    body = f'{{"{name}":[{",".join(items)}],"total":{total}}}'
    return Response(body.encode(), media_type="application/json")


def _metrics(
    here: Context,
    segments: list[lines.Segment],
    keys: list[str] | None,
    points: int,
    first: int | None,
    last: int | None,
) -> Metrics:
    known = sorted({key for s in segments for key in here.store.keys(s.run_id)})
    wanted = [k for k in known if keys is None or k in keys]
    return Metrics(
        run_id=segments[-1].run_id,
        keys=known,
        curves={k: lines.curve(here.store, segments, k, points, first, last) for k in wanted},
        resumes=lines.resumes(here.store, segments),
        lineage=[s.run_id for s in segments],
    )


def _chosen(here: Context, running: list[Run], run_id: str | None) -> Run | None:
    """The named run, else the newest that is running, else the one that moved last."""
    if run_id is not None:
        here.workspace.run_dir(run_id)
        found = here.store.run(run_id)
        return here.workspace.true_status(found) if found else None
    return running[0] if running else here.store.last_moved()


def _origin(here: Context, run: Run) -> str | None:
    """Where the newest attempt went on from; while it begins, where it is about to."""
    attempts = here.store.attempts(run.run_id)
    if run.status == "starting" and (not attempts or attempts[-1].ended_at is not None):
        with suppress(NotFound):
            newest = tip(here.workspace.run_dir(run.run_id))
            return f"{run.run_id}/{newest.name}" if newest else run.parent
    return attempts[-1].resumed_from if attempts else run.parent


def _one(here: Context, run_id: str) -> str:
    with suppress(IndexError):
        return here.store.runs_json(run_id=run_id)[0]
    raise NotFound(f"There is no run {run_id[:60]!r}.", "GET /api/runs lists them.")
