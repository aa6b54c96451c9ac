"""The real application, route by route, tried with what must not get through."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import ask, send_raw
from test_paths_and_bodies import BAD_PATHS
from walk import table, walk
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from made_runs import begin, checkpoint
from plain_plugins import CONFIG, make_workspace, ran
from servers import Served, serving
from tsuzuku.core import checkpoint_files
from tsuzuku.core.schemas import Event
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.server.app import create_app
from tsuzuku.server.guard import Policy

TOKEN = "a-token-that-nobody-guesses"
RIGHT = [("Authorization", f"Bearer {TOKEN}")]
MARKUP = '<script>alert("1")</script>\u2028\x1b[31m'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded") / "workspace"
    return make_workspace(folder, f"{CONFIG}  token: {TOKEN}\n")


@pytest.fixture(scope="module")
def run(root: Path) -> RunDir:
    """A run with a checkpoint, and a log line with markup."""
    workspace = Workspace(root)
    with Store(workspace.db) as store:
        made = begin(workspace, store)
        checkpoint(made, 1)
        payload = {"level": "info", "message": MARKUP}
        store.append([Event(type="log", payload=payload, run_id=made.run_id, time=1.0)])
    return made


@pytest.fixture(scope="module")
def served(root: Path, run: RunDir) -> Iterator[Served]:
    with serving(root) as one:
        yield one


def test_no_route_is_open(root: Path, served: Served) -> None:
    """Every route and socket there is; a new one that is not protected fails here."""
    routes, sockets = table(create_app(Workspace(root), token=TOKEN).routes)
    paths = {path for _, path in routes}
    assert {"/", "/docs", "/openapi.json", "/docs-assets/anything", "/api/train/start"} <= paths
    assert "/ws" in sockets
    assert Policy("127.0.0.1").open_paths == {"/login", "/api/health"}
    refused = walk(served.url, routes, sockets, token=TOKEN, open_paths=frozenset({"/api/health"}))
    assert refused > 300


STREAMLIT = """
import json, sys
sys.path[:0] = sys.argv[1:]
from streamlit.web.server.starlette.starlette_app import App, create_streamlit_routes
from tsuzuku.server.dashboard import script
from walk import table
app = App(script())
app.lifespan()
print(json.dumps(table(create_streamlit_routes(app._runtime))))
"""


def test_no_route_of_the_dashboard_is_open(served: Served) -> None:
    """Streamlit's own routes and its socket, behind the same guard."""
    here = Path(__file__).parent
    routes, sockets = json.loads(ran(STREAMLIT, here, here.parent).splitlines()[-1])
    paths = {path for _, path in routes}
    assert {"/_stcore/health", "/media/{file_id:path}"} <= paths
    assert ["PUT", "/_stcore/upload_file/{session_id}/{file_id}"] in routes
    assert "/_stcore/stream" in sockets
    pages = [("GET", path) for path in ("/", "/models", "/checkpoints", "/static/js/x.js")]
    pairs = [*map(tuple, routes), *pages, ("GET", "/assets/plotly.min.js")]
    assert walk(served.url, pairs, sockets, token=TOKEN) > 150


def test_what_a_page_of_the_dashboard_may_do(served: Served) -> None:
    page = ask(served.url, "GET", "/", RIGHT)
    policy = dict(part.split(" ", 1) for part in page["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert "http" not in page["content-security-policy"]
    assert "microphone=(self)" in page["permissions-policy"]
    assert page["x-content-type-options"] == "nosniff"


def test_only_uploads_may_be_large(served: Served) -> None:
    body = b"x" * (2 << 20)
    upload = ask(served.url, "PUT", "/_stcore/upload_file/nobody/file", RIGHT, body)
    assert upload.status == 400  # there is no such visit
    assert b"session_id" in upload.body
    for path in ("/_stcore/upload_file", "/_stcore/health", "/media/x", "/component/x"):
        answer = ask(served.url, "POST", path, RIGHT, body)
        assert (answer.status, answer.code) == (413, "too_large"), path


@pytest.mark.parametrize("start", ["/api/checkpoints/", "/api/exports/", "/docs-assets/"])
def test_paths_that_could_be_read_two_ways(served: Served, start: str) -> None:
    for path in BAD_PATHS:
        target = path.replace("/api/files/", start)
        lines = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        answer = send_raw(served.url, lines.encode())
        assert answer.startswith(b"HTTP/1.1 400"), target


def test_links_are_not_followed_out_of_a_run(served: Served, run: RunDir, root: Path) -> None:
    """Neither to any file, nor to something that looks like a checkpoint."""
    secret = root.parent / "secret.pt"
    inside = run.checkpoints / "tiny-noise-epoch-1.pt"
    secret.write_text("a secret")
    info = checkpoint_files.read(inside).info
    write_sidecar(secret, {**info, "name": "secret.pt"})
    exports = run.path / "exports"
    exports.mkdir()
    links = {
        run.checkpoints / "evil.pt": secret,
        run.checkpoints / "up.pt": Path("../run.json"),
        exports / "evil.safetensors": secret,
        exports / "folder": root,
    }
    for link, target in links.items():
        link.symlink_to(target)
    try:
        for path in (
            f"/api/checkpoints/{run.run_id}/evil.pt",
            f"/api/checkpoints/{run.run_id}/evil.pt/download",
            f"/api/checkpoints/{run.run_id}/up.pt/download",
            f"/api/exports/{run.run_id}/evil.safetensors",
            f"/api/exports/{run.run_id}/folder",
        ):
            answer = ask(served.url, "GET", path, RIGHT)
            assert answer.status == 404, (path, answer.status, answer.body[:200])
            assert b"a secret" not in answer.body
        answer = ask(served.url, "DELETE", f"/api/checkpoints/{run.run_id}/evil.pt", RIGHT)
        assert answer.status == 404
        assert secret.read_text() == "a secret"
    finally:
        for link in links:
            link.unlink(missing_ok=True)
    answer = ask(served.url, "GET", f"/api/checkpoints/{run.run_id}/{inside.name}/download", RIGHT)
    assert (answer.status, answer.body) == (200, inside.read_bytes())


def test_markup_stays_text(served: Served, run: RunDir) -> None:
    """It comes as JSON, which no browser takes for a page."""
    answer = ask(served.url, "GET", f"/api/events?run_id={run.run_id}", RIGHT)
    logs = [e["payload"]["message"] for e in answer.json["events"] if e["type"] == "log"]
    assert MARKUP in logs
    named = ask(served.url, "GET", "/api/runs/%3Cscript%3Ealert(1)%3C/script%3E", RIGHT)
    for one in (answer, named):
        assert one["content-type"].startswith("application/json")
        assert one["x-content-type-options"] == "nosniff"
    file = f"/api/checkpoints/{run.run_id}/tiny-noise-epoch-1.pt/download"
    disposition = ask(served.url, "GET", file, RIGHT)["content-disposition"]
    assert disposition.startswith("attachment")


def test_bodies_and_frames_have_a_bound(served: Served) -> None:
    body = b'{"model_name": "' + b"x" * (2 << 20) + b'"}'
    json_type = ("Content-Type", "application/json")
    answer = ask(served.url, "POST", "/api/train/start", [*RIGHT, json_type], body)
    assert (answer.status, answer.code) == (413, "too_large")

    async def shout() -> int:
        url = f"ws://127.0.0.1:{served.port}/ws?token={TOKEN}"
        async with connect(url) as socket:
            try:
                await socket.send("x" * (4 << 20))
                while True:
                    await asyncio.wait_for(socket.recv(), 30)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
        return 0

    # too large to be read, or nothing that a client of events has to say
    assert asyncio.run(shout()) in (1003, 1006, 1008, 1009)
    assert ask(served.url, "GET", "/api/health").status == 200
