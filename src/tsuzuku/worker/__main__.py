"""`python -m tsuzuku.worker …`: what the server and the command line start.

`train` writes events to the workspace's store. The other commands print one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def main(words: list[str] | None = None) -> int:
    chosen = _parser().parse_args(words)
    from tsuzuku.core.errors import TsuzukuError

    try:
        return _COMMANDS[chosen.command](chosen)
    except TsuzukuError as error:
        if chosen.command == "train":
            print(f"tsuzuku: {error}", file=sys.stderr)
        else:
            _answer({"error": error.detail, "hint": error.hint, "code": error.code})
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tsuzuku.worker")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--outputs", type=Path, help="another folder than the workspace's outputs/")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="work on a run until it is completed or stopped")
    train.add_argument("--run", required=True)
    for name, words in (
        ("verify", "check files as a whole"),
        ("describe", "say what is in a checkpoint"),
        ("compare", "name the first difference of two checkpoints"),
    ):
        commands.add_parser(name, help=words).add_argument("paths", nargs="+", type=Path)
    for name in ("evaluate", "predict"):
        command = commands.add_parser(name)
        command.add_argument("--run", required=True)
        command.add_argument("--checkpoint", type=Path, required=True)
        if name == "evaluate":
            command.add_argument("--dataset")
        else:
            command.add_argument("--output", type=Path, required=True)
            command.add_argument("inputs", nargs="+")
    fetch = commands.add_parser("fetch", help="download or make a data set")
    fetch.add_argument("--name", required=True)
    fetch.add_argument("--spec", required=True, help="the DOWNLOADS entry, as JSON")
    fetch.add_argument("--target", type=Path, required=True)
    make = commands.add_parser("make", help="make a data set on the spot")
    make.add_argument("--name", required=True, choices=["digits"])
    make.add_argument("--target", type=Path, required=True)
    return parser


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _train(chosen: Any) -> int:
    from tsuzuku.worker.stop import StopSignal

    stop = StopSignal()  # before torch is loaded, which takes seconds
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.train import train

    return train(Workspace(chosen.workspace, chosen.outputs), chosen.run, stop)


def _verify(chosen: Any) -> int:
    from tsuzuku.core.errors import CorruptCheckpoint
    from tsuzuku.worker.check import verify

    code = 0
    for path in chosen.paths:
        try:
            _answer({"path": str(path), "ok": True, "checked": verify(path)})
        except CorruptCheckpoint as error:
            code = 1
            _answer({"path": str(path), "ok": False, "error": error.detail, "code": error.code})
    return code


def _describe(chosen: Any) -> int:
    from tsuzuku.worker.check import describe

    for path in chosen.paths:
        _answer(describe(path))
    return 0


def _compare(chosen: Any) -> int:
    from tsuzuku.worker.check import first_difference

    difference = first_difference(*chosen.paths[:2])
    _answer({"same": difference is None, "difference": difference})
    return 0 if difference is None else 1


def _open(chosen: Any, dataset: str | None = None) -> Any:
    from tsuzuku.core import checkpoint_files
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.use import open_trained

    workspace = Workspace(chosen.workspace, chosen.outputs)
    checkpoint = checkpoint_files.read(chosen.checkpoint)
    checkpoint_files.check(checkpoint)
    return open_trained(workspace, workspace.run_dir(chosen.run), checkpoint, dataset)


def _evaluate(chosen: Any) -> int:
    from tsuzuku.core.schemas import jsonable
    from tsuzuku.worker.use import evaluate

    _answer({"metrics": jsonable(evaluate(_open(chosen, chosen.dataset)))})
    return 0


def _predict(chosen: Any) -> int:
    from tsuzuku.worker.use import predict, write_outputs

    trained = _open(chosen)
    for given in chosen.inputs:
        outputs = write_outputs(predict(trained, given), chosen.output, Path(given).stem)
        _answer({"input": given, "outputs": outputs})
    return 0


def _fetch(chosen: Any) -> int:
    from tsuzuku.worker.fetch import FetchProgress, fetch

    def report(progress: FetchProgress) -> None:
        _answer(
            {
                "file": progress.file,
                "done_bytes": progress.done_bytes,
                "total_bytes": progress.total_bytes,
                "message": progress.message,
            }
        )

    fetch(chosen.name, json.loads(chosen.spec), chosen.target, report)
    return 0


def _make(chosen: Any) -> int:
    from tsuzuku.worker.digits import make_digits

    make_digits(chosen.target)
    _answer({"path": str(chosen.target)})
    return 0


_COMMANDS = {
    "train": _train,
    "verify": _verify,
    "describe": _describe,
    "compare": _compare,
    "evaluate": _evaluate,
    "predict": _predict,
    "fetch": _fetch,
    "make": _make,
}

if __name__ == "__main__":
    sys.exit(main())
