"""Text on the page: large and to be copied, with its words' times, compared with what is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import Any, NamedTuple, cast

import streamlit as st

from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "empty": Both("（空の文字列）", "(empty)"),
        "word": Both("単語", "word"),
        "start": Both("開始（秒）", "start (s)"),
        "end": Both("終了（秒）", "end (s)"),
        "confidence": Both("確信度", "confidence"),
        "words": Both("単語ごとの時刻と確信度", "Time and confidence of each word"),
        "sure": Both("実線: 80 % 以上", "solid: 80 % or more"),
        "unsure": Both("破線: 50〜80 %", "dashed: 50 to 80 %"),
        "doubtful": Both("波線: 50 % 未満", "wavy: below 50 %"),
        "same": Both("正解と一致しています。", "It is the same as the reference."),
        "compared": Both("正解との違い", "Compared with the reference"),
        "said": Both("出力", "Output"),
        "right": Both("正解", "Reference"),
        "differ": Both(
            "正解の {total} {unit}のうち {wrong} {unit}が異なります。",
            "{wrong} of the reference's {total} {unit} differ.",
        ),
        "unit_words": Both("語", "words"),
        "unit_letters": Both("文字", "characters"),
    }
)

SURE, UNSURE = 0.8, 0.5
MOST_WORDS = 2000
"""Words that are drawn one by one."""
LONGEST = 3000
"""Words, or characters, of texts that are compared."""

STYLE = """<style>
.st-key-%s [data-testid="stCode"] pre, .st-key-%s [data-testid="stCode"] code {
  font-family: inherit; font-size: 1.35rem; line-height: 1.7;
}
.tz-words { font-size: 1.15rem; line-height: 2.1; overflow-wrap: anywhere; }
.tz-words span { text-decoration: underline 2px; text-underline-offset: 5px; }
.tz-words .unsure { text-decoration-style: dashed; }
.tz-words .doubtful { text-decoration-style: wavy; text-decoration-thickness: 1px; }
.tz-words mark { background: rgba(255, 170, 0, 0.35); color: inherit; padding: 0 2px; }
.tz-words b { display: block; font-size: 0.85rem; font-weight: 600; line-height: 1.4; }
</style>"""


class Piece(NamedTuple):
    """A part of a text, and whether the other one has it too."""

    text: str
    same: bool


def show(text: str, key: str) -> None:
    """A text in large letters, with a button that copies it."""
    with st.container(key=key):
        st.html(STYLE % (key, key))
        if text:
            st.code(text, language=None, wrap_lines=True)
        else:
            st.caption(say("empty"))


def show_words(words: Sequence[Any], key: str) -> None:
    """Words underlined by how sure the model is, and a table of when they are said."""
    known = [cast("Mapping[str, Any]", w) for w in words if isinstance(w, dict) and "word" in w]
    if not known:
        return
    spans = " ".join(_span(word) for word in known[:MOST_WORDS])
    kinds = "".join(f'<span class="{k}">{escape(say(k))}</span>　' for k in _KINDS)
    st.html(f'<div class="tz-words">{spans}</div><small class="tz-words">{kinds}</small>')
    columns = {
        say("word"): [str(w["word"]) for w in known],
        say("start"): [_number(w, "start") for w in known],
        say("end"): [_number(w, "end") for w in known],
        say("confidence"): [_number(w, "confidence") for w in known],
    }
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
    seconds = st.column_config.NumberColumn(format="%.2f")
    cast(Any, st).dataframe(
        columns,
        key=key,
        hide_index=True,
        height=min(36 * (len(known) + 1), 250),
        column_config={say("start"): seconds, say("end"): seconds, say("confidence"): share},
        alt=say("words"),
    )


def show_differences(said: str, right: str) -> None:
    """Both texts, marked where they differ."""
    if said == right:
        st.caption(say("same"))
        return
    ours, theirs = differences(said, right)
    rows = ((say("said"), ours), (say("right"), theirs))
    body = "".join(f"<div><b>{escape(name)}</b>{_marked(row)}</div>" for name, row in rows)
    st.html(f'<div class="tz-words" role="group" aria-label="{say("compared")}">{body}</div>')
    spaced = _spaced(said, right)
    total = len(units(right, spaced))
    wrong = sum(len(units(piece.text, spaced)) for piece in theirs if not piece.same)
    unit = say("unit_words" if spaced else "unit_letters")
    st.caption(say("differ", total=total, wrong=wrong, unit=unit))


def differences(said: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; word by word where there are spaces, else letter by letter."""
    spaced = _spaced(said, right)
    ours, theirs = units(said, spaced)[:LONGEST], units(right, spaced)[:LONGEST]
    between = " " if spaced else ""
    left: list[Piece] = []
    other: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        same = kind == "equal"
        if b > a:
            left.append(Piece(between.join(ours[a:b]), same))
        if d > c:
            other.append(Piece(between.join(theirs[c:d]), same))
    return left, other


def units(text: str, spaced: bool) -> list[str]:
    """What a text is compared by: its words, or its letters where it has no spaces."""
    return text.split() if spaced else list(text.strip())


def _spaced(said: str, right: str) -> bool:
    return " " in right.strip() or " " in said.strip()


def _marked(pieces: Sequence[Piece]) -> str:
    shown = (
        escape(piece.text) if piece.same else f"<mark>{escape(piece.text)}</mark>"
        for piece in pieces
    )
    return " ".join(shown)


_KINDS = ("sure", "unsure", "doubtful")


def _span(word: Mapping[str, Any]) -> str:
    sure = _number(word, "confidence")
    kind = "sure" if sure is None or sure >= SURE else "unsure" if sure >= UNSURE else "doubtful"
    start, end = _number(word, "start"), _number(word, "end")
    said = f"{start:.2f}–{end:.2f} s" if start is not None and end is not None else ""
    said += f" {sure:.0%}" if sure is not None else ""
    return f'<span class="{kind}" title="{escape(said.strip())}">{escape(str(word["word"]))}</span>'


def _number(word: Mapping[str, Any], key: str) -> float | None:
    value = word.get(key)
    return float(value) if isinstance(value, int | float) else None
