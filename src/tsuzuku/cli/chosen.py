"""What the options before a command say: a folder here, or a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tsuzuku.core.errors import WrongInput

if TYPE_CHECKING:  # a command loads what it needs, and `--help` needs nothing
    from tsuzuku.cli.source import Source
    from tsuzuku.core.workspace import Workspace


@dataclass
class Chosen:
    """What the options before the command say."""

    context: typer.Context
    folder: Path
    server: str | None = None

    @property
    def source(self) -> Source:
        """What the command works on: the workspace, or a server."""
        if self.server is None:
            from tsuzuku.cli.local import Local

            return Local(self.workspace(""))
        from tsuzuku.cli.remote import Remote
        from tsuzuku.client import Client

        return Remote(self.context.with_resource(Client(self.server)))

    def workspace(self, why: str) -> Workspace:
        """The workspace of a command that needs one here, because of `why`."""
        from tsuzuku.core.workspace import Workspace

        return Workspace(self.here(why))

    def here(self, why: str) -> Path:
        if self.server is None:
            return self.folder
        raise WrongInput(
            f"{why}; it cannot be done through a server.",
            "Leave --server (or TSUZUKU_SERVER) out, or name a folder with -w.",
            code="local_only",
        )


def chosen_server(context: typer.Context, server: str | None) -> str | None:
    """The server, unless a folder is named and the server only stands in the environment."""
    named = {
        name
        for name in ("workspace", "server")
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    if named == {"workspace", "server"}:
        raise WrongInput("-w names a folder here, --server another place: only one can be meant.")
    return None if "workspace" in named else server or None
