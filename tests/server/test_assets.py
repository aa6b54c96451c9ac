"""Plotly's script, as browsers get it from the server."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tsuzuku.core.workspace import Workspace
from tsuzuku.server.app import create_app
from tsuzuku.server.assets import PLOTLY

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture
def client(workspace: Workspace) -> Iterator[TestClient]:
    app = create_app(workspace, token=TOKEN, dashboard="http://127.0.0.1:1")
    # its lifespan is not entered: there is no need for Streamlit here
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    yield client
    app.state.context.store.close()


def script() -> bytes:
    spec = find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()


def test_it_is_the_package_s_own(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    packed = client.get(PLOTLY, params={"v": "1"}, headers=headers)
    assert packed.status_code == 200
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"].startswith("text/javascript")
    assert packed.content == script()
    plain = client.get(PLOTLY, headers={**headers, "Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == script()
    assert int(packed.headers["content-length"]) < len(gzip.compress(script(), 1))


def test_browsers_keep_it(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    named = client.get(PLOTLY, params={"v": "1"}, headers=headers)
    assert "immutable" in named.headers["cache-control"]
    assert "private" in named.headers["cache-control"]
    unnamed = client.get(PLOTLY, headers=headers)
    assert "no-cache" in unnamed.headers["cache-control"]
    tag = unnamed.headers["etag"]
    again = client.get(PLOTLY, headers={**headers, "If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_it_is_guarded_like_everything(client: TestClient) -> None:
    assert client.get(PLOTLY).status_code == 401
    assert client.get(PLOTLY, headers={"Origin": "https://evil.example"}).status_code == 403
