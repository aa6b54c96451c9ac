"""inspect, verify, prune, export, evaluate, predict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.markup import escape

from tsuzuku.cli.console import console, number, print_json, show, size, table, when
from tsuzuku.cli.source import Source
from tsuzuku.core.trees import is_tree

SHOWN_APART = frozenset({"timestamp", "model_params", "training_time", "source_sha256"})


def inspect(source: Source, name: str, as_json: bool) -> None:
    info = source.inspect(name)
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
        **({"parts": _parts_of(info)} if info.get("parts") else {}),
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
    layers = table("tensor", "type", "shape", "values", "size", right=("values", "size"))
    for key, (kind, shape) in tensors.items():
        count = math.prod(shape)
        layers.add_row(key, kind, escape(str(shape)), f"{count:,}", size(count * _bytes_of(kind)))
    show(layers)
    settings = _flat(info.get("config") or {})
    if settings:
        chosen = table("setting", "value")
        for key, value in settings.items():
            chosen.add_row(escape(key), escape(str(value)))
        show(chosen)


def _parts_of(info: dict[str, Any]) -> str:
    """In how many files beside its own the tensors are: a server counts, a sidecar lists them."""
    found: Any = info["parts"]
    return f"{found if isinstance(found, int) else len(found)} (`tsuzuku gather` makes one file)"


def _bytes_of(kind: str) -> int:
    """Of one value of a type such as float32, bfloat16, int64, complex64 or bool."""
    digits = "".join(c for c in kind if c.isdigit())
    return int(digits) // 8 if digits in ("8", "16", "32", "64", "128") else 1


def compare(source: Source, name: str, other: str, as_json: bool) -> None:
    """In what the sidecars of two checkpoints differ: `{key: [of one, of the other]}`."""
    one, two = (_flat(source.inspect(which)) for which in (name, other))
    differing = {
        key: [one.get(key), two.get(key)]
        for key in [*one, *(k for k in two if k not in one)]
        if one.get(key) != two.get(key)
    }
    if as_json:
        print_json(differing)
        return
    if not differing:
        console.print("They are the same.")
        return
    rows = table("", escape(name), escape(other))
    for key, (a, b) in differing.items():
        if key == "metadata.timestamp":
            a, b = (when(one) if isinstance(one, float) else one for one in (a, b))
        rows.add_row(f"[bold]{escape(key)}[/]", _shown(a), _shown(b))
    show(rows)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """What is in a tree by its dotted path; lists are values."""
    if not is_tree(value):
        return {path: value}
    inner = [_flat(part, f"{path}.{key}" if path else key) for key, part in value.items()]
    return {key: found for part in inner for key, found in part.items()}


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return number(value) if isinstance(value, float) else escape(str(value))


def verify(source: Source, names: list[str], as_json: bool) -> int:
    answers = source.verify(names)
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            mark = "[green]ok[/]     " if answer["ok"] else "[red]damaged[/]"
            console.print(f"{mark} {escape(answer.get('error') or answer['path'])}")
    return 0 if all(a["ok"] for a in answers) else 1


def gather(source: Source, names: list[str], as_json: bool) -> int:
    answers = source.gather(names)
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            if not answer["ok"]:
                console.print(f"[red]not gathered[/] {escape(answer['error'])}")
                continue
            how = "gathered" if answer["gathered"] else "one file already"
            console.print(f"[green]{how}[/] {escape(answer['path'])} ({size(answer['size'])})")
    return 0 if all(a["ok"] for a in answers) else 1


def prune(source: Source, dry: bool, as_json: bool) -> int:
    pruned = source.prune(dry)
    if as_json:
        print_json(pruned.model_dump())
        return 1 if pruned.problems else 0
    for item in pruned.kept:
        console.print(
            f"keep   {item['run_id']}/{item['name']}  ({', '.join(item['kept_because'])})"
        )
    for item in pruned.removed:
        console.print(f"{'would delete' if dry else 'deleted'} {item['run_id']}/{item['name']}")
    for problem in pruned.problems:
        console.print(f"[red]damaged[/] {escape(problem)}")
    return 1 if pruned.problems else 0


def export(
    source: Source, name: str, kind: str, half: bool, output: Path | None, as_json: bool
) -> None:
    target = output or Path(f"{Path(name).stem}.{kind}")
    if target.is_dir():
        target /= f"{Path(name).stem}.{kind}"
    answer = source.export(name, kind, half, target.absolute())
    if as_json:
        print_json(answer)
        return
    console.print(f"{escape(answer['path'])} ({size(answer['size'])})", highlight=False)
    for line in _compared(answer["report"]):
        console.print(escape(line), highlight=False)


def _compared(report: dict[str, Any]) -> list[str]:
    """What an export's report says, for people."""
    off = f"{report['max_abs_diff']:.3g}"
    if "tensors" in report:
        exact = "the same bits" if report["max_abs_diff"] == 0 else f"off by {off} at most"
        return [f"{report['tensors']} tensors, read back and compared: {exact}"]
    cases: list[Any] = report["cases"]
    allowed = f"allowed: {report['tolerance']:g}"
    lines = [f"compared with the model in {len(cases)} cases: off by {off} at most ({allowed})"]
    if rounding := report.get("rounding"):
        part, most = rounding["max_diff"], rounding["tolerance"]
        said = f"weights of 16 bits move an output by {part:.2g} of its largest value"
        lines.append(f"{said} at most (allowed: {most:g})")
    axes = "; ".join(f"{k} [{', '.join(map(str, v))}]" for k, v in report["axes"].items())
    return [*lines, f"inputs: {axes}"]


def evaluate(source: Source, name: str, dataset: str | None, as_json: bool) -> None:
    answer = source.evaluate(name, dataset)
    if as_json:
        print_json(answer)
        return
    rows = table("metric", "value", right=("value",))
    for key, value in answer["metrics"].items():
        rows.add_row(key, number(value))
    show(rows)


def predict(source: Source, name: str, inputs: list[str], output: Path, as_json: bool) -> None:
    answers = source.predict(name, inputs, output)
    if as_json:
        print_json(answers)
        return
    for answer in answers:
        console.print(f"[bold]{escape(answer['input'])}[/]")
        for key, value in answer["outputs"].items():
            console.print(f"  {key}: {escape(str(value))}")
