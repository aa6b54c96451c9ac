"""What a resume preview says, in the visit's language.

The server names components and reasons in fixed English sentences (`core.preview`); a sentence
that is not known here is shown as it came.
"""

from __future__ import annotations

from tsuzuku.core.preview_answers import Component
from tsuzuku.dashboard.reasons import translated
from tsuzuku.dashboard.words import Both, speaker

COMPONENTS = {
    "weights": Both("重み", "weights"),
    "optimizer": Both("オプティマイザ", "optimizer"),
    "scheduler": Both("スケジューラ", "scheduler"),
    "scaler": Both("勾配スケーラ", "scaler"),
    "precision": Both("数値精度", "precision"),
    "accumulation": Both("勾配の累積", "accumulation"),
    "random state": Both("乱数の状態", "random state"),
    "data order": Both("データの順序", "data order"),
    "randomness": Both("サンプルの乱数", "randomness of samples"),
    "data set": Both("データセット", "data set"),
    "source code": Both("ソースコード", "source code"),
    "libraries": Both("ライブラリ", "libraries"),
    "device": Both("デバイス", "device"),
    "ranks": Both("プロセス数", "ranks"),
    "early stopping": Both("早期終了", "early stopping"),
    "epoch": Both("エポック", "epoch"),
    "other contents": Both("その他の内容", "other contents"),
}
WHY = {
    "Loaded from the checkpoint.": "チェックポイントから読み込みます。",
    "Loaded from the checkpoint; other ones are trained from there.": (
        "チェックポイントから読み込みます。学習する重みがここから変わります。"
    ),
    "Loaded if every shape stays the same; otherwise the training is refused.": (
        "すべての形が同じなら読み込みます。違えば学習は始まりません。"
    ),
    "Those that fit come along; the log names any that are made anew.": (
        "形の合う重みを引き継ぎます。新しく作る重みはログに表示されます。"
    ),
    "Fine-tuning begins without moments.": "微調整はモーメントなしで始まります。",
    "Another optimizer begins without moments.": "別のオプティマイザはモーメントなしで始まります。",
    "Moments are kept where the parameters are the same ones.": (
        "同じパラメーターのモーメントを引き継ぎます。"
    ),
    "Moments are kept; parameters that were frozen before begin without.": (
        "モーメントを引き継ぎます。これまで固定されていたパラメーターはモーメントなしで始まります。"
    ),
    "Moments are kept; the new settings take effect.": (
        "モーメントは引き継ぎ、新しい設定で続けます。"
    ),
    "Moments and steps are loaded from the checkpoint.": (
        "モーメントとステップ数をチェックポイントから読み込みます。"
    ),
    "It begins anew with the first step.": "最初のステップから始まります。",
    "{scheduler} is stretched from {before} to {after} epochs, so that the learning rate jumps;"
    " scheduler_options.schedule_epochs={keep} keeps it.": (
        "{scheduler} を {before} エポックから {after} エポックに引き伸ばすため、"
        "学習率が変わります。"
        "scheduler_options.schedule_epochs={keep} とすると元のままです。"
    ),
    "It stands where the new settings have it by this step.": (
        "新しい設定での、このステップの位置から続けます。"
    ),
    "plateau begins anew with a branch.": "plateau は分岐すると最初から始まります。",
    "It goes on at the step of the checkpoint.": "チェックポイントのステップから続けます。",
    "It goes on, ends after {held} epochs as before, and its last rate stays.": (
        "これまでどおり {held} エポックで終わり、その後は最後の学習率のままです。"
    ),
    "Not used at this precision.": "この精度では使いません。",
    "The scale of the gradients is found anew.": "勾配のスケールを決め直します。",
    "Another precision rounds differently.": "精度が違うと丸めが変わります。",
    "Other kernels round differently.": "別のカーネルでは丸めが変わります。",
    "As before: {precision}.": "これまでと同じ: {precision}",
    "Gradients are averaged over another number of batches.": (
        "勾配を平均するバッチの数が変わります。"
    ),
    "A batch is computed in other parts, which are added in another order.": (
        "バッチを別の分け方で計算し、別の順序で足し合わせます。"
    ),
    "A checkpoint lies between two steps; nothing is half done.": (
        "チェックポイントはステップの境目にあり、途中の勾配はありません。"
    ),
    "Another seed gives other random numbers.": "シードが違うと乱数も変わります。",
    "Seeded anew at every batch from seed, epoch and batch.": (
        "バッチごとに、シード、エポック、バッチから初期化されます。"
    ),
    "It begins with the first epoch.": "最初のエポックから始まります。",
    "The samples come in another order; the epoch begins anew.": (
        "サンプルの順序が変わるため、エポックを最初からやり直します。"
    ),
    "The epoch begins anew if no step of the new accumulation ends here.": (
        "新しい累積のステップの境目でなければ、エポックを最初からやり直します。"
    ),
    "It follows from the position.": "乱数は位置で決まるため、順序とともに変わります。",
    "It follows from seed, epoch and batch.": "シード、エポック、バッチから決まります。",
    "Another data set.": "別のデータセットです。",
    "Its file has changed, and may give other samples.": (
        "データセットのファイル（コード）が変わり、サンプルが違う可能性があります。"
    ),
    "Its settings have changed.": "データセットの設定が変わっています。",
    "Another part of it is trained on.": "学習に使う部分が変わります。",
    "It names no path; what it makes follows from its file and settings.": (
        "パスの指定はなく、内容はコードと設定で決まります。"
    ),
    "Its files lie where only the data set knows.": (
        "ファイルの場所はデータセットしか知りません。"
    ),
    "The checkpoint does not say which files it was trained on.": (
        "どのファイルで学習したか、チェックポイントに記録がありません。"
    ),
    "{files} with the same names, sizes and times.": "名前・サイズ・日時が同じです（{files}）。",
    "{files} with the same names, sizes and contents.": "名前・サイズ・内容が同じです（{files}）。",
    "The files have changed: {what}.": "ファイルが変わっています: {what}",
    "Changed since the run began: {files}.": "学習の開始後に変更されています: {files}",
    "The files are the same.": "ファイルは同じです。",
    "torch {version}.": "torch {version}",
    "Saved with {before}; this is {now}. The last bits may differ.": (
        "{before} で保存され、今は {now} です。末尾のビットが異なることがあります。"
    ),
    "{device} on this machine.": "このマシンの {device}",
    "Saved on {device} of {host}; the last bits may differ.": (
        "{host} の {device} で保存されました。末尾のビットが異なることがあります。"
    ),
    "One, as before.": "これまでと同じく 1 つです。",
    "{count}, as before.": "これまでと同じく {count} つです。",
    "{now} in the place of {before}: sums are made in another order, and dropout and augmentation"
    " draw other numbers; the order of the samples stays.": (
        "{before} つから {now} つに変わります。和をとる順序が変わり、"
        "ドロップアウトとデータ拡張の乱数も変わります。サンプルの順序は変わりません。"
    ),
    "With {now} in the place of {before}, sums are made in another order.": (
        "{before} から {now} に変わり、和をとる順序が変わります。"
    ),
    "Every rank draws its own numbers.": "プロセスごとに別の乱数を使います。",
    "A branch counts its bad validations from 0.": (
        "分岐すると、悪化した検証の回数を 0 から数えます。"
    ),
    "Its count of bad validations is loaded.": "悪化した検証の回数を引き継ぎます。",
}
FILES = {
    "{count} new ({names})": "新規 {count}（{names}）",
    "{count} gone ({names})": "なくなったもの {count}（{names}）",
    "{count} of another size ({names})": "サイズの違うもの {count}（{names}）",
    "{count} of other contents ({names})": "内容の違うもの {count}（{names}）",
    "{before} were there, {now} are": "{before} ファイルから {now} ファイルに",
}
"""What has changed of a data set's files."""
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
    said = component.why
    head, _, parts = said.removesuffix(".").partition(": ")
    if f"{head}: {{what}}." in SENTENCES:
        known = {english: Both(japanese, english) for english, japanese in FILES.items()}
        said = f"{head}: {'; '.join(translated(known, part) for part in parts.split('; '))}."
    return translated(SENTENCES, said)
