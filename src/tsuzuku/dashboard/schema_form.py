"""A form for the settings that a JSON schema describes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from tsuzuku.core.trees import is_list, is_tree
from tsuzuku.dashboard import typed
from tsuzuku.dashboard.schema_fields import Field, fields, flat
from tsuzuku.dashboard.setting_words import Words, explained, label
from tsuzuku.dashboard.words import Both, speaker

WIDEST = 10**15
"""Beyond it, numbers in a browser are not exact."""

say = speaker(
    {
        "none": Both("なし", "none"),
        "none_asked": Both("{name} を使う", "use {name}"),
        "list_help": Both("値をコンマで区切ります。", "Values with commas between."),
        "mapping_help": Both(
            "「名前: 値」をコンマで区切ります。", "Name: value, with commas between."
        ),
        "empty_help": Both("空欄は「なし」です。", "Empty means none."),
        "nothing": Both("設定はありません。", "It has no settings."),
    }
)


class Form:
    """The settings of `schema`, whose values are kept in `typed` below `scope`.

    `values` are what holds if nothing is typed; `without` are left out; `words` say in Japanese
    what they are.
    """

    def __init__(
        self,
        scope: str,
        schema: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        without: Collection[str] = (),
        words: Words | None = None,
    ) -> None:
        self.scope = scope
        found = fields(schema or {}, values)
        self.fields = [_named(one, words or {}) for one in found if one.path not in without]

    def draw(self) -> None:
        """All widgets, sections after single settings."""
        if not self.fields:
            st.caption(say("nothing"))
        for one in sorted(self.fields, key=lambda one: one.kind == "section"):
            self._draw(one)

    def changed(self) -> dict[str, Any]:
        """What was typed and differs from what holds anyway, by path."""
        found: dict[str, Any] = {}
        for one in flat(self.fields):
            if one.kind == "section":
                value = self._optional_section(one)
            else:
                value = typed.value(self.scope + one.path, one.default)
            if value != one.default:
                found[one.path] = _laid_over(one, value)
        return found

    def _draw(self, one: Field) -> None:
        if one.kind == "section":
            if one.optional and not self._asked(one):
                return
            if not one.optional:
                st.caption(f"**{one.label}**", help=one.help or None)
            for inner in one.fields:
                self._draw(inner)
            return
        _WIDGETS.get(one.kind, _other)(one, self.scope + one.path)

    def _asked(self, one: Field) -> bool:
        """Whether a section that may be null is wanted."""
        path = f"{self.scope}{one.path}?"
        key = typed.widget(path, one.default is not None)
        label = say("none_asked", name=one.label)
        return st.toggle(label, key=key, on_change=typed.keep, args=(path,), help=one.help or None)

    def _optional_section(self, one: Field) -> dict[str, Any] | None:
        if not typed.value(f"{self.scope}{one.path}?", one.default is not None):
            return None
        start = len(one.path) + 1
        return {
            inner.path[start:]: typed.value(self.scope + inner.path, inner.default)
            for inner in one.fields
        }


def _named(one: Field, words: Words) -> Field:
    return replace(
        one,
        label=label(one.path, words),
        help=explained(one.path, words, one.help),
        fields=tuple(_named(inner, words) for inner in one.fields),
    )


def _bool(one: Field, path: str) -> None:
    if one.optional:
        _choice_of(one, path, (True, False))
        return
    key = typed.widget(path, one.default, bool)
    st.checkbox(one.label, key=key, on_change=typed.keep, args=(path,), help=one.help or None)


def _choice(one: Field, path: str) -> None:
    _choice_of(one, path, one.choices)


def _choice_of(one: Field, path: str, choices: tuple[Any, ...]) -> None:
    options = [*choices, None] if one.optional else list(choices)
    current = typed.value(path, one.default)
    if current not in options:  # what the file says, which the server judges
        options.append(current)
    st.selectbox(
        one.label,
        options,
        key=typed.widget(path, one.default),
        format_func=lambda value: say("none") if value is None else str(value),
        on_change=typed.keep,
        args=(path,),
        help=one.help or None,
    )


def _number(one: Field, path: str) -> None:
    whole = one.kind == "int"
    kind = int if whole else float
    least = kind(one.least) if one.least is not None else None
    most = kind(one.most) if one.most is not None else None
    value = typed.value(path, one.default)
    inside = value is None or (
        isinstance(value, int | float)
        and (least if least is not None else -WIDEST) <= value
        and value <= (most if most is not None else WIDEST)
    )
    if not inside:
        _other(one, path)
        return
    st.number_input(
        one.label,
        min_value=least,
        max_value=most,
        value=None if one.optional else "min",
        step=1 if whole else _step(one.default),
        format=None if whole else "%g",
        key=typed.widget(path, one.default, lambda v: v if v is None else kind(v)),
        on_change=partial(_keep_number, one),
        args=(path,),
        placeholder=say("none") if one.optional else None,
        help=_help(one),
    )


def _keep_number(one: Field, path: str) -> None:
    """An empty number means none, or the default where it cannot be none."""
    typed.keep(path, lambda shown: one.default if shown is None and not one.optional else shown)


def _step(value: Any) -> float:
    """One in the first digit of a number."""
    if not isinstance(value, int | float) or not value or not math.isfinite(value):
        return 0.1
    return float(10 ** math.floor(math.log10(abs(value))))


def _text(one: Field, path: str) -> None:
    key = typed.widget(path, one.default, lambda value: "" if value is None else str(value))
    st.text_input(
        one.label,
        key=key,
        on_change=typed.keep,
        args=(path, _none_if_empty if one.optional else str),
        placeholder=say("none") if one.optional else None,
        help=_help(one),
    )


def _none_if_empty(shown: str) -> str | None:
    return shown or None


def _other(one: Field, path: str) -> None:
    """A list, or what may be of several types: as text, which is JSON where it can be read so."""
    listed = one.kind == "list"
    hints = [one.help, say("list_help") if listed else "", _empty(one)]
    st.text_input(
        one.label,
        key=typed.widget(path, one.default, as_text),
        on_change=typed.keep,
        args=(path, partial(from_text, listed=listed, optional=one.optional)),
        placeholder=say("none") if one.optional else None,
        help=" ".join(filter(None, hints)) or None,
    )


def as_text(value: Any) -> str:
    """A value of any type in one line, which `from_text` reads."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if is_list(value) and value and all(_plain(one) for one in value):
        return ", ".join(as_text(one) for one in value)
    return json.dumps(value, ensure_ascii=False)


def _mapping(one: Field, path: str) -> None:
    """Names that are not known before, with their values: in one line, as YAML has them."""
    st.text_input(
        one.label,
        key=typed.widget(path, one.default, mapping_as_text),
        on_change=typed.keep,
        args=(path, partial(mapping_from_text, optional=one.optional)),
        placeholder=say("none"),
        help=" ".join(filter(None, [one.help, say("mapping_help"), _empty(one)])),
    )


def mapping_as_text(value: Any) -> str:
    """A mapping in one line, which `mapping_from_text` reads."""
    if not is_tree(value) or not value:
        return "" if value is None or value == {} else as_text(value)
    text = ", ".join(f"{name}: {as_text(one)}" for name, one in value.items())
    return text if mapping_from_text(text) == value else json.dumps(value, ensure_ascii=False)


def mapping_from_text(text: str, *, optional: bool = False) -> Any:
    """The mapping that somebody wrote so; what is none stays text, which the server refuses."""
    text = text.strip()
    if not text:
        return None if optional else {}
    if text.startswith("{"):
        return from_text(text)
    found: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, value = part.partition(":" if ":" in part else "=")
        if not name.strip() or not value.strip():
            return text
        found[name.strip()] = from_text(value)
    return found


def _laid_over(one: Field, value: Any) -> Any:
    """What to send so that `value` holds: the server lays a mapping over the one that there is,
    from which null takes names away."""
    if one.kind != "mapping" or not is_tree(value) or not is_tree(one.default):
        return value
    return {**dict.fromkeys(one.default.keys() - value.keys()), **value}


def _plain(value: Any) -> bool:
    """Whether it can stand between commas: no list, and no text that would be something else."""
    return from_text(as_text(value)) == value and "," not in as_text(value)


def from_text(text: str, *, listed: bool = False, optional: bool = True) -> Any:
    """The value that somebody wrote so; a list where one is wanted and commas are between."""
    text = text.strip()
    if not text:
        return [] if listed and not optional else None
    if listed and not text.startswith("["):
        return [from_text(part) for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _empty(one: Field) -> str:
    return say("empty_help") if one.optional else ""


def _help(one: Field) -> str | None:
    return " ".join(filter(None, [one.help, _empty(one)])) or None


_WIDGETS = {
    "bool": _bool,
    "choice": _choice,
    "int": _number,
    "float": _number,
    "text": _text,
    "mapping": _mapping,
}
