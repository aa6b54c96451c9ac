"""「🔄 学習再開」: settings for going on from a checkpoint, and what they would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from tsuzuku.client.calls import ResumeOptions
from tsuzuku.core.answers import CheckpointDetails, Preview
from tsuzuku.dashboard import figures, grids, leaves, places, preview_words
from tsuzuku.dashboard.connection import client, refusals
from tsuzuku.dashboard.words import Both, speaker

MOST_EPOCHS = 1_000_000
LIMIT = 10**9
LIGHT_SAMPLES = 10
"""What the server takes for a quick trial."""

say = speaker(
    {
        "epochs": Both("追加エポック数", "More epochs"),
        "epochs_help": Both(
            "このチェックポイントは {epoch} エポック目です。合計 {total} エポックになります。",
            "This checkpoint has {epoch} epochs; there will be {total} in all.",
        ),
        "batch": Both("バッチサイズ", "Batch size"),
        "light": Both("軽量モード", "Quick trial"),
        "light_help": Both(
            "{count} サンプルだけで試します。", "Trains on {count} samples only, to try it."
        ),
        "limit": Both("サンプル数制限", "Limit samples"),
        "limit_all": Both("制限なし", "no limit"),
        "preview": Both("再開すると", "What resuming does"),
        "continue": Both(
            "学習 {run} をそのまま続けます（エポック {epoch} → {total}）。"
            "中断しなかった場合と同じ結果になります。",
            "Run {run} goes on as it was (epoch {epoch} → {total}), to the same result as if it"
            " had not been interrupted.",
        ),
        "continue_nearly": Both(
            "学習 {run} を続けます（エポック {epoch} → {total}）。"
            "下の「近似」のため、末尾のビットが異なることがあります。",
            "Run {run} goes on (epoch {epoch} → {total}); because of what is approximate below,"
            " the last bits may differ.",
        ),
        "branch": Both(
            "このチェックポイントから新しい学習に分岐します（エポック {epoch} → {total}）。"
            "元の学習 {run} はそのまま残ります。",
            "A new run branches off this checkpoint (epoch {epoch} → {total}). Run {run} stays"
            " as it is.",
        ),
        "fresh": Both(
            "このチェックポイントは使わず、最初から学習します。",
            "The training begins anew, without this checkpoint.",
        ),
        "finished": Both(
            "この学習は完了していて、続けるエポックがありません。追加エポック数を増やしてください。",
            "This training is complete, and no epoch is left. Ask for more epochs.",
        ),
        "component": Both("項目", "Part"),
        "verdict": Both("復元", "Restored"),
        "why": Both("理由", "Why"),
        "exact": Both(":green-badge[✔ 正確]", ":green-badge[✔ exact]"),
        "approximate": Both(":orange-badge[≈ 近似]", ":orange-badge[≈ approximate]"),
        "lost": Both(":red-badge[✘ 失われる]", ":red-badge[✘ lost]"),
        "differences": Both("変わる設定", "Settings that change"),
        "no_differences": Both("変わる設定はありません。", "No setting changes."),
        "setting": Both("設定", "Setting"),
        "old": Both("元の値", "Before"),
        "new": Both("新しい値", "After"),
        "effect": Both("結果", "Result"),
        "changes": Both("変わる", "changes"),
        "same": Both("変わらない", "stays the same"),
        "resume": Both(
            "🔄 このチェックポイントから学習を再開", "🔄 Resume training from this checkpoint"
        ),
    }
)


@dataclass(frozen=True)
class Asked:
    """What the form holds; None is as the run has it."""

    additional_epochs: int
    batch_size: int | None
    lightweight: bool
    limit_samples: int | None
    unlimited: bool
    """Whether a limit that the run has is to be taken off."""

    def options(self, checkpoint: str) -> ResumeOptions:
        options: ResumeOptions = {
            "specific_checkpoint": checkpoint,
            "additional_epochs": self.additional_epochs,
            "batch_size": self.batch_size,
            "lightweight": self.lightweight,
            "limit_samples": self.limit_samples,
        }
        if self.unlimited:
            options["overrides"] = {"training.limit_samples": None}
        return options


@st.fragment
def section(details: CheckpointDetails) -> None:
    """The form, the preview of what it says, and the button. Only this part reruns as it is
    filled in."""
    asked = _form(details)
    options = asked.options(f"{details.run_id}/{details.name}")
    possible = False
    with st.container(border=True):
        st.markdown(f"**{say('preview')}**")
        with refusals():
            plan = client().preview(details.model_name, details.dataset_name, **options)
            _show(plan, details)
            possible = plan.mode != "finished"
    if st.button(say("resume"), type="primary", disabled=not possible, key="resume_here"):
        started = False
        with refusals():
            client().resume(details.model_name, details.dataset_name, **options)
            started = True
        if started:
            places.go("main")


def _form(details: CheckpointDetails) -> Asked:
    training: dict[str, Any] = details.config.get("training") or {}
    planned, batch = training.get("num_epochs"), training.get("batch_size")
    limited: int | None = training.get("limit_samples")
    left = planned - details.epoch if isinstance(planned, int) else 0
    own = f"{details.run_id}/{details.name}"  # every checkpoint begins with its own settings
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
    epoch, total = figures.count(details.epoch), figures.count(details.epoch + more)
    grids.note(say("epochs_help", epoch=epoch, total=total))
    return Asked(
        additional_epochs=more,
        batch_size=size if size != batch else None,
        lightweight=light,
        limit_samples=limit if limit != limited else None,
        unlimited=limit is None and limited is not None and not light,
    )


def _show(plan: Preview, details: CheckpointDetails) -> None:
    _tell_mode(plan, details)
    if plan.components:
        rows = [
            (preview_words.part(one), say(one.verdict), preview_words.why(one))
            for one in plan.components
        ]
        grids.listed((say("component"), say("verdict"), say("why")), rows)
    if not plan.differences:
        if plan.components:
            grids.note(say("no_differences"))
        return
    st.markdown(f"**{say('differences')}**")
    changed = [
        (f"`{one.key}`", leaves.shown(one.old), leaves.shown(one.new),
         say("changes" if one.changes_result else "same"))
        for one in plan.differences
    ]  # fmt: skip
    heads = (say("setting"), say("old"), say("new"), say("effect"))
    grids.listed(heads, changed)


def badge(verdict: str) -> str:
    """Markdown of how far a part is restored."""
    return say(verdict)


def _tell_mode(plan: Preview, details: CheckpointDetails) -> None:
    values = {"run": details.run_id, "epoch": plan.epoch, "total": plan.total_epochs}
    if plan.mode == "continue":
        exact = all(one.verdict == "exact" for one in plan.components)
        key, kind = ("continue", st.success) if exact else ("continue_nearly", st.info)
        kind(say(key, **values), icon="▶️")
    elif plan.mode == "branch":
        st.info(say("branch", **values), icon="🌿")
    elif plan.mode == "fresh":
        st.warning(say("fresh"), icon="🆕")
    else:
        st.warning(say("finished"), icon="🏁")
