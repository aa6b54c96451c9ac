"""What the server loads, what it survives, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from api import Api

from plain_plugins import CONFIG, make_workspace, ran
from servers import Served, serving

MAX_MEMORY = 150_000_000
"""Bytes that a server without dashboard may hold."""

LOADED = """
import sys
import tsuzuku.server.app
heavy = {"torch", "numpy", "tensorboard", "safetensors", "omegaconf.torch", "streamlit"}
print(*sorted(m for m in sys.modules
    if m.split(".")[0] in heavy or m.startswith(
        ("tsuzuku.models", "tsuzuku.datasets", "tsuzuku.training", "tsuzuku.worker"))))
"""

MARKS = '''\
"""Leaves a mark where it is imported."""

import os
from pathlib import Path

with Path("imported").open("a") as marks:
    marks.write(f"{os.getpid()}\\n")

'''

PLUGINS = {
    "marks": MARKS,
    "exits": "import os\nos._exit(9)\n",
    "raises": "raise RuntimeError('not like this')\n",
    "writes": "import sys\nprint('{\"noise\": 1}')\nprint('x' * 1_000_000, file=sys.stderr)\n",
    "syntax": "class Broken(:\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("app") / "workspace", CONFIG)
    tiny = (folder / "models" / "tiny.py").read_text()
    for name, text in PLUGINS.items():
        (folder / "models" / f"{name}.py").write_text(text + tiny)
    return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Served]:
    with serving(root) as one:
        yield one


def test_importing_the_server_loads_neither_torch_nor_a_plugin() -> None:
    assert ran(LOADED).split() == []


def test_plugins_are_described_without_being_imported(root: Path, served: Served) -> None:
    """Each by a worker; what one of them does harms neither the server nor the others."""
    api = Api(served.url)
    config = api.get("/api/config")
    models = config["models"]
    assert set(PLUGINS) < set(config["available_models"])
    assert models["tiny"]["error"] == ""
    assert models["tiny"]["schema"]["properties"]["hidden"]["default"] == 8
    assert models["writes"]["error"] == ""
    assert models["marks"]["description"].startswith("Leaves a mark")
    assert "exit code 9" in models["exits"]["error"]
    assert "not like this" in models["raises"]["error"]
    assert "models/syntax.py, line" in models["syntax"]["error"]
    assert config["datasets"]["noise"]["error"] == ""
    marks = (root / "imported").read_text().split()
    assert marks
    assert str(served.process.pid) not in marks
    # asked again, only what may have changed is looked at again
    assert api.get("/api/config") == config
    assert (root / "imported").read_text().split() == marks
    maps = Path(f"/proc/{served.process.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text()


def test_without_the_dashboard_it_takes_little_memory(tmp_path: Path) -> None:
    """And loads nothing of Streamlit, which numpy would come with."""
    with serving(make_workspace(tmp_path / "workspace"), "--no-dashboard") as served:
        api = Api(served.url)
        for path in ("/api/config", "/api/runs", "/api/checkpoints", "/api/system"):
            api.get(path)
        api.get("/openapi.json")
        server = psutil.Process(served.process.pid)
        taken = server.memory_info().rss
        print(f"resident: {taken / 1e6:.0f} MB")
        assert taken <= MAX_MEMORY
        assert api.http.get("/", follow_redirects=False).headers["location"] == "/docs"
        assert api.http.get("/_stcore/health").status_code == 404
        if psutil.LINUX:
            assert not [m.path for m in server.memory_maps() if "numpy" in m.path]


def test_what_it_writes_is_json_with_the_id_that_its_answer_has(served: Served) -> None:
    api = Api(served.url)
    given = api.http.get("/api/health").headers["x-request-id"]

    def told() -> bool:
        """Whether it is in the log, all of whose lines about requests can be read."""
        lines = [line for line in served.log.read_text().splitlines() if line.startswith("{")]
        return given in [json.loads(line).get("request_id") for line in lines]

    assert api.wait("a line about it", told)
