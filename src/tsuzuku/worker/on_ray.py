"""Ranks on the machines of a Ray cluster, started by Ray Train.

Ray places processes and lets them find each other. Its own restarts and its checkpoint keeping are
off: there is one who retries (the server), and one who owns checkpoints (the run's driver).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import platform
import shutil
import socket
import sys
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from pathlib import Path
from typing import Any

from tsuzuku import __version__
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.launch import worker_environment
from tsuzuku.core.proofs import installed_torch
from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import DistributedSettings, RunSettings, TrainingSettings
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.distributed import PATIENCE
from tsuzuku.worker import leash, shared_paths
from tsuzuku.worker.ray_cluster import Cluster, Machine, wait_for
from tsuzuku.worker.torchrun import processors

FREED = 10.0
"""Seconds in which a cluster gets free what an attempt that was just killed had."""

ENDED = 10.0
"""Seconds in which Ray puts away ranks that have ended by themselves."""

LOOKED = 60.0
"""Seconds in which every machine has to have said what is installed there."""

PASSED_ON = ("CUBLAS_", "GLOO_", "GOMP_", "MKL_", "NCCL_", "PYTHONUNBUFFERED", "TORCH_")
"""Of the driver's environment, what every rank has to have alike for the same bits, and for how
they reach each other."""

DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
"""Where one of these is, a machine has GPUs that torch trains on."""

STORAGE = ".ray"
"""In the run's folder, which all machines see: what Ray Train writes down, while it goes on."""


class OnRay:
    """See `Engine`."""

    def __init__(
        self, workspace: Workspace, run: RunDir, settings: RunSettings, attempt: Attempt
    ) -> None:
        training = settings.training
        self._workspace, self._settings = workspace, settings
        self._needed = shared_paths.needed(workspace, run, settings)
        self._training = training
        self._fitting: Future[None] | None = None
        self._storage: Path | None = None
        self._gone: set[str] = set()
        self.notes: list[tuple[str, str, dict[str, Any]]] = []
        require_fitting(training)
        where = training.distributed
        self._cluster = Cluster(where.address, gpus=training.device in ("auto", "cuda"))
        try:
            self._machines = self._cluster.machines()
            self.host = self._machines[0].address
            self._resources = resources_of(training, self._machines)
            self._places = self._settled(may_be_fewer=attempt.attempt > 1)
            self.ranks = len(self._places)
            if self.ranks < where.ranks:
                fewer = {"ranks": self.ranks, "asked": where.ranks}
                self.notes.append(("fewer_ranks", "warning", fewer))
            names = [machine.name for machine in self._places]
            where_to = ", ".join(f"{name}: {names.count(name)}" for name in dict.fromkeys(names))
            self.notes.append(("placing", "info", {"places": where_to}))
        except BaseException:
            self._cluster.close()
            raise

    def start(self, environment: dict[str, str]) -> None:
        task = json.loads(environment[leash.TASK])
        run = Workspace(Path(task["workspace"]), Path(task["outputs"])).run_dir(task["run"])
        self._storage = run.path / STORAGE
        shutil.rmtree(self._storage, ignore_errors=True)  # a killed driver's
        self._cluster.goes_with_it(self._storage)
        self._fitting = self._cluster.do(functools.partial(self._fit, environment))

    def ended(self) -> str | None:
        if self._fitting is None or not self._fitting.done():
            return None
        error = self._fitting.exception()
        if error is None:
            return ""
        print(error, file=sys.stderr)
        return f"Ray could not train: {_reason(error)} logs/worker.log says more."

    def kill(self) -> None:
        """The ranks end by themselves when their line does, and Ray with them."""
        if self._fitting is not None:
            with contextlib.suppress(NotInTime, Exception):
                self._fitting.result(ENDED)
        self._cluster.close()
        if self._storage is not None:
            shutil.rmtree(self._storage, ignore_errors=True)

    def _settled(self, *, may_be_fewer: bool) -> list[Machine]:
        """The machine of each rank, all of which answer and have the same versions."""
        while True:
            found = self._placed(may_be_fewer=may_be_fewer)
            silent: set[str] = set() if self._cluster.local else self._silent(found)
            if not silent:
                return found
            if not may_be_fewer:
                names = ", ".join(m.name for m in self._machines if m.node_id in silent)
                raise TsuzukuError(f"A machine does not answer: {names}.", code="rank_lost")
            self._gone |= silent  # lost, and Ray has not noticed yet

    def _placed(self, *, may_be_fewer: bool) -> list[Machine]:
        """The machine of each rank; raises WrongInput where they do not fit."""
        where = self._training.distributed

        def look() -> bool:
            found = self._cluster.machines()
            self._machines = [m for m in found if m.node_id not in self._gone]
            return len(places(self._machines, self._resources, where)) == where.ranks

        could = places(self._machines, self._resources, where, free=False)
        if len(could) < where.ranks and not may_be_fewer:
            raise too_few(where, self._resources, self._machines, free=False)
        wait_for(look, FREED)
        found = places(self._machines, self._resources, where)
        if len(found) == where.ranks:
            return found
        if not found or not may_be_fewer:
            raise too_few(where, self._resources, self._machines, free=True)
        return found

    def _silent(self, places: list[Machine]) -> set[str]:
        """The machines that do not answer; raises WrongInput if one has other versions, and
        TsuzukuError if one does not see the run or its data."""
        ray = self._cluster.ray
        affinity = importlib.import_module("ray.util.scheduling_strategies")
        looker = ray.remote(num_cpus=0, max_retries=0)(_looker())
        asked = {
            looker.options(
                scheduling_strategy=affinity.NodeAffinitySchedulingStrategy(node_id, soft=False)
            ).remote([str(path) for path in self._needed]): machine
            for node_id, machine in {m.node_id: m for m in places}.items()
        }
        silent: set[str] = set()
        mine = {"tsuzuku": __version__, "torch": installed_torch()}
        mine["Python"] = platform.python_version()
        for answer, machine in asked.items():
            try:
                theirs, seen = ray.get(answer, timeout=LOOKED)
            except Exception as error:
                print(error, file=sys.stderr)
                silent.add(machine.node_id)
                continue
            for name, version in mine.items():
                if theirs[name] == version:
                    continue
                has = f"{name} {theirs[name]}" if theirs[name] else f"no {name}"
                raise WrongInput(
                    f"The machine {machine.name} ({machine.address}) has {has}, and this one has "
                    f"{name} {version}.",
                    "Install the same versions on every machine.",
                    code="other_versions",
                )
            shared_paths.require_seen(seen, machine.name, self._workspace, self._settings)
        return silent

    def _threads(self) -> int:
        """Threads a rank: as under torchrun, and for one rank as without any launcher."""
        if much := self._training.distributed.resources.get("CPU"):
            return max(int(much), 1)
        if not self._cluster.local:
            beside = max(self._places.count(machine) for machine in self._places)
            return max(int(min(m.total.get("CPU", 1) for m in self._places)) // beside, 1)
        if self.ranks > 1:
            return max(processors() // self.ranks, 1)
        return int(importlib.import_module("torch").get_num_threads())

    def _fit(self, environment: dict[str, str]) -> None:
        """In Ray's thread: start the ranks and wait until they have ended."""
        train = importlib.import_module("ray.train")
        torch = importlib.import_module("ray.train.torch")
        failures: dict[str, Any] = {"max_failures": 0, "controller_failure_limit": 0}
        if "max_preemption_failures" in train.FailureConfig.__dataclass_fields__:
            failures["max_preemption_failures"] = 0  # since Ray 2.5x; it would restart for ever
        variables = {k: v for k, v in worker_environment().items() if k.startswith(PASSED_ON)}
        variables["OMP_NUM_THREADS"] = str(self._threads())
        if self._cluster.local and (name := _loopback()):
            variables.setdefault("GLOO_SOCKET_IFNAME", name)
        gpus = self._resources.get("GPU", 0) > 0
        trainer = _trainer_of(torch)(
            functools.partial(_rank, environment),
            torch_config=torch.TorchConfig(
                backend="nccl" if gpus else "gloo", timeout_s=int(PATIENCE.total_seconds())
            ),
            scaling_config=train.ScalingConfig(
                num_workers=self.ranks,
                use_gpu=gpus,
                resources_per_worker=self._resources,
                label_selector=[{"ray.io/node-id": place.node_id} for place in self._places],
            ),
            run_config=train.RunConfig(
                name="ranks",
                storage_path=str(self._storage),
                failure_config=train.FailureConfig(**failures),
                worker_runtime_env={"env_vars": variables},
            ),
        )
        trainer.fit()


def require_fitting(training: TrainingSettings) -> None:
    """Raise WrongInput for what no cluster could do."""
    where = training.distributed
    if where.resources and not any(where.resources.values()):
        raise WrongInput(
            "training.distributed.resources: a rank has to ask for something.",
            "Leave it empty for a GPU a rank, or a CPU where there is none.",
        )
    if where.address is None and where.nodes > 1:
        raise WrongInput(
            f"training.distributed.nodes: {where.nodes} machines are asked for, and a cluster of "
            "the run's own has this one.",
            "Name a cluster by training.distributed.address.",
            code="too_few_devices",
        )
    if where.address is None:
        _require_room_here(training)


def _require_room_here(training: TrainingSettings) -> None:
    """Raise WrongInput where this machine has too few processors: to start a cluster takes long.

    What it has of anything else, the cluster says.
    """
    has_gpus = any(Path(path).exists() for path in DRIVERS)
    if training.device == "auto" and has_gpus and not training.distributed.resources:
        return
    here = {"CPU": float(processors())}
    machine = Machine("", socket.gethostname(), "127.0.0.1", here, here)
    resources = resources_of(training, [machine])
    if resources.keys() != {"CPU"}:
        return
    if len(places([machine], resources, training.distributed)) < training.distributed.ranks:
        raise too_few(training.distributed, resources, [machine], free=False)


def too_few(
    where: DistributedSettings, resources: dict[str, float], machines: list[Machine], *, free: bool
) -> WrongInput:
    """That there is no room, or no `free` one, for the ranks that are asked for."""
    each = ", ".join(f"{kind}: {much:g}" for kind, much in resources.items())
    rooms = ", ".join(f"{one.name} {one.room(resources, free=free)}" for one in machines)
    has = "has free room for" if free else "has room for"
    return WrongInput(
        f"training.distributed: {_count(where.devices, 'rank')} on each of "
        f"{_count(where.nodes, 'machine')} {'is' if where.ranks == 1 else 'are'} asked for, "
        f"with {{{each}}} a rank, and the cluster {has} {rooms or 'none'}.",
        "Wait until others have ended, or ask for less."
        if free
        else "Ask for less (devices, nodes, resources), or add machines to the cluster.",
        code="devices_taken" if free else "too_few_devices",
    )


def resources_of(training: TrainingSettings, machines: list[Machine]) -> dict[str, float]:
    """What each rank asks for."""
    asked = {kind: much for kind, much in training.distributed.resources.items() if much}
    if asked:
        return asked
    has_gpus = any(machine.total.get("GPU", 0) >= 1 for machine in machines)
    if training.device == "cuda" or (training.device == "auto" and has_gpus):
        return {"GPU": 1}
    return {"CPU": 1}


def places(
    machines: list[Machine], resources: dict[str, float], where: Any, *, free: bool = True
) -> list[Machine]:
    """The machine of each rank, `devices` on each of `nodes`; fewer where there is no room."""
    rooms = [(machine.room(resources, free=free), machine) for machine in machines]
    rooms.sort(key=lambda room: -min(room[0], where.devices))  # stable: else in their order
    return [
        machine for room, machine in rooms[: where.nodes] for _ in range(min(room, where.devices))
    ]


def _rank(environment: dict[str, str]) -> None:
    """What each of Ray Train's workers does, in a thread of its process."""
    os.environ.update(environment)
    root = json.loads(environment[leash.TASK])["workspace"]
    with contextlib.suppress(OSError):  # where it is not seen, that is said by and by
        os.chdir(root)
    # the workspace's files are not to shadow libraries; Ray adds where its driver stands
    sys.path[:] = [path for path in sys.path if path and Path(path) != Path(root)]
    from tsuzuku.worker.rank import work

    if code := work():
        os._exit(code)  # it has been told why; the others are not to wait for this process


def _trainer_of(torch: Any) -> Any:
    """TorchTrainer without its cleaner: that outlives a killed driver, and in a cluster without a
    dashboard for ever. Ray frees the places of a driver that has gone by itself."""

    trainer: Any = torch.TorchTrainer

    class Trainer(trainer):
        def _create_default_callbacks(self) -> list[Any]:
            made: list[Any] = trainer._create_default_callbacks(self)
            return [one for one in made if "PlacementGroupCleaner" not in type(one).__name__]

    return Trainer


def _looker() -> Any:
    """What says what is installed on a machine, and which of the paths are there; sent as it is,
    since tsuzuku may not be there."""

    def look(paths: list[str]) -> tuple[dict[str, str], dict[str, bool]]:
        import importlib.metadata
        import platform
        from pathlib import Path

        def installed(name: str) -> str:
            try:
                return importlib.metadata.version(name).split("+")[0]
            except importlib.metadata.PackageNotFoundError:
                return ""

        found = {"torch": installed("torch"), "Python": platform.python_version(), "tsuzuku": ""}
        try:
            import tsuzuku as theirs

            found["tsuzuku"] = theirs.__version__
        except ImportError:
            pass
        return found, {path: Path(path).exists() for path in paths}

    return look


def _loopback() -> str:
    """The name of the interface over which the processes of one machine talk."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "")


def _reason(error: BaseException) -> str:
    """What Ray Train failed of, in a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".") + "."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"
