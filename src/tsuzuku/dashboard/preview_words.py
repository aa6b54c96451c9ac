"""What a resume preview says, in the visit's language.

The server names components and reasons in fixed English sentences (`core.preview`); a sentence
that is not known here is shown as it came.
"""

from __future__ import annotations

from tsuzuku.core.answers import Component
from tsuzuku.dashboard.reasons import translated
from tsuzuku.dashboard.words import Both, speaker

COMPONENTS = {
    "weights": Both("重み", "weights"),
    "optimizer": Both("オプティマイザ", "optimizer"),
    "scheduler": Both("スケジューラ", "scheduler"),
    "precision": Both("数値精度", "precision"),
    "accumulation": Both("勾配の累積", "accumulation"),
    "data order": Both("データの順序", "data order"),
    "randomness": Both("乱数", "randomness"),
    "source code": Both("ソースコード", "source code"),
    "libraries": Both("ライブラリ", "libraries"),
    "device": Both("デバイス", "device"),
}
WHY = {
    "Loaded from the checkpoint.": "チェックポイントから読み込みます。",
    "Loaded if every shape stays the same; otherwise the training is refused.": (
        "すべての形が同じなら読み込みます。違えば学習は始まりません。"
    ),
    "Another optimizer begins without moments.": "別のオプティマイザはモーメントなしで始まります。",
    "Moments are kept; the new settings take effect.": (
        "モーメントは引き継ぎ、新しい設定で続けます。"
    ),
    "Moments and steps are loaded from the checkpoint.": (
        "モーメントとステップ数をチェックポイントから読み込みます。"
    ),
    "It stands where the new settings have it by this step.": (
        "新しい設定での、このステップの位置から続けます。"
    ),
    "It goes on at the step of the checkpoint.": "チェックポイントのステップから続けます。",
    "Another precision rounds differently.": "精度が違うと丸めが変わります。",
    "Gradients are averaged over another number of batches.": (
        "勾配を平均するバッチの数が変わります。"
    ),
    "The samples come in another order; the epoch begins anew.": (
        "サンプルの順序が変わるため、エポックを最初からやり直します。"
    ),
    "It follows from the position.": "乱数は位置で決まるため、順序とともに変わります。",
    "It follows from seed, epoch and batch.": "シード、エポック、バッチから決まります。",
    "Changed since the run began: {files}.": "学習の開始後に変更されています: {files}",
    "The files are the same.": "ファイルは同じです。",
    "torch {version}.": "torch {version}",
    "Saved with torch {before}; this is {now}. The last bits may differ.": (
        "torch {before} で保存され、今は {now} です。末尾のビットが異なることがあります。"
    ),
    "{device} on this machine.": "このマシンの {device}",
    "Saved on an unknown device of {host}.": "{host} の不明なデバイスで保存されました。",
    "Saved on {device} of {host}.": "{host} の {device} で保存されました。",
}
SENTENCES = {english: Both(japanese, english) for english, japanese in WHY.items()}

say_component = speaker(COMPONENTS)


def part(component: Component) -> str:
    """The component's name."""
    return say_component(component.name) if component.name in COMPONENTS else component.name


def why(component: Component) -> str:
    return translated(SENTENCES, component.why)
