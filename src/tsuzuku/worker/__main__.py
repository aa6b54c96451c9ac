"""`python -m tsuzuku.worker …`: what the server and the command line start.

`train`, and `fetch` with `--tell`, write events to the workspace's store. The other commands print
one JSON object a line, and nothing else: what a plug-in prints goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsuzuku.worker.pipes import Answers


def main(words: list[str] | None = None) -> int:
    chosen = _parser().parse_args(words)
    from tsuzuku.core.errors import TsuzukuError

    telling = _TELLING.get("tell" if chosen.command == "fetch" and chosen.tell else chosen.command)
    if telling is None:
        return _answered(chosen)
    try:
        return telling(chosen)
    except TsuzukuError as error:
        print(f"tsuzuku: {error}", file=sys.stderr)
        return error.exit_code


def _answered(chosen: Any) -> int:
    from tsuzuku.core.errors import TsuzukuError
    from tsuzuku.worker.pipes import Answers, leave

    answers = Answers()
    try:
        code = _ANSWERING[chosen.command](chosen, answers)
    except TsuzukuError as error:
        answers.send({"error": error.detail, "hint": error.hint, "code": error.code})
        code = error.exit_code
    return leave(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tsuzuku.worker")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--outputs", type=Path, help="another folder than the workspace's outputs/")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="work on a run until it is completed or stopped")
    train.add_argument("--run", required=True)
    commands.add_parser("rank", help="train as one of several, as the environment says")
    for name, words in (
        ("verify", "check files as a whole"),
        ("gather", "make one file each of checkpoints in parts"),
        ("describe", "say what is in a checkpoint"),
        ("compare", "name the first difference of two checkpoints"),
    ):
        commands.add_parser(name, help=words).add_argument("paths", nargs="+", type=Path)
    for name in ("evaluate", "predict"):
        command = commands.add_parser(name)
        evaluating = name == "evaluate"
        command.add_argument("--run", required=evaluating)
        command.add_argument("--checkpoint", type=Path, required=evaluating)
        if evaluating:
            command.add_argument("--dataset")
        else:
            command.add_argument("--exported", type=Path, help="an ONNX file in its place")
            command.add_argument("--output", type=Path, required=True)
            command.add_argument("inputs", nargs="+")
    fetch = commands.add_parser("fetch", help="download or make a data set")
    fetch.add_argument("--name", required=True)
    fetch.add_argument("--spec", required=True, help="the DOWNLOADS entry, as JSON")
    fetch.add_argument("--target", type=Path, required=True)
    fetch.add_argument(
        "--tell", action="store_true", help="write events to the store, nothing to stdout"
    )
    plugins = commands.add_parser("plugins", help="describe plug-ins, one after the other")
    plugins.add_argument("--items", required=True, help="JSON: a list of {kind, name, path}")
    commands.add_parser("desk", help="answer requests from stdin until it ends")
    export = commands.add_parser("export", help="write a checkpoint in another format")
    export.add_argument("--run", help="the run that the checkpoint is of")
    export.add_argument("--checkpoint", type=Path, required=True)
    export.add_argument("--format", required=True)
    export.add_argument("--half", action="store_true", help="16-bit floats")
    export.add_argument("--output", type=Path, required=True)
    make = commands.add_parser("make", help="make a data set on the spot")
    make.add_argument("--name", required=True, choices=["digits", "speech", "face"])
    make.add_argument("--target", type=Path, required=True)
    make.add_argument("--count", type=int, help="speech, face: so many utterances")
    make.add_argument(
        "--seed", type=int, default=0, help="speech, face: other sentences and voices"
    )
    make.add_argument("--text", type=Path, help="speech: a file with the lines to speak")
    return parser


def _train(chosen: Any) -> int:
    from tsuzuku.worker.stop import StopSignal

    stop = StopSignal()  # this and the lock before torch is loaded, which takes seconds
    from tsuzuku.core.lock import RunLock
    from tsuzuku.core.workspace import Workspace

    workspace = Workspace(chosen.workspace, chosen.outputs)
    lock = RunLock(workspace.run_dir(chosen.run).lock)
    lock.acquire()
    from tsuzuku.worker.train import train

    return train(workspace, chosen.run, stop, lock)


def _rank(_chosen: Any) -> int:
    from tsuzuku.worker.rank import main as work

    return work()


def _verify(chosen: Any, answers: Answers) -> int:
    from tsuzuku.core.errors import CorruptCheckpoint
    from tsuzuku.worker.check import verify

    code = 0
    for path in chosen.paths:
        try:
            answers.send({"path": str(path), "ok": True, "checked": verify(path)})
        except CorruptCheckpoint as error:
            code = 1
            answers.send(
                {"path": str(path), "ok": False, "error": error.detail, "code": error.code}
            )
    return code


def _gather(chosen: Any, answers: Answers) -> int:
    from tsuzuku.core import checkpoint_files, parts
    from tsuzuku.core.errors import TsuzukuError
    from tsuzuku.training.gathering import gather

    code = 0
    for path in chosen.paths:
        said = {"path": str(path)}
        try:
            before = checkpoint_files.read(path.resolve()).info
            after = gather(path).info
            one = {"size": after["size"], "sha256": after["sha256"]}
            answers.send({**said, "ok": True, "gathered": parts.KEY in before, **one})
        except TsuzukuError as error:
            code = 1
            failed = {"error": error.detail, "hint": error.hint, "code": error.code}
            answers.send({**said, "ok": False, **failed})
    return code


def _describe(chosen: Any, answers: Answers) -> int:
    from tsuzuku.worker.check import describe

    for path in chosen.paths:
        answers.send(describe(path))
    return 0


def _compare(chosen: Any, answers: Answers) -> int:
    from tsuzuku.worker.check import first_difference

    difference = first_difference(*chosen.paths[:2])
    answers.send({"same": difference is None, "difference": difference})
    return 0 if difference is None else 1


def _open(chosen: Any, dataset: str | None = None) -> Any:
    from tsuzuku.core import checkpoint_files
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.use import open_trained

    workspace = Workspace(chosen.workspace, chosen.outputs)
    checkpoint = checkpoint_files.read(chosen.checkpoint)
    checkpoint_files.check(checkpoint)
    return open_trained(workspace, workspace.run_dir(chosen.run), checkpoint, dataset)


def _evaluate(chosen: Any, answers: Answers) -> int:
    from tsuzuku.core.schemas import jsonable
    from tsuzuku.worker.use import evaluate

    answers.send({"metrics": jsonable(evaluate(_open(chosen, chosen.dataset)))})
    return 0


def _predict(chosen: Any, answers: Answers) -> int:
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.exported import Bare, open_exported, predict_bare
    from tsuzuku.worker.outputs import write_outputs
    from tsuzuku.worker.use import predict

    if chosen.exported is not None:
        workspace = Workspace(chosen.workspace, chosen.outputs)
        trained = open_exported(workspace, chosen.exported)
    else:
        trained = _open(chosen)
    for given in chosen.inputs:
        if isinstance(trained, Bare):
            made, label = predict_bare(trained, given), trained.label
        else:
            made, label = predict(trained, given).outputs, trained.plugin.label
        outputs = write_outputs(made, chosen.output, Path(given).stem, label)
        answers.send({"input": given, "outputs": outputs})
    return 0


def _fetch(chosen: Any, answers: Answers) -> int:
    from tsuzuku.worker.fetch import FetchProgress, fetch

    def report(progress: FetchProgress) -> None:
        answers.send(
            {
                "file": progress.file,
                "done_bytes": progress.done_bytes,
                "total_bytes": progress.total_bytes,
                "message": progress.message,
            }
        )

    fetch(chosen.name, json.loads(chosen.spec), chosen.target, report)
    return 0


def _fetch_and_tell(chosen: Any) -> int:
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.tell import fetch_and_tell

    workspace = Workspace(chosen.workspace, chosen.outputs)
    return fetch_and_tell(workspace, chosen.name, json.loads(chosen.spec), chosen.target)


def _make(chosen: Any, answers: Answers) -> int:
    if chosen.name == "digits":
        from tsuzuku.worker.digits import make_digits

        make_digits(chosen.target)
    else:
        from tsuzuku.worker.face import make_face
        from tsuzuku.worker.speech import make_speech

        def report(done: int, total: int) -> None:
            answers.send({"done": done, "total": total})

        if chosen.name == "face":
            make_face(chosen.target, chosen.count, chosen.seed, report)
        else:
            make_speech(chosen.target, chosen.count, chosen.seed, chosen.text, report)
    answers.send({"path": str(chosen.target)})
    return 0


def _plugins(chosen: Any, answers: Answers) -> int:
    from tsuzuku.worker.describe import describe_plugin

    for item in json.loads(chosen.items):
        answers.send(describe_plugin(item["kind"], item["name"], Path(item["path"])))
    return 0


def _desk(chosen: Any, answers: Answers) -> int:
    from tsuzuku.worker.pipes import own_input

    requests = own_input()
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.worker.desk import serve

    serve(Workspace(chosen.workspace, chosen.outputs), requests, answers)
    return 0


def _export(chosen: Any, answers: Answers) -> int:
    from tsuzuku.core.workspace import Workspace
    from tsuzuku.training.export import export

    def opening() -> tuple[Any, Any]:
        trained = _open(chosen)
        return trained.plugin, trained.model

    if chosen.run is not None:
        Workspace(chosen.workspace, chosen.outputs).run_dir(chosen.run)
    known = opening if chosen.run is not None else None
    answers.send(
        export(chosen.checkpoint, chosen.format, chosen.output, half=chosen.half, opening=known)
    )
    return 0


_TELLING: dict[str, Callable[[Any], int]] = {
    "train": _train,
    "rank": _rank,
    "tell": _fetch_and_tell,
}
"""Commands whose words are events; they need nobody who listens."""

_ANSWERING: dict[str, Callable[[Any, Answers], int]] = {
    "verify": _verify,
    "gather": _gather,
    "describe": _describe,
    "compare": _compare,
    "evaluate": _evaluate,
    "predict": _predict,
    "fetch": _fetch,
    "make": _make,
    "plugins": _plugins,
    "desk": _desk,
    "export": _export,
}

if __name__ == "__main__":
    sys.exit(main())
