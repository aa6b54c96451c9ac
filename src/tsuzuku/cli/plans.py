"""What a resume would do, and what it changes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.syntax import Syntax

from tsuzuku.cli.console import console, print_json, show, table
from tsuzuku.core.config_loader import Difference
from tsuzuku.core.preview_answers import Change, Preview, ProofOnRecord

Changed = Change | Difference

MEANING = {
    "continue": "continues the run; the result is that of a training without the interruption",
    "branch": "begins a new run from that checkpoint; the old run stays as it is",
    "finished": "nothing is left to train",
    "fresh": "begins a new run",
}
FINE_TUNING = "begins a new run with the weights of that checkpoint, and all else new (fine-tuning)"
VERDICTS = {"exact": "green", "approximate": "yellow", "lost": "red"}


def show_preview(preview: Preview, as_json: bool) -> None:
    if as_json:
        print_json(preview.model_dump())
        return
    meaning = FINE_TUNING if preview.fine_tuning else MEANING[preview.mode]
    console.print(f"{preview.mode} {preview.checkpoint or ''}: {meaning}")
    if preview.differences:
        rows = table("setting", "was", "will be", "changes the result")
        for d in preview.differences:
            rows.add_row(d.key, str(d.old), str(d.new), "yes" if d.changes_result else "no")
        show(rows)
    if preview.components:
        rows = table("state", "is kept", "why")
        for part in preview.components:
            verdict = f"[{VERDICTS[part.verdict]}]{part.verdict}[/]"
            rows.add_row(part.name, verdict, escape(part.why))
        show(rows)
    for source in preview.sources:
        console.print(f"{source.file} has changed:")
        console.print(Syntax(source.diff, "diff", background_color="default"))
    if preview.proof is not None:
        console.print(proven(preview.proof))


def proven(proof: ProofOnRecord) -> str:
    """What `prove` has found out, in a sentence."""
    if not proof.exact:
        return "[red]Resuming this pair was found not to be exact[/] (`tsuzuku prove`)."
    if not proof.current:
        changed = ", ".join(proof.stale_because)
        return (
            f"[yellow]Resuming was proven exact, but {changed} has changed since[/]; "
            "`tsuzuku prove` proves it again."
        )
    return (
        f"[green]Resuming is bit for bit the same[/] (proven with {proof.kills} kills "
        f"over {proof.steps} steps)."
    )


def show_beginning(
    mode: str,
    run_id: str,
    origin: str | None,
    changes: Sequence[Changed],
    *,
    fine_tuning: bool = False,
) -> None:
    """Say which run begins or goes on, and with which other settings."""
    words = "Continuing run" if mode == "continue" else "New run"
    how = "fine-tuning the weights of" if fine_tuning else "branched from"
    branched = f", {how} {origin}" if mode == "branch" else ""
    console.print(f"{words} [bold]{run_id}[/]{branched}")
    show_changes(changes)


def show_finished(origin: str | None, done: int, total: int, changes: Sequence[Changed]) -> None:
    """Say that nothing is left to train, and what would be."""
    console.print(
        f"Nothing is left to train: {origin} has {done} of {total} epochs. "
        f"num_epochs={total * 2} goes on, --fresh begins anew."
    )
    if changing := [c for c in changes if c.changes_result]:
        console.print("These settings would take effect only then:")
        show_changes(changing)


def show_changes(changes: Sequence[Changed]) -> None:
    for c in changes:
        console.print(f"  {c.key}: {c.old} → {c.new}", markup=False)
