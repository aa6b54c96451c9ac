"""One checkpoint: what is known of it, and what can be done with it but resuming."""

from __future__ import annotations

import math

import streamlit as st

from tsuzuku.core.answers import CheckpointDetails
from tsuzuku.core.schemas import is_detail
from tsuzuku.dashboard import checkpoint_list, exporting, figures, grids, leaves, places, reasons
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "epoch": Both("エポック", "Epoch"),
        "step": Both("ステップ", "Step"),
        "size": Both("サイズ", "Size"),
        "created": Both("作成日時", "Created"),
        "metrics": Both("指標", "Metrics"),
        "each": Both("指標の内訳", "Metrics in detail"),
        "no_metrics": Both(
            "エポックの途中で保存されたため、指標はありません。",
            "Saved within an epoch, it has no metrics.",
        ),
        "overview": Both("概要", "Overview"),
        "metadata": Both("メタデータ", "Metadata"),
        "settings": Both("設定", "Settings"),
        "weights": Both("重み", "Weights"),
        "export_tab": Both("エクスポート", "Export"),
        "model": Both("モデル", "Model"),
        "dataset": Both("データセット", "Data set"),
        "run": Both("実行", "Run"),
        "path": Both("ファイル", "File"),
        "kept": Both("残す理由", "Kept because"),
        "kept_nothing": Both("なし（整理すると消えます）", "nothing (it goes when you prune)"),
        "verification": Both("検証", "Verification"),
        "verified": Both("✅ 検証済み", "✅ verified"),
        "unverified": Both("まだ検証していません", "not verified yet"),
        "in_use": Both("削除できない理由", "Cannot be deleted because"),
        "best_val_loss": Both("最良の検証ロス", "Best validation loss"),
        "tensors": Both(
            "{count} 個のテンソル、{numbers} 個の数値", "{count} tensors, {numbers} numbers"
        ),
        "tensor": Both("テンソル", "Tensor"),
        "type": Both("型", "Type"),
        "shape": Both("形", "Shape"),
        "verify": Both("🔍 検証", "🔍 Verify"),
        "verify_help": Both(
            "ハッシュと構造を調べ、すべての重みが有限かを確かめます。",
            "Compares the hash, opens the file, and looks whether all weights are finite.",
        ),
        "verifying": Both("検証しています…", "Verifying…"),
        "verify_good": Both("{name} は正常です（{checked}）。", "{name} is sound ({checked})."),
        "verify_bad": Both("{name} は壊れています: {error}", "{name} is damaged: {error}"),
        "gather": Both("🧩 1 つのファイルにまとめる", "🧩 Gather into one file"),
        "gather_help": Both(
            "複数のプロセスが {count} 個に分けて保存したものを、1 つのファイルにします。",
            "Several ranks have saved it in {count} parts; this makes one file of them.",
        ),
        "gathering": Both("まとめています…", "Gathering…"),
        "gathered_now": Both(
            "{name} を 1 つのファイルにまとめました（{size}）。",
            "{name} is one file now ({size}).",
        ),
        "pin": Both("📌 ピン留め", "📌 Pin"),
        "unpin": Both("📌 ピンを外す", "📌 Unpin"),
        "pin_help": Both(
            "ピン留めすると、整理しても消えません。", "What is pinned stays when you prune."
        ),
        "pinned_now": Both("{name} をピン留めしました。", "{name} is pinned."),
        "unpinned_now": Both("{name} のピンを外しました。", "{name} is no longer pinned."),
        "delete": Both("🗑️ 削除", "🗑️ Delete"),
        "delete_title": Both("チェックポイントの削除", "Delete a checkpoint"),
        "delete_sure": Both(
            "**{name}**（{size}、実行 {run}）を削除します。元に戻せません。",
            "**{name}** ({size}, run {run}) will be deleted. This cannot be undone.",
        ),
        "delete_yes": Both("削除する", "Delete it"),
        "cancel": Both("やめる", "Cancel"),
        "deleted": Both("{name} を削除しました。", "{name} has been deleted."),
        "to_run": Both("📈 学習履歴で見る", "📈 See its run"),
    }
)
TOLD = "checkpoint_told"
"""What has just been done, for the rerun that shows it: a kind and a sentence."""


def tell() -> None:
    """Say what the last button has done."""
    if told := st.session_state.pop(TOLD, None):
        kind, sentence = told
        if kind == "good":
            st.success(sentence)
        else:
            st.error(sentence)


def done(kind: str, sentence: str) -> None:
    st.session_state[TOLD] = (kind, sentence)
    checkpoint_list.forget()
    st.rerun()


def section(details: CheckpointDetails) -> None:
    """Numbers, buttons, and everything else in tabs."""
    _numbers(details)
    tell()
    _buttons(details)
    overview, metadata, settings, weights, export = st.tabs(
        [say(key) for key in ("overview", "metadata", "settings", "weights", "export_tab")]
    )
    with overview:
        _overview(details)
    with metadata:
        grids.facts(leaves.rows(details.metadata))
    with settings:
        grids.facts(leaves.rows(details.config))
    with weights:
        _tensors(details)
    with export:
        exporting.section(details.run_id, details.name)


def _numbers(details: CheckpointDetails) -> None:
    numbers = [
        (say("epoch"), figures.count(details.epoch)),
        (say("step"), figures.count(details.global_step)),
        (say("size"), figures.size(details.size)),
    ]
    measured = [(name, figures.metric(value)) for name, value in details.metrics.items()]
    numbers += [one for one in measured if not is_detail(one[0])]
    with st.container(horizontal=True, gap="large"):
        for label, value in numbers:
            st.metric(label, value, width="content")
    if each := [one for one in measured if is_detail(one[0])]:
        with st.expander(say("each")):
            grids.facts(dict(each))
    if not details.metrics:
        grids.note(say("no_metrics"))


def _buttons(details: CheckpointDetails) -> None:
    with st.container(horizontal=True):
        if st.button(say("verify"), help=say("verify_help"), key="checkpoint_verify"):
            _verify(details)
        label = "unpin" if details.pinned else "pin"
        if st.button(say(label), help=say("pin_help"), key="checkpoint_pin"):
            _pin(details)
        if details.parts:
            help_text = say("gather_help", count=details.parts)
            if st.button(say("gather"), help=help_text, key="checkpoint_gather"):
                _gather(details)
        exporting.download(exporting.checkpoint_path(details.run_id, details.name), details.size)
        if st.button(say("delete"), key="checkpoint_delete"):
            _ask_before_deleting(details)
        if st.button(say("to_run"), key="checkpoint_run_link", type="tertiary"):
            places.go("runs", run=details.run_id)


def _verify(details: CheckpointDetails) -> None:
    with refusals():
        with st.spinner(say("verifying")):
            answer = client().verify(details.run_id, details.name)
        if answer.ok:
            done("good", say("verify_good", name=f"`{answer.name}`", checked=answer.checked))
        done("bad", say("verify_bad", name=f"`{answer.name}`", error=answer.error))


def _gather(details: CheckpointDetails) -> None:
    with refusals():
        with st.spinner(say("gathering")):
            answer = client().gather(details.run_id, details.name)
        size = figures.size(answer.size)
        done("good", say("gathered_now", name=f"`{answer.name}`", size=size))


def _pin(details: CheckpointDetails) -> None:
    with refusals():
        answer = client().pin(details.run_id, details.name, not details.pinned)
        key = "pinned_now" if answer.pinned else "unpinned_now"
        done("good", say(key, name=f"`{answer.name}`"))


def _ask_before_deleting(details: CheckpointDetails) -> None:
    @st.dialog(say("delete_title"))
    def ask() -> None:
        size = figures.size(details.size)
        st.markdown(say("delete_sure", name=details.name, size=size, run=details.run_id))
        with st.container(horizontal=True):
            if st.button(say("delete_yes"), type="primary", key="checkpoint_delete_yes"):
                with refusals():
                    client().delete_checkpoint(details.run_id, details.name)
                    done("good", say("deleted", name=f"`{details.name}`"))
            if st.button(say("cancel"), key="checkpoint_delete_no"):
                st.rerun()

    ask()


def _overview(details: CheckpointDetails) -> None:
    kept = ", ".join(reasons.kept(reason) for reason in details.kept_because)
    rows = {
        say("model"): details.model_name,
        say("dataset"): details.dataset_name,
        say("run"): details.run_id,
        say("created"): figures.moment(details.created_at),
        say("path"): f"`{details.path}`",
        say("verification"): say("verified" if details.verified else "unverified"),
        "SHA-256": f"`{details.sha256}`",
        say("kept"): kept or say("kept_nothing"),
    }
    if details.best_val_loss is not None:
        rows[say("best_val_loss")] = figures.metric(details.best_val_loss)
    if details.in_use:
        rows[say("in_use")] = reasons.in_use(details.in_use)
    grids.facts(rows)


def _tensors(details: CheckpointDetails) -> None:
    names, kinds, shapes = list(details.tensors), list[str](), list[str]()
    numbers = 0
    for kind, shape in details.tensors.values():
        lengths = [] if isinstance(shape, str) else shape
        kinds.append(str(kind))
        shapes.append(" × ".join(map(str, lengths)))
        numbers += math.prod(lengths)
    grids.note(say("tensors", count=figures.count(len(names)), numbers=figures.count(numbers)))
    columns = {say("tensor"): names, say("type"): kinds, say("shape"): shapes}
    grids.grid(
        grids.arrow({name: ("text", values) for name, values in columns.items()}), say("weights")
    )
