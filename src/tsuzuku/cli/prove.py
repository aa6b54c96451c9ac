"""prove: train straight, train with kills, compare bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rich.markup import escape

from tsuzuku.cli.console import console, print_json
from tsuzuku.cli.train import open_store
from tsuzuku.core import launch
from tsuzuku.core.asking import ask_worker
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.finding import tip
from tsuzuku.core.proofs import installed_torch
from tsuzuku.core.resume import Plan, plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace, write_atomically

QUICK = ["num_epochs=2", "limit_samples=2000"]
"""Unless asked otherwise a proof is about so much training."""

NOT_COMPARED = frozenset({"samples_per_second"})
"""Metrics that measure the machine, not the model."""

EARLY = 0.2
"""The share of kills that fall into the worker's start, before it trains."""


@dataclass
class Proof:
    """The two trainings of a proof, in a store of their own."""

    workspace: Workspace
    store: Store
    plan: Plan
    dice: random.Random

    def train(self) -> tuple[RunDir, float, float]:
        """Train a new run to its end: its folder, seconds until it trained, seconds of training."""
        run = launch.prepare(self.workspace, self.store, self.plan).run
        began = time.monotonic()
        process = launch.spawn(self.workspace, run)
        started = self._wait_for_start(run, process) or began
        self._require_success(run, process.wait())
        return run, started - began, time.monotonic() - started

    def train_with_kills(self, run: RunDir, kills: int, startup: float, training: float) -> int:
        """Train `run` to its end, killing its workers up to `kills` times; how often it was."""
        killed = 0
        while True:
            process = launch.spawn(self.workspace, run)
            hit = False
            if killed < kills:
                if self.dice.random() < EARLY:
                    pause = self.dice.uniform(0, startup)
                else:
                    self._wait_for_start(run, process)
                    pause = self.dice.uniform(0, 2 * training / (kills + 1))
                try:
                    process.wait(pause)
                except subprocess.TimeoutExpired:
                    hit = self._kill(process)
            code = process.wait()
            if code != -signal.SIGKILL and not (hit and code):
                self._require_success(run, code)
                return killed
            killed += 1

    def _kill(self, process: subprocess.Popen[bytes]) -> bool:
        """SIGKILL the worker, or if it is the driver of ranks any process of them all.

        Whether it was another process: then the driver ends by itself, and not well.
        """
        victim = process.pid
        if self.plan.settings.training.distributed.launcher != "local":
            with suppress(psutil.Error):
                everybody = psutil.Process(process.pid).children(recursive=True)
                victim = self.dice.choice([process.pid, *(child.pid for child in everybody)])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        return victim != process.pid

    def difference(self, one: RunDir, other: RunDir) -> str | None:
        """The first thing in which two finished runs differ; None if they are the same."""
        ends = [tip(run) for run in (one, other)]
        if ends[0] is None or ends[1] is None:
            return "one of the trainings has no checkpoint"
        paths = [str(end.path) for end in ends if end]
        (answer,) = ask_worker(self.workspace, "compare", *paths)
        return answer["difference"] or self._curve_difference(one, other)

    def _curve_difference(self, one: RunDir, other: RunDir) -> str | None:
        keys = sorted({*self.store.keys(one.run_id), *self.store.keys(other.run_id)} - NOT_COMPARED)
        for key in keys:
            a, b = (self.store.raw_points(run.run_id, key) for run in (one, other))
            if a != b:
                steps = [x[0] for x, y in zip(a, b, strict=False) if x != y]
                where = f"at step {steps[0]}" if steps else f"{len(a)} and {len(b)} points"
                return f"metric {key}: {where}"
        return None

    def _wait_for_start(self, run: RunDir, process: subprocess.Popen[bytes]) -> float | None:
        """Wait until the newest worker of `run` trains, or has ended."""
        after = self.store.last_seq()
        while process.poll() is None:
            for event in self.store.events(after=after, run_id=run.run_id, types=["status"]):
                if event.payload["status"] == "running":
                    return time.monotonic()
            time.sleep(0.02)
        return None

    def _require_success(self, run: RunDir, code: int) -> None:
        if code:
            errors = self.store.events(run_id=run.run_id, types=["error"], limit=100)
            said = errors[-1].payload["message"] if errors else f"exit code {code}"
            raise TsuzukuError(f"The training itself failed: {said}")


def prove(
    workspace: Workspace,
    model: str,
    dataset: str,
    words: list[str],
    kills: int,
    seed: int | None,
    as_json: bool,
) -> int:
    workspace.config()
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    scratch = Workspace(workspace.root, workspace.outputs / ".prove" / f"{model}-{dataset}-{stamp}")
    quick = [w for w in QUICK if not any(w.split("=")[0] in given.split("=")[0] for given in words)]
    with Store(scratch.db) as store:
        overrides = parse_overrides([*quick, *words], model, dataset)
        plan = plan_training(scratch, store, model, dataset, overrides, fresh=True)
        proof = Proof(scratch, store, plan, random.Random(seed))
        if not as_json:
            what = ", ".join(quick) or "as asked"
            console.print(f"Training {model} on {dataset} straight ({what})...")
        verdict = _verdict(proof, kills, quiet=as_json)
    verdict |= {
        "model_name": model,
        "dataset_name": dataset,
        "time": time.time(),
        "pytorch_version": installed_torch(),
        "settings": plan.settings.model_dump(mode="json"),
        "source_sha256": {p.label: p.sha256() for p in (plan.model, plan.dataset)},
    }
    _keep(workspace, verdict)
    if verdict["exact"]:
        shutil.rmtree(scratch.outputs, ignore_errors=True)
    if as_json:
        print_json(verdict)
    elif verdict["exact"]:
        console.print(
            f"[green]Exact.[/] After {verdict['kills']} SIGKILLs every tensor, the optimizer's "
            f"state and every point of {verdict['curves']} curves are the same, bit by bit."
        )
    else:
        console.print(f"[red]Not exact.[/] {escape(verdict['difference'])}")
        if verdict["deterministic"] is False:
            found = escape(verdict["straight_difference"])
            console.print(
                f"Two trainings without any kill differ too ({found}): "
                "the plug-in itself is not deterministic."
            )
        console.print(f"[dim]Both trainings are kept in {scratch.outputs}[/]")
    return 0 if verdict["exact"] else 1


def _verdict(proof: Proof, kills: int, quiet: bool) -> dict[str, Any]:
    straight, startup, training = proof.train()
    end = tip(straight)
    steps = end.global_step if end else 1
    often = max(1, steps // (2 * kills + 2))
    policy = proof.plan.settings.training.checkpoint
    saving = policy.model_copy(update={"every_steps": policy.every_steps or often})
    settings = proof.plan.settings.model_copy(
        update={"training": proof.plan.settings.training.model_copy(update={"checkpoint": saving})}
    )
    proof.plan = replace(proof.plan, settings=settings)
    killed, found, run = 0, None, straight
    while killed < kills and found is None:
        run = launch.prepare(proof.workspace, proof.store, proof.plan).run
        killed += proof.train_with_kills(run, kills - killed, startup, training)
        if not quiet:
            console.print(f"Trained with {killed} of {kills} kills; comparing...")
        found = proof.difference(straight, run)
    verdict: dict[str, Any] = {
        "exact": found is None,
        "difference": found,
        "kills": killed,
        "steps": steps,
        "curves": len(set(proof.store.keys(run.run_id)) - NOT_COMPARED),
        "deterministic": None if found else True,
    }
    if found is not None:
        again, _, _ = proof.train()
        other = proof.difference(straight, again)
        verdict |= {"deterministic": other is None, "straight_difference": other}
    return verdict


def _keep(workspace: Workspace, verdict: dict[str, Any]) -> None:
    """Store the verdict in the table and as a file, which outlives the table."""
    folder = workspace.outputs / "proofs"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{verdict['model_name']}-{verdict['dataset_name']}.json"
    write_atomically(Path(folder / name), json.dumps(verdict, ensure_ascii=False, indent=1))
    with open_store(workspace) as store:
        store.put_proof(
            verdict["model_name"],
            verdict["dataset_name"],
            json.dumps(verdict["source_sha256"], sort_keys=True),
            verdict,
            verdict["time"],
        )
