"""What settings are called in Japanese, and what they are for.

In English a setting has its own name and the help that its schema gives. Settings of plug-ins
that are not built in are shown so in both languages.
"""

from __future__ import annotations

from collections.abc import Mapping

from tsuzuku.dashboard.words import language

Words = Mapping[str, tuple[str, str]]
"""A setting's name and help by its path below the section or plug-in."""

TRAINING: Words = {
    "seed": ("乱数シード", "乱数はすべてこの数から決まります。"),
    "num_epochs": ("エポック数", "再開した分も含めた合計のエポック数。"),
    "batch_size": ("バッチサイズ", "1 バッチのサンプル数（全デバイスの合計）。"),
    "optimizer": ("最適化手法", "重みの更新方法。"),
    "learning_rate": ("学習率", "最大の学習率。スケジューラーが、ここから変化させます。"),
    "weight_decay": ("重み減衰", "重みを小さく保つ強さ。"),
    "betas": ("モーメントの減衰率", "AdamW と Adam: 2 つのモーメントの減衰率。"),
    "eps": ("分母に足す値", "AdamW と Adam: ゼロ除算を防ぐ小さな値。"),
    "momentum": ("モーメンタム", "SGD だけで使用します。"),
    "scheduler": (
        "学習率スケジューラー",
        "学習率の変化のさせ方。plateau は検証のたびに、ほかは 1 ステップごとに変化します。",
    ),
    "scheduler_options": ("スケジューラーの設定", ""),
    "scheduler_options.min_lr": ("学習率の下限", "cosine, plateau: これより小さくしません。"),
    "scheduler_options.step_epochs": (
        "下げる間隔",
        "step: このエポック数ごとに gamma を掛けます。",
    ),
    "scheduler_options.gamma": ("下げる倍率", "step, plateau: 学習率に掛ける値。"),
    "scheduler_options.patience": (
        "下げるまでの検証回数",
        "plateau: この回数、検証の値が良くならなければ学習率を下げます。",
    ),
    "scheduler_options.pct_start": (
        "上げる期間の割合",
        "onecycle: 全ステップのうち学習率を上げていく割合。",
    ),
    "scheduler_options.schedule_epochs": (
        "スケジュールの長さ（エポック）",
        "cosine, onecycle: この期間で学習率を変え、その後は最後の値のままにします。"
        "「なし」では総エポック数（学習を延ばすと引き伸ばします）。",
    ),
    "warmup_steps": (
        "ウォームアップのステップ数",
        "学習率を 0 から上げていくステップ数（WarmupLR, cosine, step, none）。",
    ),
    "grad_clip_thresh": ("勾配クリッピング", "全勾配のノルムの上限。「なし」で無効。"),
    "device_batch_size": (
        "デバイスで一度に計算するサンプル数",
        "デバイスの担当分を何回かに分けて計算し、勾配を足し合わせます。「なし」なら一度に計算。",
    ),
    "accumulate_grad_batches": (
        "勾配累積",
        "1 回の更新のために勾配を平均するバッチの数。",
    ),
    "precision": ("計算精度", "32 ビット、bf16 または fp16 の混合精度。"),
    "device": ("デバイス", "auto は CUDA、MPS、CPU の順に使えるものを選びます。"),
    "num_workers": (
        "読み込みプロセス数",
        "バッチを読み込むプロセスの数。学習の結果は変わりません。",
    ),
    "log_interval": ("進捗の間隔", "このステップ数ごとに進捗を報告します。"),
    "validation_split": (
        "検証用の割合",
        "検証用の分割がないデータから取り分ける割合。0 で検証なし。",
    ),
    "limit_samples": ("サンプル数の上限", "この数のサンプルだけで学習します。"),
    "auto_resume": (
        "自動再開",
        "同じモデルとデータセットの最新チェックポイントから続けます。",
    ),
    "early_stopping": ("早期終了", "検証の値が良くならなくなったら終了します。"),
    "early_stopping.patience": (
        "待つ検証回数",
        "監視する値がこの回数続けて良くならなければ終了します。",
    ),
    "early_stopping.min_delta": ("最小の改善幅", "これより大きな改善だけを改善とみなします。"),
    "freeze": (
        "固定するパラメーター",
        "学習しないパラメーターの名前。* が使えます（例: encoder.*）。",
    ),
    "deterministic": ("決定的な計算", "torch にあるかぎり、決定的なカーネルを使用します。"),
    "compile": ("コンパイル", "モデルを torch.compile で実行します。"),
    "restart": ("自動再起動", "異常終了した学習をサーバーが再開するかどうか。"),
    "restart.policy": (
        "再起動の条件",
        "on_failure: 異常終了したら、サーバーが最後のチェックポイントから再開します。",
    ),
    "restart.max_attempts": (
        "再起動の上限",
        "新しいチェックポイントができないまま続けて再起動する回数の上限。",
    ),
    "restart.delay": (
        "再起動までの秒数",
        "最初の再起動までの秒数。チェックポイントができないたびに 2 倍になります。",
    ),
    "initialize": ("ほかのプログラムのファイルから", ""),
    "initialize.partial": (
        "合う重みだけ使う",
        "名前や形の合わない重みがあっても始めます。合わないものは初期値のままです。",
    ),
    "initialize.epoch": (
        "完了したエポック",
        "ファイルの記録に代えて、完了したエポックの数を指定します。空欄はファイルのとおりです。",
    ),
    "distributed": ("分散学習", "何個のデバイスで、どの仕組みを使って学習するか。"),
    "distributed.launcher": (
        "起動方法",
        "local: 1 つのプロセス。torchrun: このマシンのデバイスごとに 1 プロセス。"
        "ray: Ray クラスターの各マシン。",
    ),
    "distributed.devices": (
        "マシンごとのプロセス数",
        "1 台のマシンで動かすプロセスの数。それぞれ 1 つのデバイスを使います。",
    ),
    "distributed.nodes": ("マシンの台数", "ray: 使うマシンの数。"),
    "distributed.address": (
        "クラスターのアドレス",
        "ray: host:port または auto。「なし」なら学習の間だけのクラスターを作ります。",
    ),
    "distributed.resources": (
        "プロセスごとの資源",
        "ray: 各プロセスが求める資源（例: GPU: 1, CPU: 8）。"
        "空欄なら GPU 1 つ、CPU で学習するときは CPU 1 つ。",
    ),
    "distributed.strategy": (
        "分散方式",
        "ddp: 各プロセスがモデル全体を持ちます。"
        "fsdp: 分けて持ちます（1 デバイスに入らないモデル）。",
    ),
    "distributed.sharded_save": (
        "分割して保存",
        "fsdp: 学習を続けながら、各プロセスが自分の分を書きます。完了した実行の最新と最良は"
        "それぞれ 1 つのファイルです。オフにすると、保存のたびに最初のプロセスに集めます。",
    ),
    "distributed.sync_batchnorm": (
        "BatchNorm の同期",
        "統計量をプロセスごとではなくバッチ全体から計算します。",
    ),
    "save": ("最終モデル", ""),
    "save.compact": ("半精度で保存", "最終モデル model.safetensors を半精度で書き出します。"),
    "checkpoint": ("チェックポイント", ""),
    "checkpoint.filename": ("ファイル名", "エポックの終わりのチェックポイントの名前。"),
    "checkpoint.filename_step": (
        "途中のファイル名",
        "エポックの途中（停止、時間、ステップ間隔）のチェックポイントの名前。",
    ),
    "checkpoint.latest": ("最新のリンク名", "最新のチェックポイントへのリンクの名前。"),
    "checkpoint.best": (
        "最良のファイル名",
        "最良のチェックポイントの名前。元のファイルが消えても残ります。",
    ),
    "checkpoint.save_freq": ("保存間隔（エポック）", "このエポックごとに保存します。"),
    "checkpoint.every_steps": ("保存間隔（ステップ）", "このステップごとにも保存します。"),
    "checkpoint.every_minutes": ("保存間隔（分）", "この分数ごとにも保存します。"),
    "checkpoint.keep_last_n": ("残す最新の数", "新しい順にこの数を残します。「なし」で全部。"),
    "checkpoint.keep_best_n": ("残す最良の数", "監視する値が良い順にこの数を残します。"),
    "checkpoint.milestones": ("節目のエポック", "必ず保存し、必ず残すエポック。"),
    "checkpoint.save_best_only": (
        "改善時だけ保存",
        "エポックの終わりには、監視する値が良くなったときだけ保存します。",
    ),
    "checkpoint.monitor": ("監視する値", "最良のチェックポイントを決める値。"),
    "checkpoint.mode": (
        "良い方向",
        "監視する値が小さい方（min）と大きい方（max）のどちらが良いか。",
    ),
    "checkpoint.compress_after_n": (
        "圧縮せずに残す数",
        "新しい順にこの数を除いて圧縮します。「なし」で圧縮しません。",
    ),
}
PLUGINS: Mapping[str, Words] = {
    "conformer": {
        "size": ("大きさ", "80 文字の場合、200 万、800 万、2,500 万、1 億 400 万パラメータ。"),
        "width": ("幅", "エンコーダーの幅。「なし」なら大きさに従います。"),
        "layers": ("層の数", "エンコーダーのブロック数。「なし」なら大きさに従います。"),
        "heads": ("ヘッド数", "アテンションのヘッド数。「なし」なら大きさに従います。"),
        "kernel": (
            "カーネル",
            "畳み込みが見るフレーム（40 ms）の数（奇数）。「なし」なら大きさに従います。",
        ),
        "expansion": (
            "フィードフォワードの倍率",
            "エンコーダーの幅の何倍か。「なし」なら大きさに従います。",
        ),
        "dropout": ("ドロップアウト", "学習中に捨てる割合（1/256 刻み）。"),
        "intermediate": ("中間 CTC の重み", "中間の層に加える CTC 損失の重み。0 で無効。"),
        "frequency_masks": ("周波数マスクの数", "学習中に隠すメル帯域の帯の数（SpecAugment）。"),
        "frequency_mask_width": ("周波数マスクの幅", "1 つのマスクが隠すメル帯域（80）の最大数。"),
        "time_masks": ("時間マスクの数", "学習中に隠す時間の区間の数。"),
        "time_mask_share": ("時間マスクの割合", "1 つのマスクが隠す音声の最大の割合。"),
        "vocabulary": (
            "語彙",
            '出力が表す文字（先頭は空白記号 ""）。「なし」ならデータセットに従います。',
        ),
        "beam": ("ビーム幅", "復号で残す候補の数。1 なら各時点で最も確からしい記号をとります。"),
        "word_list": (
            "単語リスト",
            "使える単語の一覧、または 1 行に 1 語のファイル。候補は 16 以上になります。",
        ),
    },
    "vae": {
        "hidden_sizes": ("隠れ層の幅", "エンコーダーの隠れ層の幅。デコーダーは逆順です。"),
        "latent_dim": ("潜在変数の数", "潜在空間の次元。"),
        "output_std": (
            "出力の標準偏差",
            "普通とみなす誤差（画素値 0..1）。小さいほど復元が鮮明に、"
            "大きいほど潜在空間が滑らかになります。",
        ),
    },
    "koemorph": {
        "width": ("幅", "各フレームで聞き取る内容の次元。"),
        "layers": (
            "層の数",
            "残差畳み込みの数。1 つごとに 2 倍の範囲（最大 16 フレーム刻み）を見ます。",
        ),
        "kernel": ("カーネル", "1 つの畳み込みがまとめるフレームの数（奇数）。"),
        "heads": ("ヘッド数", "ブレンドシェイプごとのクエリの数。"),
        "reach": ("クエリの範囲", "クエリが左右に見るフレームの数。"),
        "causal": ("先読みなし", "後の音を聞かずに動きます。話しながら使う場合に。"),
        "dropout": ("ドロップアウト", "学習中に捨てる割合。"),
        "gain_db": ("音量の変化", "学習中に音を大きく、または小さくする最大の幅（デシベル）。"),
        "l1": ("絶対誤差の重み", "二乗誤差に加える絶対誤差の重み。"),
        "temporal": (
            "時間差の重み",
            "フレーム間の差の二乗誤差の重み。大きいほど滑らかになります。",
        ),
        "fps": ("フレームレート", "毎秒のフレーム数。「なし」ならデータセットに従います。"),
        "blendshapes": (
            "ブレンドシェイプ",
            "曲線の名前。「なし」ならデータセット（ARKit の 52 個）に従います。",
        ),
    },
    "arkit": {
        "path": (
            "フォルダー",
            "音声と顔（.jsonl または Live Link Face の .csv）の組があるフォルダー。"
            "「なし」なら自動で探します。",
        ),
        "fps": ("フレームレート", "学習する毎秒のフレーム数。どのレートの顔もこれに変換します。"),
        "crop_seconds": (
            "最長の秒数",
            "1 サンプルの最長の秒数。長い録音からは、読むたびに一部分を選びます。",
        ),
        "validation_share": (
            "検証の割合",
            "検証用のフォルダーがない場合に、検証に使うファイルの割合。",
        ),
        "seed": ("分割のシード", "検証用のフォルダーがない場合に、検証データを選ぶ乱数のシード。"),
        "on_error": ("不正な行", "使えない行やファイルを除く（skip）か、学習をやめる（stop）か。"),
        "min_seconds": ("最短の秒数", "これより短い録音は使いません。"),
        "max_difference": (
            "長さの差の上限",
            "音声と顔の長さの差がこの秒数を超えるものは使いません。",
        ),
    },
    "ljspeech": {
        "path": (
            "フォルダー",
            "metadata.csv と wavs/ のあるフォルダー。「なし」なら自動で探します。",
        ),
        "language": (
            "言語",
            "テキストの整え方。en は数・金額・略語を読みに直し、ja はかな・漢字・英数字を残し、"
            "other は文字と数字をすべて残します。「なし」ならテキストから判断します。",
        ),
        "tokenizer": ("トークナイザー", "文字（char）または部分語（subword）。"),
        "vocabulary_size": ("語彙の数", "部分語の数（空白記号を含む）。文字ではあるだけ使います。"),
        "alphabet": (
            "文字の一覧",
            "使う文字。「なし」なら学習データの文字。別のコーパスの重みから続けるときは、その文字を指定します。",
        ),
        "validation_share": ("検証の割合", "検証に使う割合。"),
        "validation_list": (
            "検証のリスト",
            "検証に使う ID を 1 行に 1 つ書いたファイル。「なし」なら乱数で選びます。",
        ),
        "seed": ("分割のシード", "検証データを選ぶ乱数のシード。"),
        "on_error": ("不正な行", "使えない行を除く（skip）か、学習をやめる（stop）か。"),
        "min_seconds": ("最短の秒数", "これより短い音声は使いません。"),
        "max_seconds": ("最長の秒数", "これより長い音声は使いません。"),
        "max_characters_per_second": (
            "毎秒の最大文字数",
            "これより多い行は、音声とテキストが合っていないとみなします。",
        ),
        "speed_perturbation": (
            "話速の変化",
            "0.9, 1, 1.1 のような速さ。学習データを読むたびに 1 つを選びます。",
        ),
        "cache": ("キャッシュ", "変換した音声を置くフォルダー。「なし」なら使いません。"),
        "cache_gb": ("キャッシュの上限 (GB)", "LJSpeech には 2.8 GB 必要です。"),
    },
    "mnist": {
        "path": ("フォルダー", "4 つの IDX ファイルのフォルダー。「なし」なら自動で探します。"),
    },
}


def label(path: str, words: Words) -> str:
    """What the setting is called: its own name, and in Japanese what that means before it."""
    name = path.rpartition(".")[2]
    if language() == "ja" and path in words:
        return f"{words[path][0]} `{name}`"
    return name


def explained(path: str, words: Words, english: str) -> str:
    """What it is for; `english` is what its schema says."""
    if language() == "ja" and path in words:
        return words[path][1]
    return english
