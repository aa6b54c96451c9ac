"""inspect, verify, prune, export, evaluate, predict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.markup import escape

from tsuzuku.cli.console import console, number, print_json, show, size, table, when
from tsuzuku.cli.train import open_store
from tsuzuku.core.asking import ask_worker
from tsuzuku.core.errors import CorruptCheckpoint, NotFound
from tsuzuku.core.pruning import prune_all
from tsuzuku.core.resume import find_checkpoint
from tsuzuku.core.workspace import Workspace

SHOWN_APART = frozenset({"timestamp", "model_params", "training_time", "source_sha256"})


def inspect(workspace: Workspace, name: str, as_json: bool) -> None:
    info = _info(workspace, name)
    if as_json:
        print_json(info)
        return
    tensors: dict[str, Any] = info.get("tensors", {})
    metadata: dict[str, Any] = info.get("metadata") or {}
    parameters = metadata.get("model_params") or sum(
        math.prod(shape) for _, shape in tensors.values()
    )
    metrics: dict[str, Any] = info.get("metrics") or {}
    facts = {
        "file": info["name"],
        "size": size(info["size"]),
        "SHA-256": info["sha256"],
        "epoch": info.get("epoch", "–"),
        "global step": info.get("global_step", "–"),
        "metrics": " ".join(f"{k} {number(v)}" for k, v in metrics.items()),
        "best": number(info.get("best_val_loss")),
        "parameters": f"{parameters:,} in {len(tensors)} tensors",
        "saved": when(metadata["timestamp"]) if "timestamp" in metadata else "–",
        **{k: v for k, v in metadata.items() if k not in SHOWN_APART},
    }
    if "training_time" in metadata:
        facts["training time"] = f"{metadata['training_time']:.1f} s"
    sources: dict[str, str] = metadata.get("source_sha256") or {}
    facts |= sources
    rows = table("", "")
    rows.show_header = False
    for key, value in facts.items():
        rows.add_row(f"[bold]{key}[/]", "–" if value is None else escape(str(value)))
    show(rows)
    layers = table("tensor", "type", "shape", "values", right=("values",))
    for key, (kind, shape) in tensors.items():
        layers.add_row(key, kind, escape(str(shape)), f"{math.prod(shape):,}")
    show(layers)


def verify(workspace: Workspace, names: list[str], as_json: bool) -> int:
    paths = [_path(workspace, name) for name in names]
    answers = list(ask_worker(workspace, "verify", *map(str, paths)))
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            mark = "[green]ok[/]     " if answer["ok"] else "[red]damaged[/]"
            console.print(f"{mark} {escape(answer.get('error') or answer['path'])}")
    return 0 if all(a["ok"] for a in answers) else 1


def prune(workspace: Workspace, dry: bool, as_json: bool) -> None:
    with open_store(workspace) as store:
        removed, kept = prune_all(workspace, store, dry=dry)
    if as_json:
        print_json({"removed": removed, "kept": kept, "dry_run": dry})
        return
    for item in kept:
        console.print(
            f"keep   {item['run_id']}/{item['name']}  ({', '.join(item['kept_because'])})"
        )
    for item in removed:
        console.print(f"{'would delete' if dry else 'deleted'} {item['run_id']}/{item['name']}")


def export(
    workspace: Workspace, name: str, kind: str, half: bool, output: Path | None, as_json: bool
) -> None:
    path = _path(workspace, name)
    target = output or Path(f"{Path(name).stem}.{kind}")
    if target.is_dir():
        target /= f"{Path(name).stem}.{kind}"
    words = ["--checkpoint", str(path), "--format", kind, "--output", str(target.absolute())]
    (answer,) = ask_worker(workspace, "export", *words, *(["--half"] if half else []))
    if as_json:
        print_json(answer)
        return
    report: dict[str, Any] = answer["report"]
    off = report["max_abs_diff"]
    exact = "the same bits" if off == 0 else f"off by {off:.3g} at most"
    console.print(f"{escape(answer['path'])} ({size(answer['size'])})", highlight=False)
    console.print(f"{report['tensors']} tensors, read back and compared: {exact}")


def evaluate(workspace: Workspace, name: str, dataset: str | None, as_json: bool) -> None:
    with open_store(workspace) as store:
        run, checkpoint = find_checkpoint(workspace, store, name)
    words = ["--run", run.run_id, "--checkpoint", str(checkpoint.path)]
    words += ["--dataset", dataset] if dataset else []
    (answer,) = ask_worker(workspace, "evaluate", *words)
    if as_json:
        print_json(answer)
        return
    rows = table("metric", "value", right=("value",))
    for key, value in answer["metrics"].items():
        rows.add_row(key, number(value))
    show(rows)


def predict(
    workspace: Workspace, name: str, inputs: list[str], output: Path, as_json: bool
) -> None:
    with open_store(workspace) as store:
        run, checkpoint = find_checkpoint(workspace, store, name)
    given = [word if word.isdecimal() else str(Path(word).absolute()) for word in inputs]
    words = ["--run", run.run_id, "--checkpoint", str(checkpoint.path)]
    answers = list(
        ask_worker(workspace, "predict", *words, "--output", str(output.absolute()), "--", *given)
    )
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        console.print(f"[bold]{escape(answer['input'])}[/]")
        for key, value in answer["outputs"].items():
            console.print(f"  {key}: {escape(str(value))}")


def _info(workspace: Workspace, name: str) -> dict[str, Any]:
    """What the sidecar says; for a file without one, what is in the file."""
    try:
        with open_store(workspace) as store:
            return dict(find_checkpoint(workspace, store, name)[1].info)
    except (NotFound, CorruptCheckpoint):
        if not Path(name).is_file():
            raise
        (answer,) = ask_worker(workspace, "describe", str(Path(name).absolute()))
        return answer


def _path(workspace: Workspace, name: str) -> Path:
    if Path(name).is_file():
        return Path(name).absolute()
    with open_store(workspace) as store:
        return find_checkpoint(workspace, store, name)[1].path
