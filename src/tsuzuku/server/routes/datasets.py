"""Data sets: what there is, what is wrong with it, a look at it, fetching and making it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tsuzuku.core import plugin_files
from tsuzuku.core.answers import DatasetInfo, Datasets, Message, Samples
from tsuzuku.core.config_loader import suggest
from tsuzuku.core.downloadable import MADE_FOR, Making, downloads_of
from tsuzuku.core.errors import NotFound, TsuzukuError, full_stop
from tsuzuku.core.plugin_files import PluginFile
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.server.context import Context, Here
from tsuzuku.server.problems import problems
from tsuzuku.server.strict_json import StrictRoute

router = APIRouter(prefix="/api", tags=["datasets"], route_class=StrictRoute)

MAX_FILES = 200_000
"""Files that are counted for the size of a data set."""


class Named(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"dataset_name": "mnist"}]}
    )

    dataset_name: Annotated[str, Field(min_length=1, max_length=100)]


class Made(Named):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"dataset_name": "digits"}]},
        use_attribute_docstrings=True,
    )

    count: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """`speech`, `face`: how many utterances; 1,200 and 600 if nobody says."""
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """`speech`, `face`: other sentences and voices."""
    text: Annotated[str, Field(max_length=100_000)] | None = None
    """`speech`: the lines to speak, three times each."""


@router.get("/datasets", responses=problems(400, 422))
def datasets(
    here: Here,
    details: Annotated[
        bool, Query(description="Also open each one, for its splits and what is wrong with it.")
    ] = True,
    dataset_name: Annotated[str | None, Query(max_length=100, description="Only this one.")] = None,
) -> Datasets:
    """Every data set: where it is, how large, its splits, what is wrong with it."""
    settings = here.workspace.config().settings
    plugins = plugin_files.found("datasets", here.workspace.root)
    offered = settings.available_datasets
    return Datasets(
        datasets=[
            _info(here, plugin, settings.datasets.get(name) or {}, details)
            for name, plugin in sorted(plugins.items())
            if (offered is None or name in offered) and dataset_name in (None, name)
        ],
        downloading=here.fetching.running(),
        making=here.workshop.running(),
    )


@router.get("/datasets/{name}/samples", responses=problems(400, 404, 409, 422))
def samples(
    name: str,
    here: Here,
    split: Annotated[str, Query(max_length=50)] = "train",
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=50)] = 5,
) -> Samples:
    """A few samples as typed outputs."""
    plugin = _plugin(here, name)
    settings = here.workspace.config().settings.datasets.get(name) or {}
    answer = here.desk.ask(
        "samples",
        dataset=plugin.name,
        settings=settings,
        split=split,
        offset=offset,
        limit=limit,
    )
    return Samples(dataset_name=name, offset=offset, **_without_id(answer))


@router.post("/dataset/download", status_code=202, responses=problems(400, 404, 409, 422))
def download(body: Named, here: Here) -> Message:
    """Download a data set; progress comes as `log` events, and it goes on where it was cut."""
    here.fetching.start(body.dataset_name)
    return Message(message=body.dataset_name)


@router.post("/dataset/make", responses=problems(400, 404, 409, 422))
def make(body: Made, here: Here) -> Message:
    """Make a data set on the spot: `digits`, `speech` or `face` (half a minute on two cores).

    It answers when the data is there; meanwhile `log` events tell how far it is.
    """
    with TemporaryDirectory(prefix="tsuzuku-") as folder:
        text = None
        if body.text is not None:
            text = Path(folder, "text")
            text.write_text(body.text, encoding="utf-8", errors="replace")
        making = Making(body.dataset_name, body.count, body.seed, text)
        return Message(message=here.workshop.make(making))


def _plugin(here: Context, name: str) -> PluginFile:
    plugins = plugin_files.found("datasets", here.workspace.root)
    if name not in plugins:
        raise NotFound(
            full_stop(f"There is no data set {name[:100]!r}{suggest(name, sorted(plugins))}"),
            code="unknown_dataset",
        )
    return plugins[name]


def _info(here: Context, plugin: PluginFile, settings: Tree, details: bool) -> DatasetInfo:
    info = DatasetInfo(
        name=plugin.name,
        downloads=sorted(downloads_of(plugin)),
        makes=[made for made, reader in MADE_FOR.items() if reader == plugin.name],
    )
    path: Any = settings.get("path")
    if details:
        try:
            answer = here.desk.ask("dataset", dataset=plugin.name, settings=settings)
        except TsuzukuError as error:
            info.error = str(error)
        else:
            info.splits = dict(answer["splits"])
            report: list[Any] = answer.get("report") or []
            info.report = [line if is_tree(line) else str(line) for line in report]
            path = answer.get("path") or path
    if isinstance(path, str):
        place = here.workspace.root / Path(path).expanduser()
        info.path, info.exists = str(path), place.exists()
        info.size_mb = round(_size(place) / 1e6, 3) if info.exists else None
    return info


def _size(place: Path) -> int:
    if place.is_file():
        return place.stat().st_size
    total = count = 0
    for folder, _, names in os.walk(place):
        for name in names:
            count += 1
            if count > MAX_FILES:
                return total
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def _without_id(answer: Tree) -> Tree:
    return {k: answer[k] for k in ("split", "splits", "total", "samples")}
