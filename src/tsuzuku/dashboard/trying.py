"""推論テスト: what a checkpoint makes of an input, or two checkpoints of the same one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import streamlit as st

from tsuzuku.core.answers import CheckpointInfo, Config, ExportedFile, Inference, PluginInfo
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard import checkpoint_list, figures, inputs, outputs
from tsuzuku.dashboard.checkpoint_list import full_name
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.inputs import Given
from tsuzuku.dashboard.offers import offers
from tsuzuku.dashboard.refusal_words import refusal
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "title": Both("推論テスト", "Try a model"),
        "model": Both("モデル", "Model"),
        "checkpoint": Both("チェックポイント", "Checkpoint"),
        "second": Both("比べるチェックポイント", "Checkpoint to compare with"),
        "any": Both(
            "新しい順に {count} 件までと、エクスポートした ONNX を一覧します。"
            "ほかは `実行ID/名前` を入力してください。",
            "The newest {count} are listed, and exported ONNX files. For any other, type"
            " `run_id/name`.",
        ),
        "compare": Both(
            "2つのチェックポイントを並べて比べる", "Compare two checkpoints side by side"
        ),
        "go": Both("▶ 推論を実行", "▶ Run"),
        "busy": Both(
            "{name} で推論しています。初回はモデルの読み込みに数秒かかります…",
            "Running {name}. The first time, loading the model takes a few seconds…",
        ),
        "reading": Both("プラグインを読み込んでいます…", "The server is reading its plug-ins…"),
        "again": Both("もう一度確認", "Look again"),
        "looking": Both(
            "このモデルが受け取る入力を確認しています…", "Finding out what this model takes…"
        ),
        "no_checkpoint": Both(
            "まだチェックポイントがありません。サイドバーで学習を開始すると、最初の保存のあとここで試せます。",
            "There is no checkpoint yet. Start a training in the sidebar; once it has saved, its"
            " model can be tried here.",
        ),
        "no_inference": Both(
            "モデル {model} には inference(sample) がないため、ここでは試せません。",
            "The model {model} has no inference(sample), so it cannot be tried here.",
        ),
        "no_input": Both("入力を用意すると実行できます。", "Give it an input to run it."),
        "first": Both("最初の出力まで", "First output"),
        "inference": Both("推論時間", "Inference"),
        "total": Both("合計時間", "Total"),
        "first_help": Both(
            "first_token_time_ms: 最初の出力が得られるまでの時間",
            "first_token_time_ms: until the first output",
        ),
        "inference_help": Both(
            "inference_time_ms: モデルの計算時間", "inference_time_ms: what the model took"
        ),
        "total_help": Both(
            "total_time_ms: 読み込みと受け渡しを含む、サーバー全体の時間",
            "total_time_ms: all of the server's time, loading the model included",
        ),
        "warm": Both("モデルは読み込み済みでした", "the model was loaded already"),
        "cold": Both("モデルの読み込みを含みます", "the model was loaded for it"),
        "failed": Both("推論できませんでした。", "That did not work."),
        "exported": Both("エクスポート", "exported"),
        "best": Both("最良", "best"),
        "latest": Both("最新", "latest"),
        "clear": Both("結果を消す", "Clear the results"),
    }
)

LISTED = 200
"""Checkpoints that are offered by name; any other can be typed."""
BETWEEN = " · "
ONNX = ".onnx"
"""The ending of the exports that can be tried."""
ASKED, RESULT = "trying_asked", "trying_result"
"""What is kept in the session: an input that is to be run, and the newest results."""


@dataclass(frozen=True)
class Asked:
    given: Given
    model: str
    checkpoints: tuple[str, ...]
    """`run_id/name`."""


@dataclass(frozen=True)
class Refused:
    """Why there is no answer, in Markdown."""

    text: str


@dataclass(frozen=True)
class Result:
    asked: Asked
    answers: tuple[Inference | Refused, ...]


def section() -> None:
    """Closed until somebody wants it: then it asks for the checkpoints, and not before."""
    with st.expander(say("title"), key="trying", icon="🔮", on_change="rerun") as opened:
        if opened.open:
            with refusals():
                _section()


@st.fragment
def _section() -> None:
    with refusals():
        known = offers()
        if known is None:
            st.info(say("reading"), icon="⏳")
            st.button(say("again"), key="trying-again")
            return
        items = checkpoint_list.listing().items
        if not items:
            st.info(say("no_checkpoint"), icon="🌱")
            return
        asked = _form(known, items)
        if st.session_state.get(ASKED) is not None:
            _run()
        _result(asked)


def _form(known: Config, items: checkpoint_list.Items) -> Asked | None:
    """The input and the checkpoints; None as long as something is missing."""
    trained = list(dict.fromkeys(item.model_name for item in items))
    left, right = st.columns([1, 3])
    model = left.selectbox(say("model"), trained, key="trying-model")
    listed = _ordered(items, model)
    exports = [
        file
        for file in client().exports().exports
        if file.model_name == model and file.name.endswith(ONNX)
    ]
    labels = [*map(_label, listed.values()), *map(_export_label, exports)]
    first = _checkpoint(right, "checkpoint", model, labels, 0)
    chosen = [first] if first else []
    if st.toggle(say("compare"), key="trying-compare") and first:
        second = _checkpoint(st, "second", model, labels, min(1, len(labels) - 1))
        chosen += [second] if second else []
    plugin = known.models.get(model)
    if plugin is not None and not plugin.error and not plugin.has.get("inference"):
        st.warning(say("no_inference", model=model), icon="⚠️")
        return None
    dataset = known.datasets.get(_dataset_of(first, listed))
    given = _input(dataset)
    asked = Asked(given, model, tuple(chosen)) if given is not None and chosen else None
    st.button(
        say("go"),
        type="primary",
        key="trying-go",
        disabled=asked is None or st.session_state.get(ASKED) is not None,
        help=None if asked else say("no_input"),
        on_click=_ask,
        args=(asked,),
    )
    return asked


def _ask(asked: Asked | None) -> None:
    st.session_state[ASKED] = asked


def _input(dataset: PluginInfo | None) -> Given | None:
    with st.spinner(say("looking")):
        kind = inputs.kind_of(dataset)
    return inputs.choose(kind, dataset)


def _ordered(items: checkpoint_list.Items, model: str) -> dict[str, CheckpointInfo]:
    """The model's checkpoints by full name: the newest run's best, then all by age."""
    mine = [item for item in items if item.model_name == model]
    newest = mine[0].run_id if mine else ""
    mine.sort(key=lambda item: not (item.is_best and item.run_id == newest))
    return {full_name(item): item for item in mine[:LISTED]}


def _checkpoint(place: Any, key: str, model: str, labels: list[str], first: int) -> str | None:
    """The full name of the one that is chosen, or typed."""
    chosen: str | None = place.selectbox(
        say(key),
        labels,
        index=first,
        key=f"trying-{key}-{model}",  # what was chosen of another model is not "typed" here
        help=say("any", count=LISTED),
        accept_new_options=True,
    )
    return (chosen or "").split(BETWEEN)[0].strip() or None


def _label(item: CheckpointInfo) -> str:
    """It begins with the full name, so that a label that is listed no more still says which."""
    said = [full_name(item)]
    said += [say("best")] if item.is_best else []
    said += [say("latest")] if item.is_latest else []
    loss = item.metrics.get("val_loss")
    said += [f"val_loss {figures.metric(loss)}"] if loss is not None else []
    return BETWEEN.join(said)


def _export_label(file: ExportedFile) -> str:
    return BETWEEN.join((f"{file.run_id}/{file.name}", say("exported"), file.checkpoint))


def _dataset_of(name: str | None, listed: dict[str, CheckpointInfo]) -> str:
    item = listed.get(name or "") or next(iter(listed.values()), None)
    return item.dataset_name if item else ""


def _run() -> None:
    """Ask the server, which takes as long as it takes; what it says is kept for later reruns."""
    asked = cast(Asked, st.session_state[ASKED])
    answers: list[Inference | Refused] = []
    for name in asked.checkpoints:
        with st.spinner(say("busy", name=name.rpartition("/")[2]), show_time=True):
            answers.append(_answer(asked, name))
    st.session_state[RESULT] = Result(asked, tuple(answers))
    st.session_state[ASKED] = None
    st.rerun(scope="fragment")


def _answer(asked: Asked, name: str) -> Inference | Refused:
    run_id, _, checkpoint = name.rpartition("/")
    given = asked.given
    try:
        with tempfile.TemporaryDirectory(prefix="tsuzuku-") as folder:
            path = None
            if given.number is None:
                path = Path(folder, f"input{given.suffix}")
                path.write_bytes(given.content)
            exported = checkpoint.endswith(ONNX)
            return client().infer(
                path,
                sample=given.number,
                model_name=asked.model,
                run_id=run_id or None,
                checkpoint=None if exported else checkpoint,
                export=checkpoint if exported else None,
            )
    except TsuzukuError as error:
        return Refused(refusal(error))


def _result(asked: Asked | None) -> None:
    result = cast("Result | None", st.session_state.get(RESULT))
    if result is None:
        if asked is not None and asked.given.number is None:
            inputs.show(asked.given, "trying-given")
        return
    st.divider()
    inputs.show(result.asked.given, "trying-given")
    places = st.columns(len(result.answers)) if len(result.answers) > 1 else [st.container()]
    for number, (place, answer) in enumerate(zip(places, result.answers, strict=True)):
        with place:
            _show(result.asked.checkpoints[number], answer, f"trying-result-{number}")
    st.button(say("clear"), key="trying-clear", on_click=_forget)


def _forget() -> None:
    st.session_state[RESULT] = None


def _show(name: str, answer: Inference | Refused, key: str) -> None:
    st.markdown(f"#### `{name.rpartition('/')[2]}`")
    if isinstance(answer, Refused):
        st.error(f"{say('failed')} {answer.text}", icon="⚠️")
        return
    st.caption(f"{answer.run_id} · {say('warm' if answer.warm else 'cold')}")
    outputs.show(answer.outputs, key)
    times = {
        "first": answer.first_token_time_ms,
        "inference": answer.inference_time_ms,
        "total": answer.total_time_ms,
    }
    with st.container(horizontal=True, key=f"{key}-times"):
        for what, time in times.items():
            st.metric(say(what), _ms(time), help=say(f"{what}_help"), width="content")


def _ms(time: float) -> str:
    return f"{time:,.0f} ms" if time >= 100 else f"{time:.1f} ms"
