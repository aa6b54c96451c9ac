"""train, resume, stop, follow."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from rich.markup import escape

from tsuzuku.cli.console import console
from tsuzuku.cli.plans import show_beginning, show_finished
from tsuzuku.cli.signals import Signals
from tsuzuku.cli.source import Onto
from tsuzuku.cli.watch import Watch, results_of, summary
from tsuzuku.cli.watch import follow as follow_events
from tsuzuku.core import ending, interruption, launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import NotFound, TsuzukuError
from tsuzuku.core.finding import newest_checkpoint
from tsuzuku.core.rebuild import opened
from tsuzuku.core.resume import Plan, plan_resume, plan_training
from tsuzuku.core.schemas import ACTIVE
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

STOP_PATIENCE = 600.0
"""Seconds that `stop` waits for the checkpoint before it says that it is still waiting."""


def train(
    workspace: Workspace,
    model: str,
    dataset: str,
    words: list[str],
    fresh: bool,
    checkpoint: str | None,
) -> int:
    overrides = parse_overrides(words, model, dataset)
    with open_store(workspace) as store:
        if checkpoint == "latest":
            newest = newest_checkpoint(workspace, store, model, dataset)
            if newest is None:
                raise NotFound(f"There is no checkpoint of {model} on {dataset} to resume from.")
            checkpoint = f"{newest[0].run_id}/{newest[1].name}"
        plan = plan_training(
            workspace, store, model, dataset, overrides, fresh=fresh, checkpoint=checkpoint
        )
        return carry_out(workspace, store, plan)


def resume(workspace: Workspace, target: str, words: list[str], onto: Onto) -> int:
    with open_store(workspace) as store:
        return carry_out(workspace, store, planned(workspace, store, target, words, onto))


def planned(workspace: Workspace, store: Store, target: str, words: list[str], onto: Onto) -> Plan:
    """What `resume` would do."""
    return plan_resume(
        workspace,
        store,
        target,
        words,
        model_name=onto.model,
        dataset_name=onto.dataset,
        fine_tune=onto.fine_tune,
    )


def carry_out(workspace: Workspace, store: Store, plan: Plan) -> int:
    """Start what a plan says and show it until it ends; the exit code."""
    if plan.mode == "finished":
        show_finished(plan.origin, plan.epoch, plan.settings.training.num_epochs, plan.differences)
        return 0
    after = store.last_seq()
    launched = launch.prepare(workspace, store, plan)
    show_beginning(
        plan.mode,
        launched.run.run_id,
        plan.origin,
        plan.differences,
        fine_tuning=plan.fine_tuning,
    )
    with Signals() as signals:
        process = launch.spawn(workspace, launched.run)
        signals.to(forwarded_to(process))
        code = watch_worker(store, launched.run, process, after, signals)
    if code == 0:
        summary(results_of(store, launched.run.run_id))
        console.print(f"[dim]{launched.run.path}[/]")
    return code


def forwarded_to(process: subprocess.Popen[bytes]) -> Callable[[int], None]:
    """Hands signals on to a worker as long as it lives."""

    def forward(number: int) -> None:
        if process.poll() is None:
            process.send_signal(number)

    return forward


def watch_worker(
    store: Store, run: RunDir, process: subprocess.Popen[bytes], after: int, signals: Signals
) -> int:
    """Show a worker's events until it ends; the exit code."""
    with Watch() as watch:
        follow_events(store, run.run_id, watch, after, lambda: process.poll() is not None)
    code = process.wait()
    if -code in signals.got:
        # it had not yet begun to listen, so it ended as every process does
        code = 128 - code
    if watch.error is not None:
        console.print(f"[red]{escape(watch.error.payload['message'])}[/]")
    elif code in (130, 143) and watch.status in ACTIVE:
        message = "Ended at once, without saving once more."
        ending.report_end(store, run, "stopped", message)
        console.print(f"[yellow]{message}[/] `tsuzuku resume {run.run_id}` goes on.")
    elif code < 0 or (code and watch.status in ACTIVE):
        _report_crash(store, run, code)
        return 1
    elif code in (130, 143):
        console.print(f"Stopped. `tsuzuku resume {run.run_id}` goes on.")
    elif code:
        console.print(ending.last_lines(run), markup=False)
    return code


def _report_crash(store: Store, run: RunDir, code: int) -> None:
    """Write down that a worker ended without a word of its own, and say so."""
    language = RunSettings.model_validate(run.read_identity()["requested"]).language
    message = ending.report_crash(store, run, language, code)
    if message is None:  # a server that watches it too was faster
        record = store.run(run.run_id)
        message = record.message if record else ""
    console.print(f"[red]{escape(message)}[/] `tsuzuku resume {run.run_id}` goes on.")
    if lines := ending.last_lines(run):
        console.print(lines, markup=False, style="dim")


def stop(workspace: Workspace, run_id: str | None) -> int:
    with open_store(workspace) as store:
        run = _active(workspace, store, run_id)
        worker = run.worker() if run else None
        if run is None or worker is None:
            raise NotFound("Nothing is being trained.", code="not_running")
        try:
            interruption.ask(run)
            os.kill(worker, signal.SIGTERM)
        except ProcessLookupError:
            raise NotFound("The training has just ended by itself.", code="not_running") from None
        except PermissionError:
            raise TsuzukuError(
                f"Process {worker} is another user's; they have to stop it."
            ) from None
        began = time.monotonic()
        while run.worker() == worker:
            time.sleep(0.05)
            if time.monotonic() - began > STOP_PATIENCE:
                console.print(f"Process {worker} is still saving; `kill {worker}` ends it at once.")
                return 1
        console.print(f"Stopped {run.run_id}. `tsuzuku resume {run.run_id}` goes on.")
    return 0


def follow(workspace: Workspace, run_id: str | None) -> int:
    with open_store(workspace) as store:
        run = _active(workspace, store, run_id)
        if run is None:
            raise NotFound("There is no run to follow.", code="not_running")
        with Watch() as watch:
            follow_events(store, run.run_id, watch, 0, lambda: run.worker() is None)
        if watch.error is not None:
            console.print(f"[red]{escape(watch.error.payload['message'])}[/]")
        console.print(f"{run.run_id}: {watch.status}")
    return 0


def chosen_run(workspace: Workspace, store: Store, run_id: str | None) -> RunDir:
    """As `follow` chooses it; raises NotFound where there is none."""
    run = _active(workspace, store, run_id)
    if run is None:
        raise NotFound("There is no run yet.", "`tsuzuku train MODEL DATASET` begins one.")
    return run


def open_store(workspace: Workspace) -> Store:
    """The workspace's store; made again from the run folders if it is gone."""
    workspace.config()
    return opened(workspace, lambda sentence: console.print(sentence, markup=False))


def _active(workspace: Workspace, store: Store, run_id: str | None) -> RunDir | None:
    """The named run, else the newest that is being trained, else the newest."""
    if run_id is not None:
        return workspace.run_dir(run_id)
    records = store.runs()
    alive: Any = next(
        (r for r in records if workspace.true_status(r).status in ACTIVE), None
    ) or next(iter(records), None)
    return workspace.run_dir(alive.run_id) if alive else None
