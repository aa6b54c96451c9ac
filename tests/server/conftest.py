"""Fixtures for the tests of the server, and what lets them import what they share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# for `serving`, `walk` and `guarded_app`
sys.path.insert(0, str(Path(__file__).parent))

from guarded_app import EVERYWHERE, LOCAL, Served, served


@pytest.fixture(scope="module")
def local() -> Iterator[Served]:
    """A server for this machine only, without a token."""
    with served(LOCAL) as one:
        yield one


@pytest.fixture
def everywhere() -> Iterator[Served]:
    """A server for every machine, with a token; new for each test, for it counts wrong ones."""
    with served(EVERYWHERE) as one:
        yield one
