"""One run: where it stands, its attempts, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.answers import RunInfo
from tsuzuku.core.schemas import ACTIVE
from tsuzuku.dashboard import figures, grids, places, run_list, run_words
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.live import live
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "status": Both("状態", "Status"),
        "epoch": Both("エポック", "Epoch"),
        "step": Both("ステップ", "Step"),
        "best": Both("最良の指標", "Best metric"),
        "time": Both("学習時間", "Trained for"),
        "model": Both("モデル", "Model"),
        "dataset": Both("データセット", "Data set"),
        "begun": Both("開始", "Begun"),
        "moved": Both("最後の更新", "Last moved"),
        "parent": Both("分岐元", "Branched from"),
        "children": Both("ここから分岐した学習", "Branches"),
        "message": Both("メッセージ", "Message"),
        "attempts": Both("試行", "Attempts"),
        "attempt": Both("試行", "Attempt"),
        "from": Both("再開元", "Resumed from"),
        "ended": Both("終了", "Ended"),
        "machine": Both("マシン", "Machine"),
        "follow": Both("👀 メインで見る", "👀 Follow on the main page"),
        "stop": Both("🛑 学習停止", "🛑 Stop training"),
        "stopping": Both(
            "停止を頼みました。保存してから止まります。",
            "It has been asked to stop; it saves first.",
        ),
        "resume": Both("🔄 学習再開", "🔄 Resume training"),
        "no_checkpoint": Both(
            "チェックポイントがないため、再開できません。",
            "It has no checkpoint to resume from.",
        ),
        "checkpoints": Both("📂 チェックポイント", "📂 Its checkpoints"),
        "parent_link": Both("🌿 分岐元を見る", "🌿 See where it branched"),
        "live": Both("グラフとログを表示", "Show charts and log"),
    }
)


def section(run: RunInfo, known: tuple[RunInfo, ...]) -> None:
    """Numbers, buttons, lineage and attempts; charts and log on demand."""
    with st.container(horizontal=True, gap="large"):
        for label, value in (
            (say("status"), run_words.status(run.status)),
            (say("epoch"), f"{figures.count(run.epoch)} / {figures.count(run.total_epochs)}"),
            (say("step"), figures.count(run.global_step)),
            (say("best"), figures.metric(run.best_metric)),
            (say("time"), figures.duration(run_list.trained_for(run))),
        ):
            st.metric(label, value, width="content")
    _buttons(run)
    _facts(run, known)
    _attempts(run)
    if st.toggle(say("live"), key=f"run_live {run.run_id}"):
        live(run_id=run.run_id)


def _buttons(run: RunInfo) -> None:
    active = run.status in ACTIVE
    with st.container(horizontal=True):
        if active and st.button(say("follow"), key="run_follow"):
            places.go("main")
        if active and st.button(say("stop"), key="run_stop", disabled=run.status == "stopping"):
            with refusals():
                client().stop(run.run_id)
                run_list.forget()
                st.toast(say("stopping"), icon="🛑")
        if run.status in ("stopped", "failed", "crashed") and st.button(
            say("resume"), type="primary", key="run_resume"
        ):
            _resume(run)
        if st.button(say("checkpoints"), key="run_checkpoints"):
            places.go("checkpoints", run=run.run_id)
        if (
            run.parent
            and not run.parent.startswith("imports/")
            and st.button(say("parent_link"), key="run_parent")
        ):
            places.go("checkpoints", checkpoint=run.parent)


def _resume(run: RunInfo) -> None:
    """Go on from the run's newest checkpoint, with its own settings."""
    started = False
    with refusals():
        found = client().checkpoints(run_id=run.run_id).checkpoints
        latest = next((one for one in found if one.is_latest), None)
        if latest is None:
            st.warning(say("no_checkpoint"))
            return
        client().resume(
            run.model_name, run.dataset_name, specific_checkpoint=f"{run.run_id}/{latest.name}"
        )
        run_list.forget()
        started = True
    if started:
        places.go("main")


def _facts(run: RunInfo, known: tuple[RunInfo, ...]) -> None:
    rows = {
        say("model"): run.model_name,
        say("dataset"): run.dataset_name,
        say("begun"): figures.moment(run.created_at),
        say("moved"): figures.moment(run.updated_at),
    }
    if run.parent:
        rows[say("parent")] = f"`{run.parent}`"
    children = [
        one.run_id for one in known if one.parent and one.parent.startswith(f"{run.run_id}/")
    ]
    if children:
        rows[say("children")] = ", ".join(f"`{one}`" for one in children)
    if run.message:
        rows[say("message")] = run.message
    grids.facts(rows)


def _attempts(run: RunInfo) -> None:
    if not run.attempts:
        return
    st.markdown(f"**{say('attempts')}**")
    heads = [say(key) for key in ("attempt", "status", "begun", "ended", "time", "from", "machine")]
    rows = [
        (
            str(one.attempt),
            run_words.status(one.status),
            figures.moment(one.started_at),
            figures.moment(one.ended_at) if one.ended_at else figures.NOTHING,
            figures.duration((one.ended_at or run.updated_at) - one.started_at),
            f"`{one.resumed_from}`" if one.resumed_from else figures.NOTHING,
            one.hostname,
        )
        for one in run.attempts
    ]
    grids.listed(heads, rows)
