"""What every route works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from tsuzuku.core.settings import ServerSettings
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.catalog import Catalog
from tsuzuku.server.desk import Desk
from tsuzuku.server.feed import Feed
from tsuzuku.server.fetching import Fetching
from tsuzuku.server.supervisor import Supervisor
from tsuzuku.server.verification import Verification
from tsuzuku.server.workshop import Workshop


@dataclass(frozen=True)
class Context:
    """One server and its workspace."""

    workspace: Workspace
    settings: ServerSettings
    store: Store
    supervisor: Supervisor
    desk: Desk
    catalog: Catalog
    fetching: Fetching
    workshop: Workshop
    verification: Verification
    feed: Feed


def _context(connection: HTTPConnection) -> Context:
    return cast(Context, connection.app.state.context)


Here = Annotated[Context, Depends(_context)]
"""The server's context, as a parameter of a route."""
