"""What a resume would do, as a person reads it: the same beside every form that resumes."""

from __future__ import annotations

import streamlit as st

from tsuzuku.core.preview_answers import Preview, ProofOnRecord, SourceChange
from tsuzuku.dashboard import grids, leaves, preview_words
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
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
        "fine_tuning": Both(
            "このチェックポイントの重みから、新しい学習（微調整）を始めます（{total} エポック）。"
            "元の学習 {run} はそのまま残ります。",
            "A new run begins with the weights of this checkpoint (fine-tuning, {total} epochs)."
            " Run {run} stays as it is.",
        ),
        "fresh": Both(
            "このチェックポイントは使わず、最初から学習します。",
            "The training begins anew, without this checkpoint.",
        ),
        "finished": Both(
            "この学習は完了していて、続けるエポックがありません。エポック数を増やしてください。",
            "This training is complete, and no epoch is left. Ask for more epochs.",
        ),
        "proven": Both(
            "✅ 再開はビット単位で同一（検証済み）",
            "✅ Resuming is bit for bit the same (proven)",
        ),
        "proven_how": Both(
            "`tsuzuku prove`: {kills} 回の強制終了、{steps} ステップ",
            "`tsuzuku prove`: {kills} kills, {steps} steps",
        ),
        "stale": Both(
            "⚠ 再開の検証後に変更がありました: {what}。もう一度 `tsuzuku prove` で検証できます。",
            "⚠ Changed since resuming was proven: {what}. `tsuzuku prove` proves it again.",
        ),
        "not_exact": Both(
            "❌ 検証では、再開しても同じ結果になりませんでした（`tsuzuku prove`）。",
            "❌ Resuming was found not to be exact (`tsuzuku prove`).",
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
        "source": Both("`{file}` の変更", "Changes of `{file}`"),
        "and": Both("、", ", "),
        "no_copy": Both(
            "学習の開始時のファイルが残っていないため、比較できません。",
            "The run's own copy is gone, so the two cannot be compared.",
        ),
    }
)


def title() -> str:
    return say("preview")


def badge(verdict: str) -> str:
    """Markdown of how far a part is restored."""
    return say(verdict)


def show(plan: Preview) -> None:
    """The mode, the proof on record, what becomes of each part, and what differs."""
    _tell_mode(plan)
    if plan.proof is not None and plan.components:
        _tell_proof(plan.proof)
    if plan.components:
        rows = [
            (preview_words.part(one), badge(one.verdict), preview_words.why(one))
            for one in plan.components
        ]
        grids.listed((say("component"), say("verdict"), say("why")), rows)
    for source in plan.sources:
        _show_source(source)
    if plan.differences:
        _show_differences(plan)
    elif plan.components:
        grids.note(say("no_differences"))


def show_narrow(plan: Preview) -> None:
    """The same without tables; of what stays exact the names only."""
    _tell_mode(plan)
    if plan.proof is not None and plan.components:
        _tell_proof(plan.proof)
    exact = [preview_words.part(one) for one in plan.components if one.verdict == "exact"]
    for one in plan.components:
        if one.verdict != "exact":
            st.markdown(f"{badge(one.verdict)} **{preview_words.part(one)}**")
            st.caption(preview_words.why(one))
    if exact:
        st.markdown(say("exact"))
        st.caption(say("and").join(exact))
    if plan.differences:
        st.markdown(f"**{say('differences')}**")
        for one in plan.differences:
            st.caption(f"`{one.key}` {leaves.shown(one.old)} → {leaves.shown(one.new)}")


def _tell_mode(plan: Preview) -> None:
    values = {"run": plan.run_id, "epoch": plan.epoch, "total": plan.total_epochs}
    if plan.mode == "continue":
        exact = all(one.verdict == "exact" for one in plan.components)
        key, kind = ("continue", st.success) if exact else ("continue_nearly", st.info)
        kind(say(key, **values), icon="▶️")
    elif plan.mode == "branch":
        st.info(say("fine_tuning" if plan.fine_tuning else "branch", **values), icon="🌿")
    elif plan.mode == "fresh":
        st.warning(say("fresh"), icon="🆕")
    else:
        st.warning(say("finished"), icon="🏁")


def _tell_proof(proof: ProofOnRecord) -> None:
    if not proof.exact:
        st.caption(say("not_exact"))
    elif proof.current:
        how = say("proven_how", kills=proof.kills, steps=proof.steps)
        st.markdown(f"**{say('proven')}**", help=how)
    else:
        st.caption(say("stale", what=", ".join(f"`{one}`" for one in proof.stale_because)))


def _show_source(source: SourceChange) -> None:
    with st.expander(say("source", file=source.file)):
        if source.diff:
            st.code(source.diff, language="diff", wrap_lines=True)
        else:
            st.caption(say("no_copy"))


def _show_differences(plan: Preview) -> None:
    st.markdown(f"**{say('differences')}**")
    changed = [
        (f"`{one.key}`", leaves.shown(one.old), leaves.shown(one.new),
         say("changes" if one.changes_result else "same"))
        for one in plan.differences
    ]  # fmt: skip
    grids.listed((say("setting"), say("old"), say("new"), say("effect")), changed)
