"""Ranks on one machine, started by torchrun's elastic agent."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.launch import worker_command, worker_environment
from tsuzuku.core.settings import TrainingSettings


class Torchrun:
    """See `Engine`. The agent does not restart: that is the server's to decide, for all runs."""

    host = "127.0.0.1"

    def __init__(self, training: TrainingSettings) -> None:
        self.ranks = training.distributed.devices
        self.notes: list[tuple[str, str, dict[str, Any]]] = []
        require_devices(training)
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        if self.ranks > 1:  # they would compete for the processors, and torchrun would give one
            environment["OMP_NUM_THREADS"] = str(max(processors() // self.ranks, 1))
        self._agent = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(self.ranks), "--max-restarts", "0"),
                *("--monitor-interval", "0.2", "--no-python"),
                *worker_command("rank"),
            ],
            stdin=subprocess.DEVNULL,
            env=worker_environment() | environment,
        )

    def ended(self) -> str | None:
        code = self._agent.poll() if self._agent else 0
        if code is None:
            return None
        return f"torchrun ended with exit code {code}; logs/worker.log says more." if code else ""

    def kill(self) -> None:
        """The ranks end by themselves when their line does, and the agent with them."""
        if self._agent is None:
            return
        try:
            self._agent.wait(10)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()


def processors() -> int:
    """Of those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_devices(training: TrainingSettings) -> None:
    """Raise WrongInput if this machine has fewer devices than ranks are asked for."""
    wanted = training.distributed.devices
    cuda = 0
    if training.device in ("auto", "cuda"):
        import torch

        cuda = torch.cuda.device_count()
    have, kind = (cuda, "GPU") if cuda else (processors(), "processor")
    if wanted > have:
        raise WrongInput(
            f"training.distributed.devices: {wanted} ranks are asked for, and this machine has "
            f"{have} {kind}{'s' if have != 1 else ''}.",
            f"Use devices: {have}, or launcher: ray with more machines.",
            code="too_few_devices",
        )
