"""Writes commands.md, settings.md and http.md from the code; `--check` only compares."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.main
from http_reference import http
from pydantic import BaseModel

from tsuzuku.cli.app import app
from tsuzuku.core.settings import (
    SAME_RESULT,
    ServerSettings,
    TrainingSettings,
    WorkspaceSettings,
)

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "src" / "tsuzuku"
NOTE = "<!-- Made by docs/generate.py; edit the code or that script instead. -->\n"

COMMANDS_HEAD = """\
# Commands

`tsuzuku [-w DIR | --server URL] COMMAND …`. Without `-w` the workspace is the current folder.

A run is named by its id (`2026-11-21_19-20-14`). A checkpoint is named by its file name (the newest
run that has it is meant), by `run_id/name`, or by a path. The links `…-latest.pt` and `…-best.pt`
count as names too.

Settings are given as `key.path=value`. The name of a training setting may stand alone
(`num_epochs=3`, `checkpoint.every_steps=100`). `model.x` and `dataset.x` mean the chosen model and
data set. All settings: [settings.md](settings.md).

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed; the reason is on stderr or in the last lines of the output |
| 2 | wrong input: a name, setting, path or file that cannot be |
| 130 | ended by SIGINT (Ctrl-C) after saving |
| 143 | ended by SIGTERM after saving |
"""

EXITS = {
    "init": "0; 2 if the folder cannot be made.",
    "demo": "as `train`.",
    "train": "0 completed, or nothing is left to train; 1 failed, crashed, or the run is being "
    "trained already; 2 wrong input; 130 or 143 stopped by a signal after saving.",
    "resume": "as `train`; with `--preview` 0 or 2.",
    "stop": "0 it has stopped; 1 it is still saving after ten minutes; 2 nothing is being trained.",
    "follow": "0 the watched training ended, however it ended; 2 there is no such run; "
    "130 the watching was ended by Ctrl-C.",
    "verify": "0 all are whole; 1 at least one is damaged; 2 no such checkpoint.",
    "gather": "0 all are one file each; 1 at least one is not; 2 no such checkpoint.",
    "prune": "0; 1 if the newest checkpoint of a run does not verify: then nothing of it goes.",
    "predict": "0; 1 if the checkpoint is damaged; 2 for an input that cannot be used.",
    "evaluate": "0; 1 if the checkpoint is damaged; 2 wrong input.",
    "prove": "0 exact; 1 not exact, or the training itself failed; 2 wrong input.",
    "data download": "0; 1 if no mirror delivers, a checksum is wrong or the disk is full; "
    "2 unknown name.",
    "data make": "0; 1 failed; 2 unknown name.",
    "serve": "130 ended by Ctrl-C, 143 by SIGTERM (trainings go on); 1 the address or the "
    "workspace is taken, or the token's file cannot be trusted; 2 wrong settings.",
}

SETTINGS_HEAD = """\
# Settings

They are in a workspace's `config.yaml`. What is not there has its default. Any of them can be
overridden for one run: `tsuzuku train MODEL DATASET training.num_epochs=3`, or shorter,
`num_epochs=3`.

The order, later ones win: the defaults below, the model's own preset (`TRAINING` in its file),
`training` in `config.yaml`, `models.<name>.training` there, the command line.

A setting marked with ✓ in the column "same result" changes neither weights nor metrics. A run that
goes on with only such changes is continued. Any other change begins a new run, a branch.
`training.num_epochs` counts as one of them unless the scheduler is cosine or onecycle, whose curve
depends on it.

An unknown key, a wrong type or an impossible value is refused with the key's full path and what
would be right.
"""

WITHOUT_DOCSTRING = {
    "available_datasets": "Names to offer; null for every plug-in found.",
    "datasets": "Settings by data set.",
    "training": "See below.",
    "server": "See below.",
    "training.optimizer": "AdamW, Adam or SGD; upper and lower case are the same.",
    "training.learning_rate": "The (largest) learning rate.",
    "training.weight_decay": "Weight decay, as the optimizer defines it.",
    "training.precision": "32, or automatic mixed precision in bf16 or 16 (with loss scaling).",
    "training.device": "auto takes CUDA, else MPS, else the CPU.",
    "training.early_stopping": "null for no early stopping.",
    "training.scheduler_options": "See below.",
    "training.save": "See below.",
    "training.checkpoint": "See below.",
    "server.host": "The address to listen on; any other than this machine's own asks for a token.",
    "server.port": "The port to listen on.",
}


def pages() -> dict[str, str]:
    """Every generated page, by file name."""
    return {
        "commands.md": commands(),
        "settings.md": settings(),
        "http.md": NOTE + http(),
    }


def commands() -> str:
    """The text of commands.md."""
    parts = [COMMANDS_HEAD]
    root: Any = typer.main.get_command(app)
    parts.append("## tsuzuku\n\n" + _options(root))
    for name, command in _all_commands(root):
        lines = [f"## tsuzuku {name}", ""]
        lines += [f"```\ntsuzuku {name}{_usage(command)}\n```", ""]
        lines += [inspect.cleandoc(command.help or ""), ""]
        if rows := _options(command):
            lines += [rows.rstrip("\n"), ""]
        lines.append(f"Exit codes: {EXITS.get(name, '0; 1 failed; 2 wrong input.')}")
        parts.append("\n".join(lines) + "\n")
    return NOTE + "\n".join(parts)


def _all_commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _all_commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _usage(command: Any) -> str:
    words: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(parameter.metavar or parameter.name.upper())
        elif parameter.name != "help":
            words.append(f"[{_names(parameter)[0]}]")
    return "".join(f" {word}" for word in words)


def _names(option: Any) -> list[str]:
    """The spellings of an option, with what it takes; the longest comes first."""
    spellings = sorted([*option.opts, *option.secondary_opts], key=len, reverse=True)
    spellings.sort(key=lambda s: s in option.secondary_opts)
    takes = (
        ""
        if option.is_flag
        else f" {option.metavar or TAKES.get(option.name, option.name.upper())}"
    )
    return [f"{spelling}{takes}" for spelling in spellings]


def _options(command: Any) -> str:
    rows = [
        f"| {', '.join(f'`{n}`' for n in _names(p))} | {_cell(p.help)} | {_default(p)} |"
        if p.param_type_name == "option"
        else f"| `{p.metavar or p.name.upper()}` | {_cell(p.help)} |  |"
        for p in command.params
        if p.name != "help" and (p.param_type_name == "option" or p.help)
    ]
    if not rows:
        return ""
    return "\n".join(["| option | meaning | default |", "|---|---|---|", *rows]) + "\n"


def _default(option: Any) -> str:
    if option.is_flag or option.default is None:
        return ""
    return f"`{option.default}`"


def settings() -> str:
    """The text of settings.md."""
    general = WorkspaceSettings.model_fields
    parts = [SETTINGS_HEAD, "## General\n"]
    rows = [r for r in _rows(WorkspaceSettings, "") if r[0] in general]
    parts.append(_table(rows))
    parts += ["## training\n", _table(list(_rows(TrainingSettings, "training.")), same=True)]
    parts += [
        "`checkpoint_interval` and `checkpoint_retention` are accepted as other names of "
        "`checkpoint.save_freq` and `checkpoint.keep_last_n`, also directly under `training`.\n"
    ]
    parts += [
        "## server\n",
        "Used by `tsuzuku serve`; `language` by all commands. See [server.md](server.md) and "
        "[security.md](security.md).\n",
        _table(list(_rows(ServerSettings, "server."))),
    ]
    for kind, folder in (("models", "models"), ("datasets", "datasets")):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            if path.stem != "__init__" and (own := list(_plugin_rows(path, kind))):
                parts += [f"## {kind}.{path.stem}\n", _table(own)]
    return NOTE + "\n".join(parts)


TAKES = {"workspace": "DIR", "output": "DIR"}
"""What options take whose name does not say it."""

Row = tuple[str, str, str, str]


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    """Path, type, default and meaning of every setting, sections after their key."""
    for name, field in model.model_fields.items():
        path = prefix + name
        inner = _section(field.annotation)
        meaning = field.description or WITHOUT_DOCSTRING.get(path, "")
        default = field.get_default(call_default_factory=True)
        if inner is not None and default is not None:
            yield path, "section", "", meaning
        else:
            yield path, _type(field.annotation, field.metadata), _value(default), meaning
        if inner is not None and prefix:
            yield from _rows(inner, path + ".")


def _section(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _type(annotation: Any, constraints: Iterable[Any] = ()) -> str:
    """What a setting takes, in words; `constraints` are those outside of the annotation."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], [*inner[1:], *constraints])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_type(part, constraints) for part in inner)
    if origin is list:
        return f"list of: {_type(inner[0])}"
    if origin is tuple:
        return f"list of {len(inner)}: {_type(inner[0])}"
    if origin is dict or _section(annotation):
        return "section"
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    words[type(None)] = "null"
    if annotation is type(None):
        return "null"
    return " ".join([words[annotation], ", ".join(_bounds(constraints))]).strip()


def _bounds(constraints: Iterable[Any]) -> Iterator[str]:
    for constraint in constraints:
        yield from _bounds(getattr(constraint, "metadata", ()))
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if isinstance(value := getattr(constraint, name, None), int | float):
                yield f"{sign} {value:g}"


def _value(default: Any) -> str:
    if default is None:
        return "`null`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple | list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


def _plugin_rows(path: Path, kind: str) -> Iterator[Row]:
    """The settings in a built-in plug-in's `Config`, read from its source."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or node.name != "Config":
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            default = field.value
            if isinstance(default, ast.Call):
                default = next((k.value for k in default.keywords if k.arg == "default"), None)
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = inspect.cleandoc(str(after.value.value))
            shown = "" if default is None else _value(ast.literal_eval(default))
            name = f"{kind}.{path.stem}.{field.target.id}"
            yield name, f"`{ast.unparse(field.annotation)}`", shown, text


def _table(rows: list[Row], same: bool = False) -> str:
    head = ["setting", "type", "default", "meaning", *(["same result"] if same else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path, kind, default, meaning in rows:
        cells = [f"`{path}`", _cell(kind), _cell(default), _cell(meaning)]
        if same:
            cells.append("✓" if path.removeprefix("training.") in SAME_RESULT else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main(words: list[str]) -> int:
    """Write the files; with `--check` only say which of them are not as they would be written."""
    stale: list[str] = []
    for name, text in pages().items():
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in words:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in words:
        print(f"{', '.join(stale)}: not up to date; run `python docs/generate.py`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
