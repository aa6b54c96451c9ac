"""「🔄 学習再開」: settings for going on from a checkpoint, and what they would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from tsuzuku.client.calls import ResumeOptions
from tsuzuku.core.answers import CheckpointDetails, Config
from tsuzuku.dashboard import figures, grids, places, preview_view, setting_words
from tsuzuku.dashboard.choice import NOT_ASKED
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.offers import offers
from tsuzuku.dashboard.schema_form import Form
from tsuzuku.dashboard.words import Both, speaker

MOST_EPOCHS = 1_000_000
LIMIT = 10**9
LIGHT_SAMPLES = 10
"""What the server takes for a quick trial."""
BY_LENGTH = ("cosine", "onecycle")
"""Schedules that depend on the number of epochs."""

say = speaker(
    {
        "epochs": Both("追加エポック数", "More epochs"),
        "epochs_help": Both(
            "このチェックポイントは {epoch} エポック目です。合計 {total} エポックになります。",
            "This checkpoint has {epoch} epochs; there will be {total} in all.",
        ),
        "tuning_help": Both(
            "微調整は最初のエポックから始まり、{total} エポック学習します。",
            "Fine-tuning begins with the first epoch and takes {total}.",
        ),
        "batch": Both("バッチサイズ", "Batch size"),
        "rate": Both("学習率", "Learning rate"),
        "light": Both("軽量モード", "Quick trial"),
        "light_help": Both(
            "{count} サンプルだけで試します。", "Trains on {count} samples only, to try it."
        ),
        "limit": Both("サンプル数制限", "Limit samples"),
        "limit_all": Both("制限なし", "no limit"),
        "dataset": Both("データセット", "Data set"),
        "tune": Both("微調整（重みだけを引き継ぐ）", "Fine-tune (take over the weights only)"),
        "tune_help": Both(
            "オプティマイザ、スケジュール、エポックは最初から始まります。"
            "別のデータセットでは常に微調整になります。",
            "Optimizer, schedule and epochs begin anew. On another data set it is always so.",
        ),
        "schedule": Both("学習率のスケジュール", "Learning-rate schedule"),
        "stretch": Both(
            "新しいエポック数に引き伸ばす（学習率が変わり、分岐します）",
            "stretch it to the new number of epochs (the rate changes, and it branches)",
        ),
        "extend": Both(
            "これまでの長さのまま、その後は最後の学習率で続ける",
            "leave it as long as it is, and go on at its last rate",
        ),
        "more": Both("詳細設定", "Further settings"),
        "training": Both("学習", "Training"),
        "data": Both("データ", "Data"),
        "resume": Both(
            "🔄 このチェックポイントから学習を再開", "🔄 Resume training from this checkpoint"
        ),
    }
)


@dataclass(frozen=True)
class Asked:
    """What the form holds; None is as the run has it."""

    dataset: str
    additional_epochs: int
    batch_size: int | None
    lightweight: bool
    limit_samples: int | None
    fine_tune: bool | None
    overrides: dict[str, Any]

    def options(self, checkpoint: str) -> ResumeOptions:
        return {
            "specific_checkpoint": checkpoint,
            "additional_epochs": self.additional_epochs,
            "batch_size": self.batch_size,
            "lightweight": self.lightweight,
            "limit_samples": self.limit_samples,
            "fine_tune": self.fine_tune,
            "overrides": self.overrides,
        }


@st.fragment
def section(details: CheckpointDetails) -> None:
    """The form, the preview of what it says, and the button. Only this part reruns as it is
    filled in."""
    asked = _form(details)
    options = asked.options(f"{details.run_id}/{details.name}")
    possible = False
    with st.container(border=True):
        st.markdown(f"**{preview_view.title()}**")
        with refusals():
            plan = client().preview(details.model_name, asked.dataset, **options)
            preview_view.show(plan)
            possible = plan.mode != "finished"
    if st.button(say("resume"), type="primary", disabled=not possible, key="resume_here"):
        started = False
        with refusals():
            client().resume(details.model_name, asked.dataset, **options)
            started = True
        if started:
            places.go("main")


def _form(details: CheckpointDetails) -> Asked:
    training: dict[str, Any] = details.config.get("training") or {}
    planned, batch = training.get("num_epochs"), training.get("batch_size")
    limited: int | None = training.get("limit_samples")
    left = planned - details.epoch if isinstance(planned, int) else 0
    own = f"{details.run_id}/{details.name}"  # every checkpoint begins with its own settings
    config = offers()
    first, second, third, fourth = st.columns(4, vertical_alignment="bottom")
    more = first.number_input(
        say("epochs"), 1, MOST_EPOCHS, max(left, 1), key=f"resume_epochs {own}"
    )
    size = second.number_input(
        say("batch"), 1, LIMIT, batch if isinstance(batch, int) else 1, key=f"resume_batch {own}"
    )
    key = f"resume_limit {own}"
    if key not in st.session_state:  # a default of its own would not let it be emptied
        st.session_state[key] = limited
    limit = third.number_input(
        say("limit"), 1, LIMIT, None, step=100, placeholder=say("limit_all"), key=key
    )
    light = fourth.toggle(
        say("light"), help=say("light_help", count=LIGHT_SAMPLES), key=f"resume_light {own}"
    )
    first, second, third = st.columns([1, 1, 2], vertical_alignment="bottom")
    overrides: dict[str, Any] = {}
    with first:
        _rate(training, own, overrides)
    with second:
        dataset = _dataset(details, config, own)
    other = dataset != details.dataset_name
    tune = third.toggle(
        say("tune"),
        key=f"resume_tune {own} {other}",
        value=other,
        disabled=other,
        help=say("tune_help"),
    )
    words = "tuning_help" if tune else "epochs_help"
    epoch, total = (
        figures.count(details.epoch),
        figures.count(more + (0 if tune else details.epoch)),
    )
    grids.note(say(words, epoch=epoch, total=total))
    if not tune:
        _schedule(training, details.epoch + more, own, overrides)
    if config is not None:
        _further(details, dataset, config, overrides)
    if limit is None and limited is not None and not light:
        overrides["training.limit_samples"] = None
    return Asked(
        dataset=dataset,
        additional_epochs=more,
        batch_size=size if size != batch else None,
        lightweight=light,
        limit_samples=limit if limit != limited else None,
        fine_tune=True if tune and not other else None,
        overrides=overrides,
    )


def _rate(training: dict[str, Any], own: str, overrides: dict[str, Any]) -> None:
    known = training.get("learning_rate")
    rate = st.number_input(
        say("rate"),
        0.0,
        None,
        float(known) if isinstance(known, int | float) else 1e-3,
        format="%g",
        key=f"resume_rate {own}",
    )
    if rate and rate != known:
        overrides["training.learning_rate"] = rate


def _dataset(details: CheckpointDetails, config: Config | None, own: str) -> str:
    names = list(config.datasets) if config is not None else []
    if details.dataset_name not in names:
        names.insert(0, details.dataset_name)
    place = names.index(details.dataset_name)
    return st.selectbox(say("dataset"), names, place, key=f"resume_dataset {own}")


def _schedule(training: dict[str, Any], total: int, own: str, overrides: dict[str, Any]) -> None:
    """Where a schedule depends on the epochs and there will be more: what becomes of it."""
    options: dict[str, Any] = training.get("scheduler_options") or {}
    before = options.get("schedule_epochs") or training.get("num_epochs")
    if training.get("scheduler") not in BY_LENGTH or not isinstance(before, int) or total <= before:
        return
    kept = options.get("schedule_epochs") is not None
    choice = st.radio(
        say("schedule"),
        ["stretch", "extend"],
        int(kept),
        format_func=say,
        key=f"resume_schedule {own}",
    )
    if choice == "extend" and not kept:
        overrides["training.scheduler_options.schedule_epochs"] = before
    elif choice == "stretch" and kept:
        overrides["training.scheduler_options.schedule_epochs"] = None


def _further(
    details: CheckpointDetails,
    dataset: str,
    config: Config,
    overrides: dict[str, Any],
) -> None:
    """All other settings of the training and of the data, only made while somebody looks."""
    own = f"{details.run_id}/{details.name}"
    plugin = config.datasets.get(dataset)
    same = dataset == details.dataset_name
    values: Any = details.config.get("dataset") if same else plugin and plugin.settings
    known = setting_words.PLUGINS.get(dataset) if plugin and plugin.builtin else None
    forms = {
        "training.": Form(
            f"resume {own}/training.",
            config.training_schema,
            details.config.get("training") or {},
            (*NOT_ASKED, "learning_rate"),
            setting_words.TRAINING,
        ),
        f"datasets.{dataset}.": Form(
            f"resume {own}/{dataset}.",
            plugin.json_schema if plugin is not None else None,
            values or {},
            words=known,
        ),
    }
    opened = st.expander(say("more"), key=f"resume_more {own}", on_change="rerun")
    if opened.open:
        with opened:
            for tab, form in zip(
                st.tabs([say("training"), say("data")]), forms.values(), strict=True
            ):
                with tab:
                    form.draw()
    for head, form in forms.items():
        for path, value in form.changed().items():
            overrides.setdefault(head + path, value)
