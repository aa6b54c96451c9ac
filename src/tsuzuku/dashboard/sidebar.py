"""「🎯 学習制御」: choose, start, resume, stop. It is on every page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from tsuzuku.core.answers import CheckpointDetails, CheckpointInfo, Config, PluginInfo, Status
from tsuzuku.core.errors import NotFound
from tsuzuku.dashboard import (
    buttons,
    importing,
    notice,
    places,
    preview_view,
    redraw,
    tasks,
    typed,
)
from tsuzuku.dashboard.choice import MODEL, Choice, full_name
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.offers import offers, readable
from tsuzuku.dashboard.watcher import watch
from tsuzuku.dashboard.words import Both, speaker

CHOSEN = "chosen_model"
"""The model's name in the session's state."""
_WHOLE_PAGE = "whole_page"
"""In the session's state while all of the page is drawn, and not the sidebar alone."""
MOST = 1_000_000
NEWEST = ""
"""Stands for the newest checkpoint, whichever that is."""
LISTED = 200
"""Checkpoints to choose from; older ones are on their own page."""

say = speaker(
    {
        "title": Both("🎯 学習制御", "🎯 Training"),
        "reading": Both(
            "モデルとデータセットを読み込んでいます…", "Models and data sets are being read…"
        ),
        "model": Both("モデル", "Model"),
        "dataset": Both("データセット", "Data set"),
        "none": Both("ありません", "There is none"),
        "broken": Both("⚠ {name} は読み込めません: {error}", "⚠ {name} cannot be read: {error}"),
        "epochs": Both("エポック数", "Epochs"),
        "epochs_help": Both("再開後も含めた合計です。", "In total, over all attempts."),
        "batch": Both("バッチサイズ", "Batch size"),
        "light": Both("軽量モード", "Quick trial"),
        "light_help": Both(
            "10 サンプルと小さなモデル設定で、動くかどうかをすばやく確かめます。",
            "10 samples and small model settings, to see quickly whether it works.",
        ),
        "limit": Both("サンプル数制限", "Limit samples"),
        "limit_help": Both("空欄はすべてのサンプルです。", "Empty means all of them."),
        "all": Both("制限なし", "no limit"),
        "more": Both("詳細設定", "Further settings"),
        "form_model": Both("モデル", "Model"),
        "form_dataset": Both("データ", "Data"),
        "form_training": Both("学習", "Training"),
        "reset": Both("既定値に戻す", "Back to the defaults"),
        "resuming": Both("チェックポイントから再開", "Resume from a checkpoint"),
        "checkpoint": Both("再開するチェックポイントを選択", "Checkpoint to resume from"),
        "newest": Both("最新のチェックポイント", "The newest checkpoint"),
        "no_checkpoint": Both(
            "この組み合わせのチェックポイントはまだありません。",
            "There is no checkpoint of these two yet.",
        ),
        "older": Both(
            "新しい {count} 件です。それより前のものは 📂 チェックポイント にあります。",
            "These are the newest {count}. Older ones are on 📂 Checkpoints.",
        ),
    }
)


def draw(place: places.Place) -> None:
    """The sidebar; `place` is the page beside it."""
    with st.sidebar:
        st.header(say("title"), anchor=False)
        st.session_state[_WHOLE_PAGE] = True
        st.fragment(_controls)(place)


def _controls(place: places.Place) -> None:
    """A fragment: what is typed here does not draw the page beside it anew."""
    whole_page = st.session_state.pop(_WHOLE_PAGE, False)
    with refusals():
        config = offers()
        status = client().status()
        choice = None
        if config is None:
            st.info(say("reading"), icon="⏳")
            st.fragment(_until_read, run_every=1.0)()
        else:
            choice = _pair(config, status, page_follows=not whole_page)
        if choice is not None:
            choice = _from_checkpoint(choice)
            _settings(choice)
            _further(choice)
            if choice.imported is not None:
                importing.preview(choice)
            else:
                _preview(choice)
        # drawn while plug-ins are still being read, too: what is clicked where there is no such
        # button would be forgotten, and a training can be stopped at any time
        buttons.draw(
            choice, status, busy=config is None or len(status.running) >= config.max_running
        )
        notice.show()
    if place != places.HOME and notice.said() is not None:
        places.link(places.HOME)
    watch(listening=place != places.HOME)  # the main page has its live part for that


def _until_read() -> None:
    if offers() is not None:
        st.rerun()


def _pair(config: Config, status: Status, *, page_follows: bool) -> Choice | None:
    """Model and data set; None where one is missing or cannot be read."""
    model = tasks.likely_model(readable(config.models), status)
    model = _one_of(say("model"), MODEL, config.models, model)
    if page_follows and model != st.session_state.get(CHOSEN):
        st.rerun()  # the title names the model
    st.session_state[CHOSEN] = model
    dataset = tasks.likely_dataset(model, readable(config.datasets), status)
    dataset = _one_of(say("dataset"), f"{model}/dataset", config.datasets, dataset)
    if model is None or dataset is None:
        return None
    broken = False
    for plugin in (config.models[model], config.datasets[dataset]):
        if plugin.error:
            st.error(say("broken", name=plugin.name, error=plugin.error), icon="⚠️")
            broken = True
    return None if broken else Choice(config, model, dataset)


def _one_of(
    label: str, path: str, plugins: Mapping[str, PluginInfo], likely: str | None
) -> str | None:
    if not plugins:
        st.selectbox(label, [say("none")], disabled=True)
        return None
    if typed.value(path, None) not in plugins:
        typed.drop(path)
    names = list(plugins)
    return st.selectbox(
        label,
        names,
        key=typed.widget(path, likely if likely in plugins else names[0]),
        format_func=lambda name: f"⚠ {name}" if plugins[name].error else name,
        on_change=_chosen_anew,
        args=(path,),
    )


def _chosen_anew(path: str) -> None:
    typed.keep(path)
    notice.forget()


def _from_checkpoint(choice: Choice) -> Choice:
    """With the checkpoint to resume from, if there are any and one is wanted."""
    listed = client().checkpoints(choice.model, choice.dataset, limit=LISTED).checkpoints
    brought = importing.usable()
    asked = f"{choice.scope}{choice.dataset}/resume"
    wanted = st.checkbox(
        say("resuming"),
        key=typed.widget(asked, bool(listed)),
        on_change=typed.keep,
        args=(asked,),
        disabled=not listed and not brought,
    )
    if not listed:
        st.caption(say("no_checkpoint"))
    if not wanted or not (listed or brought):
        return choice
    found = {full_name(one): one for one in listed}
    path = f"{choice.scope}{choice.dataset}/checkpoint"
    if typed.value(path, None) not in {**found, **brought}:
        typed.drop(path)
    names = [*([NEWEST] if listed else []), *found, *brought]
    # the newest has a name of its own that never changes: while a training saves, a browser may
    # still tell of the one before, and that would pass for a choice
    name = st.selectbox(
        say("checkpoint"),
        names,
        key=typed.widget(path, names[0]),
        format_func=lambda name: (
            importing.label(name)
            if name in brought
            else _of_run(found[name])
            if name in found
            else say("newest")
        ),
        on_change=typed.keep,
        args=(path,),
        help=say("older", count=LISTED) if len(listed) == LISTED else None,
    )
    if name in brought:
        return replace(choice, imported=brought[name])
    chosen = found.get(name, listed[0])
    if name not in found:
        st.caption(chosen.name)
    return replace(choice, checkpoint=_details(chosen))


def _of_run(checkpoint: CheckpointInfo) -> str:
    return f"{checkpoint.name} ({checkpoint.run_id})"


def _details(checkpoint: CheckpointInfo) -> CheckpointDetails | None:
    try:
        return client().checkpoint(checkpoint.run_id, checkpoint.name)
    except NotFound:  # pruned since it was listed
        return None


def _count(choice: Choice, setting: str, label: str, explained: str | None = None) -> None:
    path = f"{choice.scope}training.{setting}"
    st.number_input(
        label,
        min_value=1,
        max_value=MOST,
        step=1,
        key=typed.widget(path, choice.training.get(setting)),
        on_change=typed.keep,
        args=(path,),
        help=explained,
    )


def _settings(choice: Choice) -> None:
    left, right = st.columns(2)
    with left:
        _count(choice, "num_epochs", say("epochs"), say("epochs_help"))
    with right:
        _count(choice, "batch_size", say("batch"))
    path = f"{choice.scope}lightweight"
    st.checkbox(
        say("light"),
        key=typed.widget(path, False),
        on_change=typed.keep,
        args=(path,),
        help=say("light_help"),
    )
    path, setting = f"{choice.scope}training.limit_samples", choice.training.get("limit_samples")
    st.number_input(
        say("limit"),
        min_value=1,
        max_value=10**9,
        value=None,
        step=1,
        key=typed.widget(path, setting),
        on_change=typed.keep,
        args=(path,),
        placeholder=say("all"),
        help=say("limit_help"),
    )


def _further(choice: Choice) -> None:
    """The forms; they are only made while somebody looks at them."""
    opened = st.expander(say("more"), key="further", on_change="rerun")
    if not opened.open:
        return
    forms = choice.forms()
    with opened:
        tabs = st.tabs([say(f"form_{kind}") for kind in forms])
        for tab, form in zip(tabs, forms.values(), strict=True):
            with tab:
                form.draw()
        if st.button(say("reset"), width="stretch"):
            typed.forget(choice.scope)
            typed.forget(f"{choice.dataset}/")
            redraw.fragment()


def _preview(choice: Choice) -> None:
    """What resuming with these settings would do; only asked for while somebody looks at it."""
    if choice.checkpoint is None:
        return
    opened = st.expander(preview_view.title(), key="preview", on_change="rerun")
    if opened.open:
        with opened, refusals():
            options = choice.resume_options()
            preview_view.show_narrow(client().preview(choice.model, choice.dataset, **options))
