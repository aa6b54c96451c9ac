"""Ranks on Ray: real clusters, real kills, and nothing that is left of them."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from attempts import difference, new_run, resume, said

from servers import serving
from trainings import api, make_slow_workspace, start
from tsuzuku.core import launch
from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.settings import DistributedSettings, RunSettings, TrainingSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.worker import rank, ray_cluster, shared_paths
from tsuzuku.worker.on_ray import places, require_fitting, resources_of
from tsuzuku.worker.ray_cluster import FOLDER, Cluster, Machine

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

TWO = ["distributed.devices=2", "num_epochs=12", "checkpoint.every_steps=5", "dataset.count=320"]
ON_RAY = [*TWO, "distributed.launcher=ray"]
PATIENCE = 120.0


def until(what: str, true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def left(process: subprocess.Popen[bytes]) -> set[int]:
    """What still lives of a worker that has ended: all that it started is of its session."""
    found: set[int] = set()
    for other in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.add(other.pid)
    return found


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where clusters of a run's own have theirs."""
    made = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's name has to be short
    monkeypatch.setenv("TMPDIR", str(made))
    yield made
    shutil.rmtree(made)


def trained(run: RunDir, store: Store, process: subprocess.Popen[bytes], steps: int) -> bool:
    assert process.poll() is None, said(run)
    event = store.last_event(run.run_id, "progress")
    return event is not None and event.payload["global_step"] >= steps


def note(run: RunDir) -> dict[str, Any]:
    """Where the ranks are."""
    return json.loads(run.places.read_text(encoding="utf-8"))


def ended(store: Store, run: RunDir) -> dict[str, Any]:
    """The error that a run ended with."""
    event = store.last_event(run.run_id, "error")
    assert event is not None, said(run)
    return event.payload


def refused(
    workspace: Workspace, store: Store, *words: str, code: int = 2
) -> tuple[RunDir, dict[str, Any]]:
    run = new_run(workspace, store, *words)
    assert launch.spawn(workspace, run).wait(PATIENCE) == code, said(run)
    return run, ended(store, run)


# A cluster of the run's own


@pytest.mark.soak  # Ray is started three times, and each of its processes loads torch
@pytest.mark.timeout(600)
def test_whatever_is_killed_a_run_on_ray_ends_at_the_bits_of_torchrun(
    workspace: Workspace, store: Store, folder: Path
) -> None:
    calm = new_run(workspace, store, *TWO, "distributed.launcher=torchrun")
    assert launch.spawn(workspace, calm).wait(PATIENCE) == 0, said(calm)

    run = new_run(workspace, store, *ON_RAY)
    process = launch.spawn(workspace, run)
    until("steps", lambda: trained(run, store, process, 7))
    os.kill(note(run)["ranks"][1]["pid"], signal.SIGKILL)
    assert process.wait(PATIENCE) == 1
    assert ended(store, run)["code"] == "rank_lost"
    until("nothing of Ray", lambda: not left(process))
    assert not list(folder.glob(f"{FOLDER}*"))

    process = launch.spawn(workspace, resume(workspace, store, run.run_id))
    until("its ranks", lambda: note(run)["attempt"] == 2 and len(note(run)["alive"]) == 2)
    until("more steps", lambda: trained(run, store, process, 30))
    process.kill()
    process.wait()
    until("nothing of Ray", lambda: not left(process))
    until("no folder", lambda: not list(folder.glob(f"{FOLDER}*")))

    process = launch.spawn(workspace, resume(workspace, store, run.run_id))
    assert process.wait(PATIENCE) == 0, said(run)
    assert not left(process)
    assert not list(folder.glob(f"{FOLDER}*"))
    assert not list(run.path.glob(".probe-*"))
    assert not (run.path / ".ray").exists()
    assert difference(store, calm, run) is None


# A cluster that is not there


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("127.0.0.1:1", "unreachable_cluster", "cannot be reached: Connection refused."),
        ("ray://127.0.0.1:1", "wrong_input", "is not an address of a Ray cluster. Use host:port"),
        ("here", "wrong_input", "here is not an address of a Ray cluster."),
    ],
)
def test_an_address_without_a_cluster_is_refused(address: str, code: str, words: str) -> None:
    with pytest.raises(WrongInput, match=re.escape(words)) as raised:
        Cluster(address, gpus=False)
    assert raised.value.code == code


def test_what_listens_but_is_no_ray_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "REACHED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(WrongInput, match=f"at {address} cannot be reached: nothing answers"):
            Cluster(address, gpus=False)


def test_without_ray_a_run_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(WrongInput, match=r"`pip install 'tsuzuku\[ray\]'`") as raised:
        Cluster(None, gpus=False)
    assert raised.value.code == "ray_missing"


def test_what_no_cluster_can_do_is_refused_before_one_is_looked_for() -> None:
    for where, words in (
        ({"nodes": 2}, "nodes: 2 machines are asked for"),
        ({"resources": {"CPU": 0}}, "resources: a rank has to ask for something"),
        ({"devices": 30}, "30 ranks on each of 1 machine are asked for, with {CPU: 1} a rank"),
        ({"resources": {"CPU": 999}}, "1 rank on each of 1 machine is asked for, with {CPU: 999}"),
    ):
        settings = DistributedSettings.model_validate({"launcher": "ray", **where})
        with pytest.raises(WrongInput, match=words):
            require_fitting(TrainingSettings(device="cpu", distributed=settings))
    # what a machine has beside processors is known to the cluster alone
    others = DistributedSettings(launcher="ray", devices=30, resources={"GPU": 1, "CPU": 1})
    require_fitting(TrainingSettings(distributed=others))
    elsewhere = DistributedSettings(launcher="ray", devices=30, address="auto")
    require_fitting(TrainingSettings(device="cpu", distributed=elsewhere))


# Who goes where


def machine(name: str, free: float, total: float = 4, kind: str = "CPU") -> Machine:
    return Machine(name, name, "127.0.0.1", {kind: total}, {kind: free})


@pytest.mark.parametrize(
    ("devices", "nodes", "free", "found"),
    [
        (2, 1, [4, 4], "aa"),
        (2, 2, [4, 4], "aabb"),
        (2, 2, [1, 4, 2], "bbcc"),  # where there is room for all
        (2, 2, [1, 4, 1], "bba"),  # what fits
        (1, 2, [0, 0], ""),
        (1, 3, [4], "a"),  # a machine's ranks are as many as are asked for
    ],
)
def test_ranks_go_where_there_is_room(
    devices: int, nodes: int, free: list[float], found: str
) -> None:
    machines = [machine(name, much) for name, much in zip("abc", free, strict=False)]
    where = DistributedSettings(launcher="ray", devices=devices, nodes=nodes)
    assert "".join(m.name for m in places(machines, {"CPU": 1}, where)) == found


@pytest.mark.parametrize(
    ("device", "asked", "kind", "each"),
    [
        ("auto", {}, "GPU", {"GPU": 1}),
        ("auto", {}, "CPU", {"CPU": 1}),
        ("cpu", {}, "GPU", {"CPU": 1}),
        ("cuda", {}, "CPU", {"GPU": 1}),
        ("auto", {"GPU": 1, "CPU": 8, "memory": 0}, "GPU", {"GPU": 1, "CPU": 8}),
    ],
)
def test_a_rank_asks_for_a_device(
    device: Any, asked: dict[str, float], kind: str, each: dict[str, float]
) -> None:
    where = DistributedSettings(launcher="ray", resources=asked)
    training = TrainingSettings(device=device, distributed=where)
    assert resources_of(training, [machine("a", 4, kind=kind)]) == each


def test_a_machine_that_does_not_see_the_run_or_its_data_is_named(
    workspace: Workspace, store: Store
) -> None:
    run, host = new_run(workspace, store), socket.gethostname()
    with pytest.raises(TsuzukuError, match=f"{host} does not see the folder of this run") as raised:
        rank.seen(workspace, run.run_id, ".probe-of-another")
    assert raised.value.code == "path_not_shared"
    requested = RunSettings.model_validate(run.read_identity()["requested"])
    requested.dataset["path"] = "data/nowhere"
    with pytest.raises(TsuzukuError, match=f"{host} does not see the data: datasets") as raised:
        shared_paths.require_data(workspace, requested, host)
    assert raised.value.code == "path_not_shared"


# A cluster that is there


A_NODE = """
import sys
from ray._private import node, parameter
node = node.Node(
    parameter.RayParams(
        gcs_address=sys.argv[1],
        redis_address=sys.argv[1],
        node_ip_address="127.0.0.1",
        node_manager_port=0,
        num_cpus=1,
        object_store_memory=100 << 20,
        include_log_monitor=False,
    ),
    head=False,
    shutdown_at_exit=True,
    spawn_reaper=True,
)
sys.stdin.read()
"""
"""Joins a cluster as `ray start` would, which takes no loopback for an address."""


class Machines:
    """Two machines of a cluster on this one: real raylets, with a processor each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}
        head = options | {"include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.other = self.cluster.add_node(**options)
        self.words = [f"distributed.address={self.cluster.address}", "distributed.launcher=ray"]

    def lose(self) -> None:
        """One of them, with all that runs on it, without a word."""
        self.cluster.remove_node(self.other, allow_graceful=False)

    @contextmanager
    def another_that_does_not_see(self, path: Path) -> Iterator[None]:
        """A third machine, on which an empty folder is in the place of that one."""
        script = f"mount -t tmpfs none '{path}' && exec '{sys.executable}' -c '{A_NODE}' $0"
        command = ["unshare", "--mount", "sh", "-c", script, self.cluster.address]
        third = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            until("a third machine", lambda: third.poll() is not None or len(self.nodes()) == 3)
            assert third.poll() is None
            yield
        finally:
            third.communicate()
            until("its end", lambda: len(self.nodes()) == 2)

    def nodes(self) -> list[dict[str, Any]]:
        """Those that are alive."""
        return [node for node in self.cluster.global_state.node_table() if node["Alive"]]

    def actors(self) -> list[str]:
        """What lives in the cluster, but Ray's own coordinator of autoscaling."""
        script = (
            "import json, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)\n"
            "from ray._private.state import actors\n"
            "print(json.dumps([a['ActorClassName'] for a in actors().values()"
            " if a['State'] != 'DEAD']))"
        )
        command = [sys.executable, "-c", script, self.cluster.address]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [name for name in json.loads(told.splitlines()[-1]) if "oordinator" not in name]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    own = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    own |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    folder = tempfile.mkdtemp(prefix="two-", dir="/tmp")  # a socket's name has to be short
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**own, "RAY_TMPDIR": folder}.items():
            patch.setenv(name, value)
        two = Machines()
        yield two
        two.cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def test_more_ranks_than_a_cluster_has_room_for_are_refused_at_once(
    workspace: Workspace, store: Store, machines: Machines
) -> None:
    words = [*machines.words, "distributed.devices=2", "distributed.nodes=2"]
    run, error = refused(workspace, store, *words)
    assert error["code"] == "too_few_devices"
    host = socket.gethostname()
    assert error["message"].startswith(
        "training.distributed: 2 ranks on each of 2 machines are asked for, with {CPU: 1} a rank, "
        f"and the cluster has room for {host} 1, {host} 1."
    )
    assert not run.places.exists()


def test_a_machine_that_does_not_see_a_path_is_named_before_anything_is_placed(
    workspace: Workspace, store: Store, machines: Machines
) -> None:
    disk = workspace.root / "disk"
    (disk / "data").mkdir(parents=True)
    words = [*machines.words, "distributed.nodes=3", f"dataset.path={disk / 'data'}"]
    with machines.another_that_does_not_see(disk):
        run, error = refused(workspace, store, *words, code=1)
    host = socket.gethostname()
    assert error["message"].startswith(f"The machine {host} does not see the data: datasets.")
    assert error["code"] == "path_not_shared"
    assert not run.places.exists()
    with machines.another_that_does_not_see(workspace.outputs):
        run, error = refused(workspace, store, *machines.words, "distributed.nodes=3", code=1)
    said = f"The machine {host} does not see the folder of this run in {workspace.outputs}."
    assert error["message"].startswith(said)
    assert not run.places.exists()


def test_a_machine_with_another_version_is_named_before_anything_is_placed(
    workspace: Workspace, store: Store, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the driver is the one that differs: it finds another tsuzuku than the machines have
    other = workspace.root / "other"
    shutil.copytree(Path(launch.__file__).parent.parent, other / "tsuzuku")
    (other / "tsuzuku" / "__init__.py").write_text('__version__ = "99.0"\n', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(other))
    run, error = refused(workspace, store, *machines.words, "distributed.nodes=2")
    assert error["code"] == "other_versions"
    assert "and this one has tsuzuku 99.0." in error["message"]
    assert not run.places.exists()


def test_a_run_outlives_its_server_and_then_a_machine(tmp_path: Path, machines: Machines) -> None:
    root = make_slow_workspace(tmp_path / "workspace")
    workspace = Workspace(root)
    options = {"launcher": "ray", "address": machines.cluster.address, "nodes": 2}
    overrides = {f"distributed.{name}": value for name, value in options.items()}
    overrides |= {"restart.policy": "on_failure", "restart.delay": 0.1, "log_interval": 1}
    overrides |= {"checkpoint.every_steps": 5, "checkpoint.keep_last_n": 2}
    with Store(workspace.db) as store:

        def reached(steps: int) -> bool:
            event = store.last_event(run.run_id, "progress")
            return event is not None and event.payload["global_step"] >= steps

        with serving(root) as served:
            run = workspace.run_dir(start(served, overrides=overrides))
            until("the training", lambda: reached(5))
            served.kill()
            at = store.last_event(run.run_id, "progress")
            assert at is not None
            until("steps without a server", lambda: reached(at.payload["global_step"] + 20))
            with serving(root, port=served.port) as served:
                assert api(served.url, "/api/status")["is_training"]
                machines.lose()
                until("the loss", lambda: store.last_event(run.run_id, "error"))
                assert ended(store, run)["code"] == "rank_lost"
                until("the next attempt", lambda: len(store.attempts(run.run_id)) > 1)
                until("its start", lambda: store.attempts(run.run_id)[-1].start_step)
                begun = store.attempts(run.run_id)[-1].start_step
                until("more steps", lambda: reached(begun + 10))
        # the server has been stopped, and then its worker killed
        steps = [step for step, _ in store.raw_points(run.run_id, "loss")]
    assert steps == list(range(1, len(steps) + 1)), "the curve has a gap"
    assert "2 ランクを求められていますが、場所があるのは 1 ランク分です" in said(run)
    until("no rank", lambda: machines.actors() == [])
