"""「🆕 新規学習開始」「🔄 学習再開」「🛑 学習停止」: each only where it makes sense."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from tsuzuku.core.answers import Status
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard import notice, redraw
from tsuzuku.dashboard.choice import Choice
from tsuzuku.dashboard.connection import client
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "nothing_left": Both(
            "このチェックポイントはエポック {epoch} まで学習済みです。"
            "再開するにはエポック数を {more} 以上にしてください。",
            "This checkpoint has {epoch} epochs. To resume, ask for at least {more}.",
        ),
        "start": Both("🆕 新規学習開始", "🆕 Start a new training"),
        "resume": Both("🔄 学習再開", "🔄 Resume training"),
        "stop": Both("🛑 学習停止", "🛑 Stop training"),
        "started": Both("学習を開始しました（{run}）", "The training has been started ({run})"),
        "resumed": Both(
            "{name} から学習を再開しました（{run}）",
            "The training goes on from {name} ({run})",
        ),
        "stopping": Both(
            "停止しています。チェックポイントを保存してから終わります（{run}）",
            "It is being stopped, and saves a checkpoint first ({run})",
        ),
    }
)


def draw(choice: Choice | None, status: Status, *, busy: bool) -> None:
    """The three; `busy` where no further training may begin."""
    epoch = choice.begun if choice is not None else None
    left = True
    if choice is not None and epoch is not None:
        left = choice.setting("num_epochs") > epoch
        if not left:
            st.caption(say("nothing_left", epoch=epoch, more=epoch + 1))
    fresh = choice is not None and not busy
    if (
        st.button(
            say("start"), key="start_training", width="stretch", type="primary", disabled=not fresh
        )
        and choice
    ):
        _do(lambda: _start(choice))
    resumable = fresh and epoch is not None and left
    if (
        st.button(say("resume"), key="resume_training", width="stretch", disabled=not resumable)
        and choice
    ):
        _do(lambda: _resume(choice))
    stoppable = status.is_training and status.status != "stopping"
    if st.button(say("stop"), key="stop_training", width="stretch", disabled=not stoppable):
        _do(lambda: say("stopping", run=client().stop(status.run_id).run_id))


def _start(choice: Choice) -> str:
    started = client().start(choice.model, choice.dataset, **choice.start_options())
    return say("started", run=started.run_id)


def _resume(choice: Choice) -> str:
    started = client().resume(choice.model, choice.dataset, **choice.resume_options())
    name = (started.resumed_from or "").rpartition("/")[2]
    return say("resumed", name=name, run=started.run_id)


def _do(action: Callable[[], str]) -> None:
    """Do what a button says, and say what came of it at once. The page beside the sidebar hears
    of the new status by itself."""
    try:
        notice.tell(action())
    except TsuzukuError as error:
        notice.refuse(error)
    redraw.fragment()
