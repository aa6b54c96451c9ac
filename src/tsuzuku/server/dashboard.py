"""The dashboard, mounted in the server: Streamlit on the same port, behind the same guard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("tsuzuku.server")

SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",  # no traceback ever leaves the server
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    "runner.magicEnabled": False,
    # the guard has judged Host and Origin, for sockets too, before anything gets here
    "server.enableCORS": False,
    "server.enableXsrfProtection": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.showEmailPrompt": False,
}


class Dashboard:
    """An ASGI application that is there at once and loads Streamlit beside the server's start.

    As an async context it lives as long as the server. `secrets` is what the page is told
    (`st.secrets`): `server`, where the API is, and `token` if it asks for one.
    """

    def __init__(self, secrets: Mapping[str, str], max_upload_mb: int) -> None:
        self._secrets = dict(secrets)
        self._settings = SETTINGS | {"server.maxUploadSize": max_upload_mb}
        self._exits = AsyncExitStack()
        self._app: asyncio.Task[ASGIApp] | None = None

    async def __aenter__(self) -> Self:
        self._app = asyncio.create_task(self._start())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._app is not None:
            await asyncio.wait([self._app])
        await self._exits.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            raise RuntimeError("The dashboard serves only while the server's lifespan lasts.")
        app = await asyncio.shield(self._app)
        await app(scope, receive, send)

    async def _start(self) -> ASGIApp:
        made = await asyncio.to_thread(self._make)
        await self._exits.enter_async_context(made.lifespan()(made))
        return cast(ASGIApp, made)

    def _make(self) -> Any:
        from streamlit import config
        from streamlit.web.server.starlette import App

        for key, value in self._settings.items():
            config.set_option(key, value)
        return App(script(), secrets=self._secrets)


def script() -> Path:
    """The file that Streamlit runs for every visit. It is found, not imported."""
    spec = find_spec("tsuzuku.dashboard")
    if spec is None or spec.origin is None:
        raise RuntimeError("This installation has no dashboard.")
    return Path(spec.origin).with_name("app.py")
