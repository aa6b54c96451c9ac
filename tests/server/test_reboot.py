"""A machine that goes down, with all its processes, and what happens when it is there again."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from house import SLOW, House, house
from test_storm import compare

from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

RESTARTING = {"restart.policy": "on_failure", "restart.delay": 0.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("rebooted") / "workspace") as one:
        yield one


@pytest.fixture(scope="module")
def quiet(home: House) -> str:
    """The same training, left in peace."""
    run_id = begin(home)
    home.api.wait_for_status(run_id, "completed")
    return run_id


def begin(home: House, **overrides: object) -> str:
    asked = {SLOW: 0.02, "checkpoint.every_steps": 2, **RESTARTING, **overrides}
    started = home.api.start(resume_from_checkpoint=False, epochs=4, overrides=asked)
    return started["run_id"]


def saved(home: House, run_id: str) -> None:
    home.api.wait(
        "a checkpoint",
        lambda: home.api.get("/api/checkpoints", run_id=run_id)["checkpoints"],
    )


def boots_again(home: House, run_id: str) -> None:
    """What the worker wrote down is of an earlier boot now."""
    path = Workspace(home.root).run_dir(run_id).identity
    identity = json.loads(path.read_text())
    assert identity["interrupted_under"], "it did not see that nobody had asked"
    path.write_text(json.dumps(identity | {"interrupted_under": "an earlier boot"}))


def assert_same(home: House, quiet: str, run_id: str) -> None:
    workspace = Workspace(home.root)
    with Store(workspace.db) as store:
        compare(store, workspace.run_dir(quiet), workspace.run_dir(run_id))
        ended = [a.status for a in store.attempts(run_id)]
    assert len(ended) == 2
    assert ended[-1] == "completed"


def test_the_plug_is_pulled(home: House, quiet: str) -> None:
    run_id = begin(home)
    saved(home, run_id)
    home.kill_server()
    home.worker().kill()
    home.serve()  # nobody says anything more
    home.api.wait_for_status(run_id, "completed")
    assert_same(home, quiet, run_id)


def test_the_machine_is_shut_down_in_good_order(home: House, quiet: str) -> None:
    """Every process gets SIGTERM: the training saves, and looks like one that was stopped."""
    run_id = begin(home)
    saved(home, run_id)
    worker = home.worker()
    worker.send_signal(signal.SIGTERM)
    home.served.process.send_signal(signal.SIGTERM)
    psutil.wait_procs([worker], 60)
    home.served.process.wait(60)
    assert not worker.is_running()
    boots_again(home, run_id)
    home.serve()
    home.api.wait_for_status(run_id, "completed")
    assert_same(home, quiet, run_id)


@pytest.mark.parametrize("who", ["the server", "a signal of this boot", "no policy"])
def test_what_was_stopped_stays_stopped(home: House, who: str) -> None:
    run_id = begin(home, **({"restart.policy": "never"} if who == "no policy" else {}))
    saved(home, run_id)
    if who == "the server":
        home.api.post("/api/train/stop")
    else:
        home.worker().send_signal(signal.SIGTERM)
    home.api.wait_for_status(run_id, "stopped")
    identity = Workspace(home.root).run_dir(run_id)
    home.api.wait("the worker's end", lambda: identity.worker() is None)
    if who == "no policy":
        boots_again(home, run_id)
    home.kill_server()
    home.serve()
    # a restart without delay would have begun with the second look
    home.api.wait("two looks", lambda: looked(home))
    assert home.api.run(run_id)["status"] == "stopped"
    assert len(home.api.run(run_id)["attempts"]) == 1


def looked(home: House) -> bool:
    """Another run of the same kind can begin and be stopped, so the supervisor has looked."""
    other = home.api.start(model_name="tiny", resume_from_checkpoint=False, epochs=1)["run_id"]
    home.api.wait_for_status(other, "completed")
    return True


def test_the_boot_is_known_here() -> None:
    from tsuzuku.core.interruption import BOOT, boot_id

    if Path("/proc").is_dir():
        assert len(boot_id()) == 36
    assert BOOT.name == "boot_id"
