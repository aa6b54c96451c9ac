"""Operations on checkpoints, each in a child that waits, stopped, for whoever traces it.

Started as a program with a folder: reads the name of an operation a line from stdin, answers with
the child's process id, and when it has ended with how it did: a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, compression
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.settings import CheckpointSettings
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.workspace import RunDir
from tsuzuku.training.checkpoints import Save, disk_error, write

LATEST, BEST = "c-latest.pt", "c-best.pt"


def state_of(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    return {"w": torch.randn(30_000, generator=generator), "b": torch.zeros(3)}


def save(run: RunDir, epoch: int) -> None:
    """As a training saves: the file, `latest`, `best`."""
    info = {"epoch": epoch, "global_step": epoch, "metrics": {}, "config": {}, "metadata": {}}
    state = {**info, "model_state_dict": state_of(epoch)}
    file = write(Save(run.checkpoints / f"c-{epoch}.pt", state, {**info, "role": "checkpoint"}))
    checkpoint_files.link_latest(file.path, LATEST)
    checkpoint_files.link_best(file, BEST)


def prepare(run: RunDir) -> None:
    """A run with three checkpoints, the last of which is the best."""
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    for path in run.checkpoints.iterdir():
        path.unlink()
    for epoch in (1, 2, 3):
        save(run, epoch)


def interrupt(run: RunDir) -> None:
    """What kills have left: a draft, a sidecar without a file, a replacement that was not done."""
    (run.checkpoints / ".c-4.pt.tmp").write_bytes(b"half")
    newest = checkpoint_files.read(run.checkpoints / "c-3.pt")
    write_sidecar(run.checkpoints / "c-4.pt", newest.info)
    following = {"inode": 1, "info": dict(newest.info)}
    write_sidecar(newest.path, {**newest.info, checkpoint_files.NEXT: following})


def remove(run: RunDir) -> None:
    """What pruning does: the newest one is checked, the oldest goes."""
    files, _ = checkpoint_files.in_folder(run.checkpoints)
    policy = CheckpointSettings(keep_last_n=2, milestones=[])
    assert policy.keep_last_n == 2
    checkpoint_files.check(files[-1])
    checkpoint_files.remove(files[0].path)


def compress(run: RunDir) -> None:
    compression.compress(checkpoint_files.read(run.checkpoints / "c-1.pt"))


def export(run: RunDir) -> None:
    from tsuzuku.training.export import export as write_weights

    write_weights(run.checkpoints / "c-3.pt", "safetensors", run.path / "w.safetensors")


OPERATIONS: dict[str, Callable[[RunDir], object]] = {
    "save": lambda run: save(run, 4),
    "remove": remove,
    "compress": compress,
    "set aside": lambda run: checkpoint_files.set_aside(run.checkpoints / "c-3.pt"),
    "sweep": checkpoint_files.sweep,
    "export": export,
}


def _child(run: RunDir, name: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    code, said = 0, ""
    try:
        try:
            OPERATIONS[name](run)
        except OSError as error:  # the training turns it into a sentence
            raise disk_error(error, run.checkpoints) from error
    except TsuzukuError as error:
        code, said = 3, f"{error.code}: {error.detail}"
    except BaseException:
        code, said = 1, traceback.format_exc()
    # not by the calls that fail: the pipe is the parent's
    os.writev(_SAID, [json.dumps(said).encode()])
    os._exit(code)


_SAID = -1


def main() -> None:
    global _SAID
    run = RunDir(Path(sys.argv[1]))
    prepare(run)
    for operation in OPERATIONS.values():  # so that every module is loaded
        operation(run)
        prepare(run)
    print("ready", flush=True)
    for line in sys.stdin:
        name = line.strip()
        prepare(run)
        if name == "sweep":
            interrupt(run)
        reader, _SAID = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _child(run, name)
        os.close(_SAID)
        os.waitpid(pid, os.WUNTRACED)
        print(json.dumps({"pid": pid}), flush=True)
        with os.fdopen(reader, "rb") as pipe:
            text = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            said = json.loads(text) if text else ""
        except ValueError:
            said = text.decode(errors="replace")
        print(json.dumps({"status": status, "said": said}), flush=True)


if __name__ == "__main__":
    main()
