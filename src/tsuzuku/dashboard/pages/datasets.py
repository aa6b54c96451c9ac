"""📚 データ: what each data set has and what is wrong with it, a look at it, and how to get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from tsuzuku.core.answers import Config, DatasetInfo, Datasets, PluginInfo
from tsuzuku.dashboard import (
    dataset_details,
    dataset_samples,
    dataset_sources,
    fetching,
    figures,
    grids,
    places,
)
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.offers import offers
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("📚 データ", "📚 Data"),
        "intro": Both(
            "学習を始める前に、データがそろっているか、問題がないかをここで確認できます。",
            "Before a training waits for it: whether the data is there, and what is wrong with it.",
        ),
        "none": Both(
            "データセットがありません。`datasets/名前.py` をワークスペースに置くと、"
            "ここに表示されます。",
            "There are no data sets. Put `datasets/NAME.py` into the workspace, and it is here.",
        ),
        "opening": Both("{name} を調べています…", "Looking into {name}…"),
        "missing": Both("**まだ使えません。** {error}", "**It cannot be used yet.** {error}"),
        "next": Both("次のどれかで用意してください。", "There are these ways to get it:"),
        "more": Both("別のデータを用意する", "Get other data"),
        "path": Both("場所", "Path"),
        "nowhere": Both("ファイルなし（プログラムが作るデータ）", "no files: made by its program"),
        "size": Both("サイズ", "Size"),
        "splits": Both("分割", "Splits"),
        "samples": Both("{name}: {count} 件", "{name}: {count}"),
        "problems": Both("問題のある行", "Rows with problems"),
        "no_problems": Both("✅ 報告された問題はありません", "✅ no problems are reported"),
        "problem_count": Both("⚠️ {count} 件", "⚠️ {count}"),
        "fingerprint": Both("指紋（最後の学習時）", "Fingerprint (at the last training)"),
        "fingerprint_of": Both("`{mark}…`（{checkpoint}）", "`{mark}…` ({checkpoint})"),
        "row": Both("行", "row"),
        "id": Both("ID", "id"),
        "problem": Both("問題", "problem"),
        "used": Both("学習に使用", "used"),
        "yes": Both("はい", "yes"),
        "no": Both("いいえ", "no"),
        "more_rows": Both(
            "最初の {count} 件までを表示しています。", "The first {count} are shown."
        ),
        "again": Both("🔍 もう一度調べる", "🔍 Look again"),
        "train": Both("🏠 学習を始める", "🏠 Go and train"),
        "broken": Both("プラグインに問題があります: {error}", "The plug-in has a fault: {error}"),
    }
)

MOST_ROWS = 1000
"""Bad rows that the server lists."""


def page() -> None:
    st.title(say("title"), anchor=False)
    st.caption(say("intro"))
    with refusals():
        listed = client().datasets(details=False)
        _under_way(listed)
        if not listed.datasets:
            st.info(say("none"), icon="📭")
            return
        places_of = {info.name: _frame(info) for info in listed.datasets}
        known = offers()
        for info in listed.datasets:
            plugin = known.datasets.get(info.name) if known else None
            with places_of[info.name].container():
                _fill(info, plugin, known, listed)


def _under_way(listed: Datasets) -> None:
    """Downloads and makings, and how the last ones ended."""
    names = [*listed.downloading, *listed.making]
    if fetching.follow(names):
        st.rerun()
    readers = {n: i.name for i in listed.datasets for n in (*i.downloads, *i.makes)}
    words = fetching.last_words([name for name in readers if name not in names])
    for name in words.changed:
        dataset_details.forget(readers[name])
    for name, error in words.said.items():
        fetching.show(name, error)


def _frame(info: DatasetInfo) -> Any:
    """The data set's box, there at once, and the place in it for what takes longer."""
    with st.container(border=True, key=f"dataset-{info.name}"):
        st.subheader(info.name, anchor=False)
        place = st.empty()
        with place.container():
            if info.path is not None:
                st.caption(f"{say('path')}: `{info.path}`")
            st.caption(f"⏳ {say('opening', name=info.name)}")
    return place


def _fill(
    info: DatasetInfo, plugin: PluginInfo | None, known: Config | None, listed: Datasets
) -> None:
    if plugin is not None and plugin.description:
        st.caption(plugin.description)
    with st.spinner(say("opening", name=info.name), show_time=True):
        found = dataset_details.details(info, plugin)
    if found.error:
        st.warning(say("missing", error=found.error), icon="📭")
        st.markdown(say("next"))
        dataset_sources.offer(found, listed)
    else:
        _facts(found)
        _report(found.report)
        dataset_samples.browse(found, dataset_details.version(info, plugin))
        if found.downloads or found.makes:
            with st.expander(say("more"), key=f"more-{info.name}"):
                dataset_sources.offer(found, listed)
    with st.container(horizontal=True):
        if st.button(say("again"), key=f"again-{info.name}"):
            dataset_details.forget(info.name)
            st.rerun()
        if not found.error and st.button(say("train"), key=f"train-{info.name}"):
            places.go("main")


def _facts(found: DatasetInfo) -> None:
    size = figures.size(found.size_mb * 1e6) if found.size_mb is not None else figures.NOTHING
    splits = [say("samples", name=n, count=f"{c:,}") for n, c in found.splits.items()]
    rows = {
        say("path"): f"`{found.path}`" if found.path else say("nowhere"),
        say("size"): size,
        say("splits"): " · ".join(splits),
    }
    trained = dataset_details.trained_with(found.name)
    if trained is not None:
        mark, checkpoint = trained
        rows[say("fingerprint")] = say("fingerprint_of", mark=mark[:16], checkpoint=checkpoint)
    count = len(found.report)
    rows[say("problems")] = (
        say("problem_count", count=f"{count:,}") if count else say("no_problems")
    )
    grids.facts(rows)


def _report(report: list[Any]) -> None:
    """The bad rows as a table: what every data set says the same way, then what else it has."""
    if not report:
        return
    rows = [_row(line) for line in report]
    names = [name for name in ("row", "id", "problem", "used") if any(name in r for r in rows)]
    names += sorted({name for row in rows for name in row} - set(names))
    columns: dict[str, tuple[grids.Kind, list[Any]]] = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        whole = name == "row" and all(type(cell) in (int, type(None)) for cell in cells)
        title = say(name) if name in ("row", "id", "problem", "used") else name
        columns[title] = ("whole", cells) if whole else ("text", [_cell(cell) for cell in cells])
    wide = st.column_config.TextColumn(width="large")
    grids.grid(grids.arrow(columns), say("problems"), config={say("problem"): wide})
    if len(report) >= MOST_ROWS:
        st.caption(say("more_rows", count=f"{len(report):,}"))


def _row(line: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", line) if isinstance(line, dict) else {"problem": line}


def _cell(value: Any) -> str | None:
    if isinstance(value, bool):
        return say("yes" if value else "no")
    return None if value is None else str(value)
