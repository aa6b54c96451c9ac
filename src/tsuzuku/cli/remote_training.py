"""train, resume, stop, follow through a server. What trains does not need this terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Any

from rich.markup import escape

from tsuzuku.cli.console import console
from tsuzuku.cli.plans import show_beginning, show_finished
from tsuzuku.cli.signals import Signals
from tsuzuku.cli.source import Onto
from tsuzuku.cli.watch import Watch, summary
from tsuzuku.client import Client, Unreachable
from tsuzuku.client.calls import ResumeOptions
from tsuzuku.client.stream import patiently
from tsuzuku.core.answers import CheckpointInfo, RunInfo, Started
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import NotFound, TsuzukuError, WrongInput
from tsuzuku.core.preview_answers import Change
from tsuzuku.core.schemas import Event
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import RUN_ID

WRONG_INPUT = frozenset(
    {
        *("bad_plugin", "bad_setting", "empty_dataset", "missing_data", "no_checkpoint"),
        *("not_found", "wrong_input"),
    }
)
"""Codes of errors that end a worker with 2; all others end it with 1."""


def train(
    client: Client, model: str, dataset: str, words: list[str], fresh: bool, checkpoint: str | None
) -> int:
    if checkpoint == "latest":
        checkpoint = _newest(client, model, dataset)
    with Signals() as signals:
        return begin(client, model, dataset, words, fresh, checkpoint, signals)


def begin(
    client: Client,
    model: str,
    dataset: str,
    words: list[str],
    fresh: bool,
    checkpoint: str | None,
    signals: Signals,
) -> int:
    """Start a training and show it to its end, which `signals` ask for; the exit code."""
    overrides = settings(parse_overrides(words, model, dataset))
    after = client.last_seq()
    try:
        started = client.start(
            model,
            dataset,
            resume_from_checkpoint=not fresh,
            specific_checkpoint=checkpoint,
            overrides=overrides,
        )
    except WrongInput as error:
        if error.code != "nothing_to_train":
            raise
        console.print(f"{error.detail} A larger num_epochs goes on, --fresh begins anew.")
        return 0
    return _watch(client, started, after, [], signals)


def join(client: Client, run: RunInfo, after: int, signals: Signals) -> int:
    """Show a training that somebody else has started, as `begin` shows its own."""
    started = Started(
        message="",
        run_id=run.run_id,
        attempt=run.attempt,
        resumed_from=run.resumed_from,
        mode="continue" if run.attempt > 1 else "fresh",
    )
    return _watch(client, started, after, [], signals)


def resume(client: Client, target: str, words: list[str], onto: Onto) -> int:
    model, dataset, options = options_to_resume(client, target, words, onto)
    plan = client.preview(model, dataset, **options)
    if plan.mode == "finished":
        show_finished(plan.checkpoint, plan.epoch, plan.total_epochs, plan.differences)
        return 0
    with Signals() as signals:
        after = client.last_seq()
        started = client.resume(model, dataset, **options)
        return _watch(client, started, after, plan.differences, signals)


def options_to_resume(
    client: Client, target: str, words: list[str], onto: Onto
) -> tuple[str, str, ResumeOptions]:
    """Model, data set, and the rest of a request to go on with a run or a checkpoint, or to begin
    from a file in the server's `imports/`."""
    if target.startswith("imports/"):
        return _from_import(client, target, words, onto)
    if RUN_ID.fullmatch(target):
        run = client.run(target)
        tip = _tip(client.checkpoints(run_id=target).checkpoints)
        if tip is None:
            raise NotFound(f"Run {target} has no checkpoint to go on from.", code="no_checkpoint")
        model, dataset, name = run.model_name, run.dataset_name, tip.name
    else:
        try:
            found = client.find_checkpoint(target)
        except NotFound:
            raise NotFound(
                f"There is no run and no checkpoint {target!r}.",
                "`tsuzuku runs` and `tsuzuku checkpoints` list them.",
                code="no_checkpoint",
            ) from None
        model, dataset, name = found.model_name, found.dataset_name, found.name
        target = found.run_id
    if onto.model not in (None, model):
        raise WrongInput(
            f"{name} is a checkpoint of {model}, not of {onto.model}.", f"Name {model} as model."
        )
    dataset = onto.dataset or dataset
    return (
        model,
        dataset,
        {
            "specific_checkpoint": f"{target}/{name}",
            "overrides": settings(parse_overrides(words, model, dataset)),
            "fine_tune": onto.fine_tune,
        },
    )


def _from_import(
    client: Client, target: str, words: list[str], onto: Onto
) -> tuple[str, str, ResumeOptions]:
    said = next((one for one in client.imports().imports if one.name == target), None)
    model = onto.model or (said.model_name if said else None)
    dataset = onto.dataset or (said.dataset_name if said else None)
    if model is None or dataset is None:
        raise WrongInput(
            f"{target} does not say which model and data set it is of.",
            "Name them: `--model MODEL --dataset DATASET`.",
        )
    overrides = settings(parse_overrides(words, model, dataset))
    return model, dataset, {"specific_checkpoint": target, "overrides": overrides}


def stop(client: Client, run_id: str | None) -> int:
    after = client.last_seq()
    stopping = client.stop(run_id).run_id
    status = ""
    for event in client.follow(stopping, after, _Patience()):
        if event.type == "status":
            status = str(event.payload["status"])
    if status in ("stopped", ""):
        console.print(f"Stopped {stopping}. `tsuzuku resume {stopping}` goes on.")
    else:
        console.print(f"{stopping}: {status}, before it could stop")
    return 0


def follow(client: Client, run_id: str | None) -> int:
    run_id = run_id or client.status().run_id
    if run_id is None:
        raise NotFound("There is no run to follow.", code="not_running")
    with Watch() as watch:
        for event in client.follow(run_id, 0, _Patience()):
            watch.show(event)
    if watch.error is not None:
        console.print(f"[red]{escape(watch.error.payload['message'])}[/]")
    console.print(f"{run_id}: {watch.status}")
    return 0


def settings(tree: Tree) -> dict[str, Any]:
    """A tree of overrides as `{key.path: value}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if is_tree(value) and value:
            flat |= {f"{key}.{path}": inner for path, inner in settings(value).items()}
        else:
            flat[key] = value
    return flat


class Left(KeyboardInterrupt):
    """A second signal: the terminal is wanted back, whatever the training does."""


def asking_to_stop(client: Client, run_id: str) -> Callable[[int], None]:
    """Turns a signal into a request to stop the training; a second one raises Left."""
    asked = False

    def ask() -> None:
        with suppress(NotFound):  # it has just ended by itself
            try:
                patiently(lambda: client.stop(run_id), _Patience())
            except TsuzukuError as error:
                if isinstance(error, NotFound):
                    raise
                console.print(f"[red]It could not be stopped:[/] {escape(str(error))}")

    def receive(_number: int) -> None:
        nonlocal asked
        if asked:
            raise Left
        asked = True
        # in a thread: the main one is somewhere in the middle of reading events
        threading.Thread(target=ask, name="stop", daemon=True).start()

    return receive


class _Patience:
    """Says once that the server is gone; a training needs it as little as this terminal."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, error: Unreachable) -> None:
        if not self._said:
            console.print(f"[yellow]{escape(error.detail)}[/] Waiting; the training goes on.")
        self._said = True


def _watch(
    client: Client,
    started: Started,
    after: int,
    changes: list[Change],
    signals: Signals,
) -> int:
    """Show a training from its start to its end; the exit code."""
    run_id = started.run_id
    results: list[Event] = []
    try:
        origin = started.resumed_from
        show_beginning(started.mode, run_id, origin, changes, fine_tuning=started.fine_tuning)
        signals.to(asking_to_stop(client, run_id))
        with Watch() as watch:
            for event in client.follow(run_id, after, _Patience()):
                watch.show(event)
                if event.type == "validation_result":
                    results.append(event)
    except Left:
        console.print(f"[yellow]Left.[/] `tsuzuku follow {run_id}` shows how it ends.")
        return 128 + signals.got[-1]
    return _ended(client, started, after, watch, results, signals)


def _ended(
    client: Client,
    started: Started,
    after: int,
    watch: Watch,
    results: list[Event],
    signals: Signals,
) -> int:
    run_id = started.run_id
    match watch.status:
        case "completed":
            earlier: Iterable[Event] = ()
            if started.mode == "continue":
                past = client.past_events(run_id, until=after)
                earlier = (e for e in past if e.type == "validation_result")
            summary(chain(earlier, results))
            return 0
        case "stopped":
            console.print(f"Stopped. `tsuzuku resume {run_id}` goes on.")
            return 128 + (signals.got[0] if signals.got else signal.SIGTERM)
        case _:
            if watch.error is not None:
                console.print(f"[red]{escape(watch.error.payload['message'])}[/]")
                return 2 if watch.error.payload["code"] in WRONG_INPUT else 1
            message = client.run(run_id).message
            console.print(f"[red]{escape(message)}[/] `tsuzuku resume {run_id}` goes on.")
            return 1


def _newest(client: Client, model: str, dataset: str) -> str:
    """The newest checkpoint of the two: that of the run that moved last."""
    listed = client.checkpoints(model, dataset).checkpoints
    runs = client.runs(model, dataset).runs
    for run in sorted(runs, key=lambda r: (r.updated_at, r.run_id), reverse=True):
        tip = _tip([c for c in listed if c.run_id == run.run_id])
        if tip is not None:
            return f"{run.run_id}/{tip.name}"
    raise NotFound(f"There is no checkpoint of {model} on {dataset} to resume from.")


def _tip(checkpoints: list[CheckpointInfo]) -> CheckpointInfo | None:
    """The one that is furthest of a run's."""
    return max(checkpoints, key=lambda c: (c.global_step, c.epoch), default=None)
