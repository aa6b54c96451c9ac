"""`runs --tree`: runs with their branches below them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells
from rich.text import Text

from tsuzuku.cli.console import COLOURS, console, number, print_json
from tsuzuku.cli.source import Source
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.lineage_answers import Lineage, Relative

NARROWEST = 20
"""Columns that a run has however deep it stands."""

Piece = tuple[str, str]
"""A few words that stay together, and their style."""


def tree(
    source: Source, model: str | None, dataset: str | None, status: str | None, as_json: bool
) -> None:
    if status is not None:
        raise WrongInput(
            "--status does not go with --tree.", "A family is shown as a whole; leave it out."
        )
    found = source.lineage(model, dataset)
    if as_json:
        print_json(found.model_dump())
        return
    if not found.runs:
        console.print("No runs yet. `tsuzuku train MODEL DATASET` begins one.")
    for line in lines(found, console.width):
        console.print(line, soft_wrap=True)


def lines(found: Lineage, width: int) -> Iterator[Text]:
    """The families as lines of at most `width` columns; a line begins with the branches' guides."""
    runs = found.runs
    more: list[bool] = []  # at each depth above: whether another branch follows below
    above: list[Relative] = []
    for place, run in enumerate(runs):
        del more[max(0, run.depth - 1) :], above[run.depth :]
        follows = _follows(runs, place)
        guides = "".join("│  " if one else "   " for one in more)
        head = guides + ("├─ " if follows else "└─ ") if run.depth else ""
        if run.depth:
            more.append(follows)
            guides += "│  " if follows else "   "
        children = place + 1 < len(runs) and runs[place + 1].depth > run.depth
        rest = guides + ("│  " if children else "   ")
        parent = above[-1] if above else None
        above.append(run)
        for row in (_first(run), _second(run, parent)):
            for words in _flowed(row, max(NARROWEST, width - cell_len(rest))):
                yield Text.assemble((head, "dim"), *words)
                head = rest


def _follows(runs: Sequence[Relative], place: int) -> bool:
    """Whether another branch of the same run comes later."""
    depth = runs[place].depth
    for later in runs[place + 1 :]:
        if later.depth <= depth:
            return later.depth == depth
    return False


def _first(run: Relative) -> list[Piece]:
    return [
        (run.run_id, "bold"),
        (run.status, COLOURS.get(run.status, "default")),
        (f"epoch {run.epoch}/{run.total_epochs}", ""),
        (f"step {run.global_step:,}", ""),
        (f"best {number(run.best_metric)}", ""),
    ]


def _second(run: Relative, parent: Relative | None) -> list[Piece]:
    """What tells it from the run above."""
    pieces: list[Piece] = []
    branch = run.branch
    if branch is not None:
        at = "" if branch.global_step is None else f" at step {branch.global_step:,}"
        name = branch.checkpoint if parent is not None else f"{branch.run_id}/{branch.checkpoint}"
        begun = "fine-tuned from" if branch.fine_tuning else "from"
        if branch.state == "imported":
            begun, name = "from the file", branch.checkpoint
        pieces.append((f"{begun} {name}{at}", "dim"))
        gone = {
            "checkpoint_deleted": "(checkpoint deleted)",
            "run_deleted": "(run deleted)",
            "circular": "(descends from itself)",
        }
        if branch.state in gone:
            pieces.append((gone[branch.state], "yellow"))
    pair = (run.model_name, run.dataset_name)
    if parent is None or pair != (parent.model_name, parent.dataset_name):
        pieces.insert(0, (f"{run.model_name} on {run.dataset_name}", "dim"))
    return pieces


def _flowed(pieces: Sequence[Piece], width: int) -> Iterator[list[Piece]]:
    """Pieces with two spaces between them, in lines of at most `width` columns."""
    line: list[Piece] = []
    used = 0
    for text, style in pieces:
        for part in chop_cells(_plain(text), width):
            if line and used + 2 + cell_len(part) > width:
                yield line
                line, used = [], 0
            if line:
                line.append(("  ", ""))
                used += 2
            line.append((part, style))
            used += cell_len(part)
    if line:
        yield line


def _plain(text: str) -> str:
    """A name may hold anything; here each takes one line."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
