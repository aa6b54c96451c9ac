"""What a training says in its log, in Japanese and English."""

from __future__ import annotations

from typing import Any, Literal

Language = Literal["ja", "en"]

TEXTS: dict[str, tuple[str, str]] = {
    "preparing": ("学習準備中...", "Preparing the training..."),
    "settings_fine": (
        "設定とデータのパスを確認しました",
        "Settings and data path are fine",
    ),
    "importing": (
        "モデル {model} とデータセット {dataset} を読み込みます",
        "Loading model {model} and data set {dataset}",
    ),
    "data_ready": (
        "データ: 学習 {train:,} 件、検証 {validation:,} 件",
        "Data: {train:,} samples to train on, {validation:,} to validate on",
    ),
    "left_out": (
        "データセットの {count:,} 行は使えないため除きました: {rows}",
        "{count:,} rows of the data set cannot be used and are left out: {rows}",
    ),
    "model_ready": (
        "モデル: パラメータ {params:,} 個、デバイス {device}",
        "Model: {params:,} parameters on {device}",
    ),
    "no_checkpoint": (
        "チェックポイントはありません。最初から学習します",
        "There is no checkpoint; training from the beginning",
    ),
    "resumed": (
        "チェックポイント {name} から再開します（エポック {epoch}、ステップ {step}）",
        "Resuming from {name} (epoch {epoch}, step {step})",
    ),
    "branched": (
        "チェックポイント {name} から分岐します（エポック {epoch}、ステップ {step}）",
        "Branching from {name} (epoch {epoch}, step {step})",
    ),
    "lost": (
        "{name} から復元できないもの: {parts}",
        "Not restored from {name}: {parts}",
    ),
    "fine_tuning": (
        "{name} の重みから微調整を始めます（{count} テンソルを引き継ぎ、ほかは最初から）",
        "Fine-tuning from the weights of {name} ({count} tensors come along, the rest is new)",
    ),
    "adapted": (
        "新しいデータに合わせて組み替えた重み: {names}",
        "Rearranged for the new data: {names}",
    ),
    "anew": (
        "形が違うため新しく作った重み: {names}",
        "Made anew, since the shape is another one: {names}",
    ),
    "left": (
        "このモデルにはないため使わない重み: {names}",
        "Left out, since this model has none of that name: {names}",
    ),
    "frozen": (
        "学習しないパラメーター {count} 個: {names}",
        "{count} parameters are not trained: {names}",
    ),
    "begun_from": (
        "ファイル {name} から始めます（エポック {epoch}、ステップ {step}）",
        "Beginning from the file {name} (epoch {epoch}, step {step})",
    ),
    "import_partial": (
        "{name} に合わない重みがあります。初期値のまま: {left}。使わないもの: {unused}",
        "{name} fits in part. Begin anew: {left}. Not used: {unused}",
    ),
    "import_converted": (
        "{name} の重みをモデルの型に変換しました: {names}",
        "Weights of {name} were converted to the model's types: {names}",
    ),
    "data_changed": (
        "データセットがチェックポイントの保存後に変わっています。結果は同一になりません",
        "The data set has changed since the checkpoint; the result will not be the same",
    ),
    "version_changed": (
        "チェックポイントは {what} {old} で保存されました（現在は {new}）。"
        "結果がビット単位で一致しないことがあります",
        "The checkpoint was saved with {what} {old} and this is {new}; "
        "the result may differ in its last bits",
    ),
    "started": ("学習開始", "Training started"),
    "save_skipped": (
        "前の保存が終わっていないため、ステップ {step} の保存を見送りました",
        "The save at step {step} was skipped: the one before is still being written",
    ),
    "save_failed": (
        "保存に失敗しました。もう一度試します: {error}",
        "A save failed and is tried again: {error}",
    ),
    "set_aside": (
        "チェックポイント {name} は壊れているため {new} に移しました: {why}",
        "Checkpoint {name} is damaged and was moved to {new}: {why}",
    ),
    "found_damaged": (
        "チェックポイント {name} は壊れているため {new} に移しました: {why}。"
        "再開には {next} を使います",
        "Checkpoint {name} is damaged and was moved to {new}: {why}. A resume takes {next}",
    ),
    "swept": (
        "中断された保存の残りを片付けました: {names}",
        "Swept what an interrupted save had left: {names}",
    ),
    "pruned": (
        "古いチェックポイントを削除しました: {names}",
        "Old checkpoints deleted: {names}",
    ),
    "gathered": (
        "チェックポイント {name} を 1 つのファイルにまとめました",
        "Gathered the checkpoint {name} into one file",
    ),
    "not_gathered": (
        "チェックポイント {name} を 1 つのファイルにまとめられませんでした: {why}",
        "The checkpoint {name} could not be gathered into one file: {why}",
    ),
    "compressed": (
        "古いチェックポイント {name} を圧縮しました（{mb:.1f} MB 減）",
        "Compressed the older checkpoint {name} ({mb:.1f} MB less)",
    ),
    "not_compressed": (
        "チェックポイント {name} を圧縮できませんでした: {why}",
        "The checkpoint {name} could not be compressed: {why}",
    ),
    "no_monitor": (
        "checkpoint.monitor の {monitor} は計測されていません（計測値: {known}）。"
        "最良モデルは選ばれません",
        "checkpoint.monitor {monitor} is not measured (there are: {known}); "
        "no best checkpoint will be chosen",
    ),
    "stopping": ("学習を停止しています...", "Stopping the training..."),
    "stopped": ("学習を停止しました", "Training stopped"),
    "early": (
        "改善が {patience} 回続けて見られないため、学習を終えます",
        "Ending early: no improvement in {patience} validations in a row",
    ),
    "completed": ("学習が完了しました", "Training completed"),
    "crashed": (
        "ワーカーが保存せずに終了しました{cause}",
        "The worker ended without saving{cause}",
    ),
    "killed": (
        "停止を待つ時間を超えたため、ワーカーを終了させました。最後のチェックポイントは残っています",
        "The worker took too long to stop and was ended; its last checkpoint is kept",
    ),
    "insisting": (
        "{seconds} 秒待っても停止しないため、もう一度停止を求めます",
        "It has not stopped within {seconds} seconds and is asked again",
    ),
    "placing": (
        "Ray でランクを起動します（{places}）。数十秒かかることがあります",
        "Ray starts the ranks ({places}), which may take half a minute",
    ),
    "fewer_ranks": (
        "{asked} ランクを求められていますが、場所があるのは {ranks} ランク分です。"
        "{ranks} ランクで学習を続けます",
        "{asked} ranks are asked for and there is room for {ranks}; going on with {ranks}",
    ),
    "restarting": (
        "{seconds} 秒後に自動で再開します（{count}/{bound} 回目）",
        "It is restarted in {seconds} seconds (restart {count} of {bound})",
    ),
    "restart_given_up": (
        "新しいチェックポイントのないまま {count} 回続けて終了したため、自動の再開をやめます",
        "It ended {count} times in a row without a new checkpoint and is not restarted any more",
    ),
    "restart_called_off": (
        "自動の再開を取りやめました",
        "The restart was called off",
    ),
    "weights": ("最終的な重みを {name} に保存しました", "Final weights saved as {name}"),
    "file_downloading": (
        "{name}: {file} をダウンロードしています（{percent} %）",
        "{name}: downloading {file} ({percent} %)",
    ),
    "file_unpacking": ("{name}: {file} を展開しています", "{name}: unpacking {file}"),
    "file_complete": ("{name}: {file} の取得が完了しました", "{name}: {file} is complete"),
    "file_there": ("{name}: {file} は取得済みです", "{name}: {file} is already there"),
    "mirror_failed": (
        "{name}: {file} を取得できないサーバーがありました: {answer}",
        "{name}: a server did not deliver {file}: {answer}",
    ),
    "download_complete": (
        "データセット {name} を {path} に取得しました",
        "Data set {name} is in {path}",
    ),
    "data_making": (
        "{name} を作成しています（{made}/{total}）",
        "Making {name} ({made} of {total})",
    ),
    "data_made": ("データセット {name} を {path} に作成しました", "Data set {name} is in {path}"),
    "download_stopped": (
        "{name} のダウンロードを停止しました。次回は続きから再開します",
        "The download of {name} was stopped; the next one goes on from there",
    ),
}


def text(key: str, language: Language, values: dict[str, Any]) -> str:
    """The message of that key with its values filled in; an unknown key is a message itself."""
    if key not in TEXTS:
        return key.format(**values) if values else key
    return TEXTS[key][0 if language == "ja" else 1].format(**values)
