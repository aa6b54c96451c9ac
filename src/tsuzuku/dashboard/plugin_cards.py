"""Which models and data sets there are, what they say of themselves, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from tsuzuku.core.answers import PluginInfo
from tsuzuku.dashboard import grids, leaves, schema_fields
from tsuzuku.dashboard.words import Both, speaker

say = speaker(
    {
        "builtin": Both("組み込み", "built in"),
        "own": Both("ワークスペース", "of this workspace"),
        "broken": Both("⚠️ 読み込めません", "⚠️ cannot be read"),
        "no_description": Both("説明はありません。", "It does not describe itself."),
        "settings": Both("設定", "Settings"),
        "no_settings": Both("設定できる項目はありません。", "It has no settings."),
        "setting": Both("設定", "Setting"),
        "type": Both("型", "Type"),
        "value": Both("値", "Value"),
        "meaning": Both("意味", "Meaning"),
        "bool": Both("はい／いいえ", "yes or no"),
        "int": Both("整数", "whole number"),
        "float": Both("数値", "number"),
        "text": Both("文字列", "text"),
        "choice": Both("選択", "choice"),
        "list": Both("リスト", "list"),
        "section": Both("まとまり", "section"),
        "other": Both("その他", "other"),
        "abilities": Both("できること", "It can"),
        "validate": Both("検証", "validate"),
        "inference": Both("推論", "infer"),
        "export_inputs": Both("ONNX などへのエクスポート", "be exported as ONNX and so on"),
        "lengths": Both("長さでそろえたバッチ", "batch by length"),
        "splits": Both("分割", "Splits"),
    }
)
ABILITIES = ("validate", "inference", "export_inputs", "lengths")


def section(plugins: Mapping[str, PluginInfo]) -> None:
    """One card a plug-in; what cannot be read comes first, open."""
    for one in sorted(plugins.values(), key=lambda plugin: (not plugin.error, plugin.name)):
        where = say("builtin" if one.builtin else "own")
        label = f"**{one.name}** · {where}" + (f" · {say('broken')}" if one.error else "")
        with st.expander(label, expanded=bool(one.error)):
            _card(one)


def _card(plugin: PluginInfo) -> None:
    if plugin.error:
        st.error(plugin.error, icon="⚠️")
        return
    st.markdown(plugin.description or say("no_description"))
    can = [say(key) for key in ABILITIES if plugin.has.get(key)]
    if can:
        st.markdown(f"{say('abilities')}: {', '.join(can)}")
    if plugin.splits:
        st.markdown(f"{say('splits')}: {', '.join(plugin.splits)}")
    found = list(
        schema_fields.flat(schema_fields.fields(plugin.json_schema or {}, plugin.settings))
    )
    if not found:
        st.markdown(say("no_settings"))
        return
    rows = [
        (f"`{one.path}`", _kind(one), leaves.shown(one.default), one.help.replace("\n", " "))
        for one in found
    ]
    grids.listed([say(key) for key in ("setting", "type", "value", "meaning")], rows)


def _kind(field: schema_fields.Field) -> str:
    if field.choices:
        return " / ".join(f"`{choice}`" for choice in field.choices)
    return say(field.kind)
