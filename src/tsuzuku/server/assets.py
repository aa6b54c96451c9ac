"""What pages of the dashboard need besides Streamlit: Plotly's script, from its Python package."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

PLOTLY = "/assets/plotly.min.js"
YEAR = 365 * 24 * 3600


class Asset(NamedTuple):
    """A file as it is sent."""

    plain: bytes
    zipped: bytes
    tag: str


@cache
def plotly() -> Asset:
    """Read and packed once, when the first browser asks for it."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise RuntimeError("This installation has no Plotly.")
    plain = (Path(spec.origin).parent / "package_data" / "plotly.min.js").read_bytes()
    # a fast level: the first visitor waits for it
    return Asset(plain, gzip.compress(plain, 3, mtime=0), hashlib.sha256(plain).hexdigest()[:32])


def asset_routes() -> list[BaseRoute]:
    """`GET /assets/plotly.min.js`; with `?v=VERSION` it is kept by browsers for good."""
    return [Route(PLOTLY, _send_plotly, methods=["GET"], include_in_schema=False)]


def _send_plotly(request: Request) -> Response:  # no coroutine: it runs in a thread
    asset = plotly()
    headers = {
        "etag": f'"{asset.tag}"',
        "vary": "Accept-Encoding",
        # private: whoever gets it has shown a token
        "cache-control": f"private, max-age={YEAR}, immutable"
        if "v" in request.query_params
        else "private, no-cache",
    }
    known = request.headers.get("if-none-match", "")
    if asset.tag in known:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(asset.zipped, media_type="text/javascript", headers=headers)
    return Response(asset.plain, media_type="text/javascript", headers=headers)
