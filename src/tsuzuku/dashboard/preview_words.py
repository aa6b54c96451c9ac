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
    "epoch": Both("エポック", "epoch"),
    "other contents": Both("その他の内容", "other contents"),
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
FOREIGN = {
    "Loaded where names and shapes fit; the rest begins anew.": (
        "名前と形が合うものを読み込みます。残りは初期値から始めます。"
    ),
    "Loaded if all names and shapes fit; otherwise the training is refused.": (
        "すべての名前と形が合えば読み込みます。合わなければ学習は始まりません。"
    ),
    "All names and shapes are those of {name}.": "すべての名前と形が {name} と同じです。",
    "All names and shapes fit; the values are converted to the model's types.": (
        "すべての名前と形が合います。値はモデルの型に変換します。"
    ),
    "Missing: {missing}, unexpected: {extra}, of another shape: {other}; the rest fits.": (
        "足りない重み {missing} 個、余分な重み {extra} 個、形違い {other} 個。残りは合います。"
    ),
    "Refused: {missing} are missing, {extra} unexpected, {other} of another shape.": (
        "始められません。重みが {missing} 個足りず、{extra} 個余り、{other} 個は形が違います。"
    ),
    "The file has none that can be taken over.": "引き継げるものがファイルにありません。",
    "Moments and steps are loaded from the file; they fit the weights.": (
        "モーメントとステップ数をファイルから読み込みます。重みの形と合っています。"
    ),
    "Moments and steps are loaded if they fit the parameters, else lost.": (
        "パラメータに合えばモーメントとステップ数を読み込みます。合わなければ失われます。"
    ),
    "Set by training.initialize.epoch.": "training.initialize.epoch の値です。",
    "The file does not say; it begins at 0.": "ファイルに記録がないため、0 から始めます。",
    "The file was saved within an epoch, which begins anew.": (
        "エポックの途中で保存されたファイルなので、そのエポックを最初からやり直します。"
    ),
    "The file's number, taken for completed epochs.": (
        "ファイルの番号を、完了したエポックの数として使います。"
    ),
    "The settings have none.": "設定ではスケジューラを使いません。",
    "Neither the file nor the settings have one.": "ファイルにも設定にもありません。",
    "It stands where the settings have it after so many epochs.": (
        "設定での、そのエポック数の位置から始めます。"
    ),
    "It begins anew.": "最初から始めます。",
    "The file does not have it; it follows from the run's seed.": (
        "ファイルにないため、この学習のシードで決まります。"
    ),
    "Left out, since opening it would run code: {names}.": (
        "開くとコードが実行されるため、読み込みません: {names}"
    ),
}
"""Of files of other programs (`core.foreign_preview`)."""
SENTENCES = {english: Both(japanese, english) for english, japanese in (WHY | FOREIGN).items()}

say_component = speaker(COMPONENTS)


def part(component: Component) -> str:
    """The component's name."""
    return say_component(component.name) if component.name in COMPONENTS else component.name


def why(component: Component) -> str:
    return translated(SENTENCES, component.why)
