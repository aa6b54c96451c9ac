"""What is known of the data sets: asked of a worker once, and again when something has changed."""

from __future__ import annotations

import json
from collections import Counter
from typing import cast

import streamlit as st

from tsuzuku.core.answers import DatasetInfo, PluginInfo
from tsuzuku.dashboard import checkpoint_list
from tsuzuku.dashboard.checkpoint_list import full_name
from tsuzuku.dashboard.connection import address, client

BROKEN = "dataset_broken"
"""In the session: what could not be opened. Another visit, or a reload, tries again."""


class _Unopened(Exception):
    """Carries what is known of a data set that cannot be opened, which is not kept for all."""

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info


def details(info: DatasetInfo, plugin: PluginInfo | None) -> DatasetInfo:
    """With splits and report; `info` is what is known without a worker."""
    key = _key(info, plugin)
    broken = cast("dict[str, DatasetInfo]", st.session_state.setdefault(BROKEN, {}))
    if key in broken:
        return broken[key]
    try:
        return _opened(key, info.name)
    except _Unopened as error:
        broken[key] = error.info
        return error.info


def forget(name: str) -> None:
    """It has changed: it was made or downloaded, or somebody wants it looked at again."""
    _changes()[name] += 1


def version(info: DatasetInfo, plugin: PluginInfo | None) -> str:
    """Another text for every state of a data set that is known of."""
    return _key(info, plugin)


def trained_with(name: str) -> tuple[str, str] | None:
    """The fingerprint of the data at the newest checkpoint trained on it, and that checkpoint."""
    items = checkpoint_list.listing().items
    newest = next((item for item in items if item.dataset_name == name), None)
    if newest is None:
        return None
    mark = _fingerprint(address()[0], newest.run_id, newest.name, newest.sha256)
    return (mark, full_name(newest)) if mark else None


def _key(info: DatasetInfo, plugin: PluginInfo | None) -> str:
    settings = [plugin.sha256, plugin.settings] if plugin is not None else []
    state = [info.name, info.path, info.exists, info.size_mb, *settings, _changes()[info.name]]
    return json.dumps([address()[0], *state], sort_keys=True, default=str)


@st.cache_resource(show_spinner=False)
def _changes() -> Counter[str]:
    return Counter()


@st.cache_data(ttl=3600, max_entries=64, show_spinner=False)
def _opened(key: str, name: str) -> DatasetInfo:
    (info,) = client().datasets(name=name).datasets
    if info.error:
        raise _Unopened(info)
    return info


@st.cache_data(max_entries=64, show_spinner=False)
def _fingerprint(server: str, run_id: str, name: str, sha256: str) -> str:
    return str(client().checkpoint(run_id, name).metadata.get("dataset_fingerprint") or "")
