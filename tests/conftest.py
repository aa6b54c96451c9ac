"""Fixtures that all tests share: a workspace on disk with two plain plug-ins, and its database."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent
os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as workers have it: see core/launch.py
# for `plain_plugins`, `attempts` and `terminal`
sys.path[:0] = [str(HERE), str(HERE / "training"), str(HERE / "cli")]

from plain_plugins import make_workspace  # noqa: E402
from tsuzuku.core.store import Store  # noqa: E402
from tsuzuku.core.workspace import Workspace  # noqa: E402

settings.register_profile("ours", deadline=None, max_examples=50, print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("ours"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "ours")


WAITING = ("server", "cli", "client")
"""Folders of tests that wait for servers and workers beside other tests."""
PROMISE = ("test_storm", "test_reboot", "test_kills", "proof", "kill", "exact")
"""What shows that a training arrives at the same bits: nothing of that is tried again."""


LONGEST = (
    "test_on_ray", "test_ranks", "test_training_commands", "test_live", "test_kills",
    "test_conformer", "test_beginning", "test_placement", "test_trying", "test_demo",
    "test_data_commands", "test_storm", "test_runs_page", "test_checkpoints_page",
)  # fmt: skip
"""Files that take a minute and more. They come first, so that the processes that share the tests
come to their ends at the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On two busy cores a process is now and then seconds late: what fails for that is tried once
    more, which the report says (R), and why."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in WAITING and not any(word in item.nodeid for word in PROMISE):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Streamlit makes the script that it runs the main module, and loader processes that another
    test starts would run it, too."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with `models/tiny.py`, `datasets/noise.py` and a `config.yaml`."""
    made = Workspace(make_workspace(tmp_path / "workspace"))
    yield made
    # workers outlive whoever started them, a failed test included
    for run in made.run_dirs():
        worker = run.worker()
        if worker not in (None, os.getpid()):
            os.kill(worker, signal.SIGKILL)


@pytest.fixture
def store(workspace: Workspace) -> Iterator[Store]:
    """The database of `workspace`."""
    with Store(workspace.db) as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports go from process to process as UTF-8, which has no half surrogate pairs; some tests
    log them."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why something was tried again: what is mended by a second try is still to be mended."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"tried again: {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext[-6000:])
