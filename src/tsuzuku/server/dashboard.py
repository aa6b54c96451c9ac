"""The dashboard, mounted in the server: Streamlit on the same port, behind the same guard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from anyio.to_thread import current_default_thread_limiter
from starlette.types import ASGIApp, Receive, Scope, Send

from tsuzuku.server.index_page import prepared, with_index
from tsuzuku.server.page_policy import page_headers, with_page_headers
from tsuzuku.server.refusal import Headers

log = logging.getLogger("tsuzuku.server")

# frame.css says which font the first is, for signs that others have in black. Japanese letters come
# before the last resort; nothing is downloaded
SIGNS = "'Apple Color Emoji', 'Segoe UI Emoji', 'Noto Color Emoji'"
JAPANESE = (
    "'Hiragino Sans', 'Hiragino Kaku Gothic ProN', 'Noto Sans JP', 'Noto Sans CJK JP', Meiryo"
)
SANS = f"'Tsuzuku Signs', 'Source Sans', {SIGNS}, {JAPANESE}, sans-serif"
MONO = f"'Tsuzuku Signs', 'Source Code Pro', {SIGNS}, {JAPANESE}, monospace"
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
    "theme.font": SANS,
    "theme.headingFont": SANS,
    "theme.codeFont": MONO,
    "theme.light.primaryColor": "#2563c9",
    "theme.dark.primaryColor": "#3b74d6",
}


PAGES = "tsuzuku.dashboard"


class Dashboard:
    """An ASGI application that is there at once and loads Streamlit beside the server's start.

    As an async context it lives as long as the server. `secrets` is what the page is told
    (`st.secrets`): `server`, where the API is, `token` if it asks for one, and `language`.
    """

    def __init__(self, secrets: Mapping[str, str], max_upload_mb: int) -> None:
        self._secrets = dict(secrets)
        self._settings = SETTINGS | {"server.maxUploadSize": max_upload_mb}
        self._exits = AsyncExitStack()
        self._headers: Headers = []
        self._index = ""
        self._app: asyncio.Task[ASGIApp] | None = None
        self._ready: asyncio.Future[None] | None = None

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
        if self._ready is not None:
            await asyncio.wait([self._ready])
        await self._exits.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            raise RuntimeError("The dashboard serves only while the server's lifespan lasts.")
        app = await asyncio.shield(self._app)
        if scope["type"] == "http":
            if self._ready is None:
                # what the page is made with loads while the first browser takes its time
                self._ready = asyncio.ensure_future(asyncio.to_thread(_load_the_script))
            send = with_index(scope, with_page_headers(send, self._headers), self._index)
        await app(scope, receive, send)

    async def _start(self) -> ASGIApp:
        made = await asyncio.to_thread(self._make)
        threads = current_default_thread_limiter()
        before = threads.total_tokens
        await self._exits.enter_async_context(made.lifespan()(made))
        threads.total_tokens = before  # Streamlit sets it, and the API's calls need them
        return cast(ASGIApp, made)

    def _make(self) -> Any:
        from streamlit import config, file_util, logger
        from streamlit.runtime.app_session import AppSession
        from streamlit.runtime.pages_manager import PagesManager
        from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
        from streamlit.web.server.starlette import App

        # else a first visit to /datasets would run the file of that name in `pages/`: the script
        # tells the pages, but only once it has run
        PagesManager.uses_pages_directory = False
        keep_what_is_asked_for(AppSession, ScriptRunner)
        logger.setup_formatter = _into_our_log
        for name in list(logging.root.manager.loggerDict):
            if hasattr(logging.getLogger(name), "streamlit_console_handler"):
                _into_our_log(logging.getLogger(name))
        for key, value in self._settings.items():
            config.set_option(key, value)
        index = Path(file_util.get_static_dir()) / "index.html"
        language = self._secrets.get("language", "ja")
        self._index = prepared(index.read_text(encoding="utf-8"), language)
        self._headers = page_headers(self._index)
        return App(script(), secrets=self._secrets)


def keep_what_is_asked_for(session_class: Any, runner_class: Any) -> None:
    """Close two holes in Streamlit 1.67 through which clicks and pages fall.

    A page that was open while the server was started again goes on in a new session. That knows no
    fragments yet, and what is asked of one that it does not know is dropped: a new session runs all
    of the page first.

    And what a browser asked of a fragment just before another page came is run after that, as a
    part of the page before: that empties the new page, or leads back. Here it is not run if its
    fragment has gone with its page, and a fragment never leads to a page.
    """
    ask, run = session_class.request_rerun, runner_class._run_script

    def request_rerun(session: Any, client_state: Any) -> None:
        if client_state is not None and not hasattr(session, "tsuzuku_has_begun"):
            client_state.fragment_id = ""
        session.tsuzuku_has_begun = True
        ask(session, client_state)

    def run_script(runner: Any, data: Any) -> None:
        if data.fragment_id_queue:
            if not any(map(runner._fragment_storage.contains, data.fragment_id_queue)):
                return
            now = runner._pages_manager.current_page_script_hash
            data = replace(data, page_script_hash=now, page_name="")
        run(runner, data)

    session_class.request_rerun = request_rerun
    runner_class._run_script = run_script


def _into_our_log(logger: logging.Logger) -> None:
    """Undo what Streamlit does to a logger, uvicorn's included: its own lines on standard error,
    one for every request among them."""
    handler = logger.__dict__.pop("streamlit_console_handler", None)
    logger.handlers[:] = [one for one in logger.handlers if one is not handler]
    logger.propagate = logger.name != "uvicorn.access"
    quiet = logger.name.startswith(("streamlit", "websockets"))
    logger.setLevel(logging.WARNING if quiet else logging.NOTSET)


def _load_the_script() -> None:
    """Import what every visit runs, which does nothing by that."""
    try:
        import_module(f"{PAGES}.app")
    except Exception:  # whoever visits is told
        log.exception("The dashboard could not be loaded.")


def script() -> Path:
    """The file that Streamlit runs for every visit."""
    spec = find_spec(PAGES)
    if spec is None or spec.origin is None:
        raise RuntimeError("This installation has no dashboard.")
    return Path(spec.origin).with_name("app.py")
