"""A process that stays: it keeps models warm and shows data sets, one request a line.

Requests are JSON objects with an `id` and a verb `do`; each gets one answer with that `id`.
Nothing that a request, a plug-in or a file does wrong ends it; the end of its input does.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import IO, Generic, TypeVar

import torch

from tsuzuku.core import checkpoint_files
from tsuzuku.core.config_loader import resolve
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.plugin_files import find
from tsuzuku.core.shortages import ran_out_of_memory
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.plugins import sentence
from tsuzuku.worker import browse
from tsuzuku.worker.exported import open_with_source
from tsuzuku.worker.failures import print_traceback
from tsuzuku.worker.outputs import encoded
from tsuzuku.worker.pipes import Answers
from tsuzuku.worker.use import Trained, open_trained, predict

T = TypeVar("T")

KEPT = 2
"""Models, and data sets, that stay in memory."""


class Warm(Generic[T]):
    """The last few things that were opened, by what they were opened from."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, opening: Callable[[], T]) -> tuple[T, bool]:
        """What `key` stands for, and whether it was there already."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], True
        while len(self._kept) >= KEPT:  # before the next takes its memory
            self._kept.popitem(last=False)
        self._kept[key] = opening()
        return self._kept[key], False

    def clear(self) -> bool:
        """Whether there was anything."""
        had = bool(self._kept)
        self._kept.clear()
        return had


class Desk:
    """Answers requests about one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._models: Warm[Trained] = Warm()
        self._datasets: Warm[browse.OpenDataset] = Warm()

    def answer(self, line: bytes) -> Tree:
        """The answer to one line; never raises what a request can bring about."""
        began = time.perf_counter()
        request: Tree = {}
        try:
            request = _parsed(line)
            done = self._done(request)
        except TsuzukuError as error:
            failed = {"error": error.detail, "hint": error.hint, "code": error.code}
            return {"id": request.get("id"), "ok": False, **failed}
        if request["do"] == "predict":
            done["total_time_ms"] = _ms(time.perf_counter() - began)
        return {"id": request.get("id"), "ok": True, **done}

    def _done(self, request: Tree) -> Tree:
        """Do what is asked; once more with all memory free, if it did not suffice."""
        for free in (self._forget, lambda: False):
            try:
                return self._verb(request)()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # sys.exit in a plug-in is no reason for a desk to end
                if not ran_out_of_memory(error):
                    if isinstance(error, TsuzukuError):
                        raise
                    print_traceback(error)
                    raise TsuzukuError(f"{sentence(error)}.", code="failed") from error
            # out here, where the error no longer keeps its frames, and what they hold, alive
            if not free():
                break
        raise TsuzukuError(
            "There is not enough memory for this.",
            "Try again when less is running here.",
            code="out_of_memory",
        )

    def _verb(self, request: Tree) -> Callable[[], Tree]:
        verbs: dict[str, Callable[[Tree], Tree]] = {
            "predict": self._predict,
            "samples": self._samples,
            "dataset": lambda r: browse.overview(self._dataset(r)),
            "forget": lambda _: {"forgotten": self._forget()},
        }
        verb = verbs.get(str(request.get("do")))
        if verb is None:
            raise WrongInput(f"A request's 'do' is one of {', '.join(verbs)}.", code="bad_request")
        return lambda: verb(request)

    def _forget(self) -> bool:
        had_models, had_data = self._models.clear(), self._datasets.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return had_models or had_data

    def _predict(self, request: Tree) -> Tree:
        given = _given(request)
        run = self.workspace.run_dir(_text(request, "run_id"))
        trained, warm = self._model(request, run)
        prediction = predict(trained, given)
        return {
            "outputs": encoded(prediction.outputs, trained.plugin.label),
            "run_id": run.run_id,
            "checkpoint": trained.checkpoint,
            "first_token_time_ms": _ms(prediction.first),
            "inference_time_ms": _ms(prediction.whole),
            "warm": warm,
        }

    def _model(self, request: Tree, run: RunDir) -> tuple[Trained, bool]:
        """The model of a checkpoint, or of an ONNX file, and whether it was open already."""
        if request.get("export") is not None:
            path = Path(_text(request, "export"))
            state = path.stat()
            key = (run.run_id, path, state.st_ino, state.st_mtime_ns)
            return self._models.get(key, lambda: open_with_source(self.workspace, path))
        # a link such as `latest` has no sidecar; what it points to has
        checkpoint = checkpoint_files.read(Path(_text(request, "checkpoint")).resolve())

        def opening() -> Trained:
            checkpoint_files.check(checkpoint)
            return open_trained(self.workspace, run, checkpoint)

        key = (run.run_id, checkpoint.path, checkpoint.info["sha256"])
        return self._models.get(key, opening)

    def _samples(self, request: Tree) -> Tree:
        opened = self._dataset(request)
        split = str(request.get("split") or "train")
        offset, limit = _count(request, "offset", 0), _count(request, "limit", 8)
        return browse.samples(opened, split, offset, limit)

    def _dataset(self, request: Tree) -> browse.OpenDataset:
        name = _text(request, "dataset")
        file = find("datasets", name, self.workspace.root)
        resolved = resolve(self.workspace.config(), "", name)
        settings = request.get("settings")
        settings = settings if is_tree(settings) else resolved.dataset
        training = resolved.training
        parting = (training.seed, training.validation_split, training.limit_samples)
        key = (file.path, file.sha256(), json.dumps(settings, sort_keys=True, default=str), parting)
        opened, _ = self._datasets.get(key, lambda: browse.open_dataset(file, settings, training))
        return opened


def serve(workspace: Workspace, requests: IO[bytes], answers: Answers) -> None:
    """Answer until there are no more requests, or nobody who reads the answers."""
    os.chdir(workspace.root)  # where relative paths of data sets start
    desk = Desk(workspace)
    try:
        for line in requests:
            if line.strip():
                answers.send(desk.answer(line))
    except BrokenPipeError:
        pass


def _parsed(line: bytes) -> Tree:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise WrongInput("A request is one JSON object on one line.", code="bad_request") from None
    if not is_tree(request):
        raise WrongInput("A request is one JSON object on one line.", code="bad_request")
    return request


def _given(request: Tree) -> str:
    """What to predict from, as `predict` takes it."""
    file, sample = request.get("file"), request.get("sample")
    if isinstance(file, str) and sample is None:
        return str(Path(file).absolute())  # a file may be called `0`, too
    if file is None and sample is not None:
        return str(_count(request, "sample", 0))
    raise WrongInput("A prediction needs a file or the number of a sample.", code="bad_request")


def _text(request: Tree, key: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not value:
        raise WrongInput(f"A request for {request['do']} needs {key!r}.", code="bad_request")
    return value


def _count(request: Tree, key: str, default: int) -> int:
    value = request.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WrongInput(f"{key!r} has to be a whole number of 0 or more.", code="bad_request")
    return value


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
