"""Starts, stops, watches and restarts training workers.

Nothing that matters is kept here only. Workers are processes of their own that hold a lock while
they live, and runs are rows: a server that was killed and starts again finds both.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tsuzuku.core import ending, interruption, journal, launch
from tsuzuku.core.errors import Busy, NotFound, TsuzukuError, WrongInput
from tsuzuku.core.finding import tip
from tsuzuku.core.launch import Launched
from tsuzuku.core.messages import Language, text
from tsuzuku.core.restarts import GivenUp, Restart, next_restart
from tsuzuku.core.resume import Plan, plan_restart
from tsuzuku.core.schemas import ACTIVE, Event, EventType, Run
from tsuzuku.core.settings import RestartSettings, RunSettings, ServerSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace

log = logging.getLogger("tsuzuku.supervisor")

TICK = 0.25
"""Seconds between two looks at the workers."""

BOOT = 20.0
"""Seconds that a stop waits for a worker that has just been started to listen."""

INSIST = 10.0
"""Seconds between the second signal to a worker that does not stop, and SIGKILL."""


class Supervisor:
    """All methods may be called from any thread."""

    def __init__(
        self,
        workspace: Workspace,
        store: Store,
        settings: ServerSettings,
        make_room: Callable[[], object] = lambda: None,
        at_rest: Callable[[], object] = lambda: None,
    ) -> None:
        """`make_room` is called before a training starts, which may need the memory; `at_rest`
        after every look.
        """
        self.workspace = workspace
        self.store = store
        self.settings = settings
        self.make_room = make_room
        self.at_rest = at_rest
        self._launching = threading.RLock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._seen: set[str] = set()
        self._due: dict[str, float] = {}
        """When each run that waits for its restart is started (monotonic)."""
        self._asked: dict[str, float] = {}
        """When each run was asked to stop: it may be stuck in a call and not have heard it."""
        self._insisted: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    @property
    def language(self) -> Language:
        return self.settings.language

    def start(self) -> None:
        """Begin to watch; workers that an earlier server started are found by their locks."""
        self._seen = self._interrupted()
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Trainings go on."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    # What is running

    def running(self) -> list[Run]:
        """Runs that have a worker, or have just been given one; newest first."""
        return [r for r in self._active() if self.workspace.true_status(r).status in ACTIVE]

    def _active(self) -> list[Run]:
        """Runs that say of themselves that they have a worker."""
        return [run for status in sorted(ACTIVE) for run in self.store.runs(status=status)]

    def waiting(self) -> list[str]:
        """Runs that are to be restarted in a moment."""
        return list(self._due)

    # Starting

    def launch(self, make_plan: Callable[[], Plan]) -> tuple[Launched, Plan]:
        """Start the training that `make_plan` plans, as its own process.

        Raises Busy while `max_running` others are running, WrongInput when nothing is left to
        train, and what planning raises. Two calls at once never start two trainings too many,
        from this process or another.
        """
        with self._launching, self._only_launcher():
            for run in self._active():  # the end of an attempt is told before its next begins
                with contextlib.suppress(TsuzukuError, OSError, ValueError):
                    self._report(self.workspace.run_dir(run.run_id))
            running = self.running()
            if len(running) >= self.settings.max_running:
                raise self._full(running)
            plan = self.planned(make_plan)
            if plan.mode == "finished":
                total = plan.settings.training.num_epochs
                raise WrongInput(
                    f"Nothing is left to train: {plan.origin} is at epoch {plan.epoch} of {total}.",
                    "Ask for more epochs, or for a new training from the beginning.",
                    code="nothing_to_train",
                )
            self.make_room()
            if plan.run is not None and plan.mode == "continue":
                self._forget(plan.run.run_id)
            launched = launch.prepare(self.workspace, self.store, plan)
            self._children[launched.run.run_id] = launch.spawn(self.workspace, launched.run)
            self._seen.add(launched.run.run_id)
            return launched, plan

    def _forget(self, run_id: str) -> None:
        """Let nothing that is known of a run's last attempt be taken for the next one's."""
        for known in (self._due, self._asked, self._insisted, self._children):
            known.pop(run_id, None)

    def planned(self, make_plan: Callable[[], Plan]) -> Plan:
        """The plan; a run that has said its last word may need a moment more to let go."""
        until = time.monotonic() + 15
        while True:
            try:
                return make_plan()
            except Busy:
                if time.monotonic() > until or self.running():
                    raise
                time.sleep(0.05)

    def _full(self, running: list[Run]) -> Busy:
        one = running[0]
        if one.status == "stopping":
            return Busy(
                f"Run {one.run_id} is still stopping: it saves its last checkpoint.",
                "Try again in a moment.",
                code="stopping",
            )
        return Busy(
            f"A training is running: {one.run_id} ({one.model_name} on {one.dataset_name}).",
            "Stop it first, or let server.max_running allow more.",
            code="already_running",
        )

    @contextmanager
    def _only_launcher(self) -> Generator[None]:
        """Keeps a second server of the same workspace from starting a training meanwhile."""
        self.workspace.outputs.mkdir(parents=True, exist_ok=True)
        with (self.workspace.outputs / ".launch.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Stopping

    def stop(self, run_id: str | None = None) -> str:
        """Ask a training to save and stop; returns its id at once.

        Without `run_id`, the newest that is running. Raises NotFound if there is none.
        """
        running = self.running()
        waiting = [r for r in self._due if run_id in (None, r)]
        chosen = next((r for r in running if run_id in (None, r.run_id)), None)
        if chosen is None and waiting:
            return self._call_off(waiting[0])
        if chosen is None:
            if run_id is not None:
                self.workspace.run_dir(run_id)  # an unknown one is named as such
            raise NotFound(
                "Nothing is being trained."
                if run_id is None
                else f"Run {run_id} is not being trained.",
                code="not_running",
            )
        now = time.time()
        # a second signal would end the worker before it has saved
        if chosen.status != "stopping" and self._asked.setdefault(chosen.run_id, now) is now:
            run = self.workspace.run_dir(chosen.run_id)
            interruption.ask(run)
            self._signal(run, signal.SIGTERM)
        return chosen.run_id

    def _call_off(self, run_id: str) -> str:
        self._due.pop(run_id, None)
        self._say(run_id, "restart_called_off")
        self._tell(_event(run_id, "status", status="stopped", message=""))
        return run_id

    def _signal(self, run: RunDir, number: signal.Signals) -> None:
        """Signal a worker, once it holds its lock: only then does it listen."""
        until = time.monotonic() + BOOT
        while (pid := run.worker()) is None:
            child = self._children.get(run.run_id)
            if time.monotonic() > until or (child is not None and child.poll() is not None):
                return  # it has ended, and is reported
            time.sleep(0.01)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise TsuzukuError(
                f"Process {pid} is another user's; they have to stop it.", code="not_permitted"
            ) from None

    # Watching

    def _watch(self) -> None:
        while not self._ended.wait(TICK):
            try:
                self.look()
                self.at_rest()
            except Exception as error:  # whatever it is, the next look may succeed
                log.error("the supervisor could not look at the runs: %s", error)

    def look(self) -> None:
        """One look at every worker: report the crashed, insist, restart what is due."""
        active = self._active()
        for run in active:
            try:
                self._look_at(run)
            except (TsuzukuError, OSError, ValueError) as error:  # the others are looked at
                log.error("run %s could not be looked at: %s", run.run_id, error)
        now_active = {run.run_id for run in active}
        for run_id in self._seen - now_active:
            self._has_ended(run_id)
        self._seen = now_active
        for run_id, child in list(self._children.items()):
            if child.poll() is not None and run_id not in now_active:
                del self._children[run_id]
        for run_id, due in list(self._due.items()):
            if time.monotonic() >= due:
                self._restart(run_id)

    def _look_at(self, record: Run) -> None:
        try:
            run = self.workspace.run_dir(record.run_id)
        except NotFound:  # its folder was deleted under it
            message = text("crashed", self.language, {"cause": ""})
            self._tell(_event(record.run_id, "status", status="crashed", message=message))
            return
        if run.worker() is not None:
            if record.status == "stopping" or run.run_id in self._asked:
                self._insist(record, run)
        elif self._launching.acquire(blocking=False):  # else it may be about to get a worker
            try:
                self._report(run)
            finally:
                self._launching.release()

    def _report(self, run: RunDir) -> None:
        """Say that a run has ended, if its worker is gone without a word."""
        record = self.store.run(run.run_id)
        if record is None or record.status not in ACTIVE or run.worker() is not None:
            return
        child = self._children.get(run.run_id)
        code = child.poll() if child else None
        if child is None and self.workspace.true_status(record).status != "crashed":
            return  # it has just been started, by another server or from a terminal
        if child is not None and code is None:
            return  # it has not come to take its lock
        if run.run_id in self._insisted:
            message = text("killed", self.language, {})
            ending.report_end(self.store, run, "stopped", message)
        elif message := ending.report_crash(self.store, run, self.language, code):
            log.warning("run %s: %s", run.run_id, message)

    def _insist(self, record: Run, run: RunDir) -> None:
        """End a worker that has been stopping for too long."""
        patience = self.settings.stop_patience
        pid = run.worker()
        since = record.updated_at if record.status == "stopping" else self._asked[run.run_id]
        if time.time() - since < patience or pid is None:
            return
        asked = self._insisted.get(run.run_id)
        if asked is None:
            self._insisted[run.run_id] = time.monotonic()
            self._say(run.run_id, "insisting", "warning", seconds=f"{patience:g}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        elif time.monotonic() - asked > INSIST:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # Restarting

    def _has_ended(self, run_id: str) -> None:
        """Plan the restart of a run that has just ended badly, if it asks for one."""
        self._insisted.pop(run_id, None)
        was_asked = self._asked.pop(run_id, None) is not None
        if not self._ended_badly(run_id) or was_asked or self._was_to_stop(run_id):
            return
        policy, decided = self._decide(run_id)
        match decided:
            case Restart():
                self._due[run_id] = time.monotonic() + decided.delay
                self._say(
                    run_id,
                    "restarting",
                    "warning",
                    seconds=f"{decided.delay:g}",
                    count=decided.count,
                    bound=policy.max_attempts,
                )
            case GivenUp():
                self._say(run_id, "restart_given_up", "error", count=decided.count)
            case None:
                pass

    def _decide(self, run_id: str) -> tuple[RestartSettings, Restart | GivenUp | None]:
        try:
            run = self.workspace.run_dir(run_id)
            policy = RunSettings.model_validate(run.read_identity()["requested"]).training.restart
        except (WrongInput, ValueError, KeyError):
            return RestartSettings(), None
        newest = tip(run)
        error = self.store.last_event(run_id, "error")
        code = str(error.payload.get("code", "")) if error else ""
        step = newest.global_step if newest else 0
        return policy, next_restart(self.store.attempts(run_id), step, policy, code)

    def _ended_badly(self, run_id: str) -> bool:
        """Whether nobody wanted it to end; a machine that is shut down stops it in good order."""
        record = self.store.run(run_id)
        if record is None or record.status not in ("crashed", "failed", "stopped"):
            return False
        if record.status != "stopped":
            return True
        try:
            return interruption.machine_went_down(self.workspace.run_dir(run_id))
        except NotFound:
            return False

    def _was_to_stop(self, run_id: str) -> bool:
        """Whether somebody had asked it to stop when it ended: then it stays as it is."""
        record = self.store.run(run_id)
        if record is not None and record.status == "stopped":
            return False  # by its machine, else it would not have ended badly
        told = self.store.recent_events(run_id, "status", 2)
        return len(told) > 1 and told[1].payload.get("status") == "stopping"

    def _interrupted(self) -> set[str]:
        """Runs that ended badly and whose restart an earlier server did not come to."""
        newest: dict[tuple[str, str], Run] = {}
        for run in sorted(self.store.runs(), key=lambda r: r.updated_at):
            newest[run.model_name, run.dataset_name] = run
        return {
            run.run_id
            for run in newest.values()
            if self._ended_badly(run.run_id) and isinstance(self._decide(run.run_id)[1], Restart)
        }

    def _restart(self, run_id: str) -> None:
        self._due.pop(run_id, None)
        if not self._ended_badly(run_id):
            return  # somebody has resumed it meanwhile
        try:
            self.launch(lambda: plan_restart(self.workspace, run_id))
        except Busy:
            self._due[run_id] = time.monotonic() + 1.0  # after what is running now
        except TsuzukuError as error:
            self._tell(_event(run_id, "error", message=str(error), code=error.code))

    def _say(self, run_id: str, message: str, level: str = "info", **values: object) -> None:
        line = text(message, self.language, dict(values))
        self._tell(_event(run_id, "log", level=level, message=line))

    def _tell(self, event: Event) -> None:
        try:
            run = self.workspace.run_dir(str(event.run_id))
        except NotFound:
            self.store.append([event], durable=True)
        else:
            journal.tell(self.store, run, [event])


def _event(run_id: str, kind: EventType, **payload: object) -> Event:
    return Event(type=kind, payload=payload, run_id=run_id, time=time.time())
