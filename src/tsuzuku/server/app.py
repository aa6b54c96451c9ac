"""The ASGI application: the API, the event stream, and the guard around all of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse
from starlette.routing import Match, Mount
from starlette.types import Scope

from tsuzuku import __version__
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.rebuild import opened
from tsuzuku.core.settings import ServerSettings
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.assets import asset_routes
from tsuzuku.server.catalog import Catalog
from tsuzuku.server.context import Context
from tsuzuku.server.dashboard import Dashboard
from tsuzuku.server.desk import Desk
from tsuzuku.server.feed import Feed
from tsuzuku.server.fetching import Fetching
from tsuzuku.server.guard import Guard, Policy
from tsuzuku.server.logs import AccessLog, internal_error
from tsuzuku.server.problems import ANYWHERE, handle_errors, problems
from tsuzuku.server.routes import (
    about,
    checkpoints,
    datasets,
    imports,
    inference,
    models,
    train,
    watch,
)
from tsuzuku.server.supervisor import Supervisor
from tsuzuku.server.verification import Verification
from tsuzuku.server.websocket import event_routes
from tsuzuku.server.workshop import Workshop

log = logging.getLogger("tsuzuku.server")

DESCRIPTION = """\
Train PyTorch models, watch them, stop them and resume them bit for bit.

Errors are `{"detail": "...", "code": "...", "hint": "..."}`. Events come over the WebSocket
`/ws?since=SEQ&run_id=…` (see `docs/events.md`).
"""

ROUTERS = (
    train.router,
    watch.router,
    checkpoints.router,
    checkpoints.exports,
    imports.router,
    models.router,
    inference.router,
    datasets.router,
    about.router,
)


def create_app(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    dashboard: str | None = None,
) -> FastAPI:
    """The application of a workspace, to be served on `host`; beyond loopback it needs a `token`.

    With `dashboard`, the address at which it will itself be reached from this machine, it has the
    dashboard at `/`.

    Raises WrongInput where the folder is no workspace or its settings are wrong.
    """
    settings = workspace.config().settings.server
    context = _context(workspace, settings)
    page: Dashboard | None = None
    if dashboard is not None:
        secrets = {"server": dashboard, "language": settings.language}
        secrets |= {"token": token} if token is not None else {}
        page = Dashboard(secrets, settings.max_upload_mb)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        threading.Thread(target=_look_at_plugins, args=(context,), daemon=True).start()
        context.supervisor.start()
        context.verification.start()
        async with context.feed, page or nullcontext():
            yield
        await run_in_threadpool(context.supervisor.close)
        await run_in_threadpool(context.verification.close)
        await run_in_threadpool(context.desk.close, 5.0)
        context.store.close()

    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs-assets",
        title="Tsuzuku",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
    )
    app.state.context = context
    for router in ROUTERS:
        app.include_router(router, responses=problems(*ANYWHERE))
    app.router.routes.extend(event_routes(context.feed, workspace))
    app.router.routes.extend(asset_routes())  # for a dashboard that is served elsewhere, too
    if page is None:
        app.add_api_route("/", _home, include_in_schema=False)
    else:
        app.router.routes.append(_Pages("/", page))  # last: it takes what no route before it has
    handle_errors(app)
    app.add_exception_handler(Exception, internal_error)
    policy = Policy(
        host=host,
        token=token,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        max_upload=settings.max_upload_mb * 1_000_000 + 65_536,
    )
    app.add_middleware(Guard, policy=policy)
    app.add_middleware(AccessLog)
    return app


class _Pages(Mount):
    """All but the API, whose unknown paths and wrong methods are answered in JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith("/api/"):
            return Match.NONE, {}
        return super().matches(scope)


def _context(workspace: Workspace, settings: ServerSettings) -> Context:
    store = opened(workspace, log.warning)
    desk = Desk(workspace, settings.inference_idle)

    def make_room() -> None:  # whoever starts a training does not wait for an answer under way
        threading.Thread(target=desk.close, name="make-room", daemon=True).start()

    supervisor = Supervisor(workspace, store, settings, make_room=make_room, at_rest=desk.rest)
    return Context(
        workspace=workspace,
        settings=settings,
        store=store,
        supervisor=supervisor,
        desk=desk,
        catalog=Catalog(workspace),
        fetching=Fetching(workspace),
        workshop=Workshop(workspace, store, settings.language),
        verification=Verification(workspace, store, settings.verify_every_hours, settings.language),
        feed=Feed(workspace.db),
    )


def _look_at_plugins(context: Context) -> None:
    """So that the first to ask for them does not wait for torch to be loaded."""
    try:
        context.catalog.everything()
    except (TsuzukuError, OSError) as error:
        log.warning("the plug-ins could not be looked at: %s", error)


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


async def _home() -> Any:
    return RedirectResponse("/docs")
