"""Ranks on the machines of a Ray cluster."""

from __future__ import annotations

from tsuzuku.core.schemas import Attempt
from tsuzuku.core.settings import RunSettings


class OnRay:
    """See `Engine`."""

    def __init__(self, settings: RunSettings, attempt: Attempt) -> None:
        self.host = "127.0.0.1"
        self.ranks = settings.training.distributed.ranks
        raise NotImplementedError

    def start(self, environment: dict[str, str]) -> None: ...

    def ended(self) -> str | None: ...

    def kill(self) -> None: ...
