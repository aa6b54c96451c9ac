"""The machine that the server runs on, and the workers on it."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Iterable
from typing import Any

import psutil

from tsuzuku import __version__
from tsuzuku.core.answers import Gpu, Memory, ProcessInfo, System
from tsuzuku.core.workspace import Workspace

_processes: dict[int, psutil.Process] = {}
"""Kept from one question to the next: use of the CPU is measured in between."""


def look(workspace: Workspace, run_ids: Iterable[str]) -> System:
    """Processor, memory, disk and GPUs, and what the workers of these runs use of them."""
    memory = psutil.virtual_memory()
    existing = next(p for p in (workspace.outputs, *workspace.outputs.parents) if p.exists())
    disk = shutil.disk_usage(existing)
    return System(
        hostname=socket.gethostname(),
        cpu_count=psutil.cpu_count() or 1,
        cpu_percent=psutil.cpu_percent(),
        memory=Memory(
            total=memory.total, used=memory.total - memory.available, percent=memory.percent
        ),
        disk=Memory(
            total=disk.total,
            used=disk.used,
            percent=round(100 * disk.used / max(disk.total, 1), 1),
        ),
        disk_free=disk.free,
        gpus=_gpus(),
        workers=[w for w in (_worker(workspace, r) for r in run_ids) if w is not None],
        tsuzuku_version=__version__,
    )


def _worker(workspace: Workspace, run_id: str) -> ProcessInfo | None:
    pid = workspace.run_dir(run_id).worker()
    if pid is None:
        return None
    try:
        if pid not in _processes:
            _processes.clear()
            _processes[pid] = psutil.Process(pid)
        family = [_processes[pid], *_processes[pid].children(recursive=True)]
        memory = sum(p.memory_info().rss for p in family)
        return ProcessInfo(
            run_id=run_id, pid=pid, cpu_percent=_processes[pid].cpu_percent(), memory=memory
        )
    except psutil.Error:
        return None


def _gpus() -> list[Gpu]:
    """NVIDIA's, where its driver is; not run on the machine that this was written on."""
    with contextlib.suppress(Exception):  # no driver, no card, another version of it
        import pynvml  # pyright: ignore[reportMissingTypeStubs]

        nvml: Any = pynvml
        nvml.nvmlInit()
        try:
            return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        finally:
            nvml.nvmlShutdown()
    return []


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    return Gpu(
        name=name.decode() if isinstance(name, bytes) else str(name),
        memory_total=int(memory.total),
        memory_used=int(memory.used),
        utilization=float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature=float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    )
