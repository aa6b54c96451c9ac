"""What the server refuses, for people: its own sentence and hint, which are English and name what
they are about, and for those who read Japanese what that means and what to do."""

from __future__ import annotations

from tsuzuku.core.errors import TsuzukuError
from tsuzuku.dashboard.words import language

UNKNOWN = "サーバーがこの操作を断りました。"
JAPANESE = {
    "address_in_use": "そのアドレスとポートはすでに使われています。別のポートを指定してください。",
    "already_running": "すでに実行中です。終わるのを待つか、先に停止してください。",
    "already_serving": "別のサーバーがこのワークスペースを使っています。",
    "bad_archive": "ダウンロードしたファイルが壊れています。もう一度ダウンロードしてください。",
    "bad_output": "モデルの返した値を表示できません。モデルのファイルを確認してください。",
    "bad_plugin": "モデルかデータセットのファイルに誤りがあります。示された行を直してください。",
    "bad_request": "要求の形が正しくありません。",
    "bad_setting": "設定に誤りがあります。示された項目を直してください。",
    "busy": "いまは使用中です。少し待ってからもう一度お試しください。",
    "corrupt_checkpoint": "チェックポイントが壊れています。別のチェックポイントを選んでください。",
    "damaged_database": "データベースが壊れています。実行フォルダーから作り直されます。",
    "devices_taken": "デバイスはほかの学習が使っています。空くまで待つか、数を減らしてください。",
    "disk_full": "ディスクの空きがありません。空きを作ってください。",
    "download_failed": "ダウンロードできませんでした。次回は続きから再開します。",
    "empty_dataset": "データセットが空です。場所と中身を確認してください。",
    "error": "エラーが発生しました。",
    "export_differs": "エクスポートしたモデルの出力が元のモデルと異なるため、中止しました。",
    "failed": "処理が失敗しました。サーバーのログを確認してください。",
    "in_use": "使用中のため、いまは削除できません。",
    "inference_failed": "推論が失敗しました。入力とモデルのファイルを確認してください。",
    "inference_timeout": "推論に時間がかかりすぎたため、中止しました。短い入力でお試しください。",
    "missing_data": "データが見つかりません。📚 データ のページで確認してください。",
    "missing_package": "必要なパッケージがインストールされていません。",
    "newer_schema": "データベースは、より新しいバージョンのものです。",
    "non_finite": "数でない値（NaN、無限大）があります。学習率を下げてください。",
    "no_checkpoint": "チェックポイントがありません。先に学習を実行してください。",
    "no_database": "データベースがありません。",
    "no_inference": "このモデルは推論に対応していません（predict と inference が必要です）。",
    "no_sidecar": "チェックポイントの情報ファイル（.json）がありません。",
    "not_exportable": "このモデルはその形式でエクスポートできません。ファイルを確認してください。",
    "not_found": "見つかりません。削除されたか、名前が違う可能性があります。",
    "not_permitted": "ほかのユーザーのものなので、操作できません。",
    "not_running": "学習は実行されていません。",
    "not_tsuzuku": "Tsuzuku のチェックポイントではありません。",
    "nothing_to_train": "すべてのエポックが終わっています。エポック数を増やしてください。",
    "other_model": "別のモデルのチェックポイントです。モデルの設定を合わせてください。",
    "other_versions": "マシンごとにバージョンが違います。同じものをインストールしてください。",
    "out_of_memory": "メモリーが足りません。バッチサイズを小さくしてください。",
    "path_not_shared": "実行フォルダーを使えないマシンがあります。同じ場所で共有してください。",
    "pinned": "ピン留めされています。先にピンを外してください。",
    "rank_lost": "学習プロセスの 1 つが失われました。最後のチェックポイントから再開できます。",
    "ranks_failed": "学習プロセスが終了しました。各プロセスのログを確認してください。",
    "ray_missing": "Ray がありません。pip install 'tsuzuku[ray]' で入れてください。",
    "read_only": "書き込めません。フォルダーの権限を確認してください。",
    "stopping": "最後のチェックポイントを保存しています。少し待ってからお試しください。",
    "too_few_devices": "デバイスが足りません。プロセスの数を減らすか、マシンを増やしてください。",
    "training_failed": "学習が失敗しました。ログを確認してください。",
    "unknown_dataset": "そのデータセットはありません。",
    "unreachable_cluster": "Ray クラスターに接続できません。アドレスを確認してください。",
    "unreachable_driver": "学習を始めたマシンに接続できません。ネットワークを確認してください。",
    "unsafe_checkpoint": "コードを実行するおそれがあるファイルなので、開きません。",
    "unsafe_state": "安全に保存できない値がモデルの状態に含まれています。",
    "unsupported_format": "このチェックポイントは、その形式でエクスポートできません。",
    "write_failed": "書き込みに失敗しました。ディスクを確認してください。",
    "wrong_input": "入力に誤りがあります。",
    "wrong_model": "チェックポイントのモデルと異なります。",
}


def meanings() -> dict[str, str]:
    """By the code of an error, what it means: for those whom its own sentence does not tell."""
    return {} if language() == "en" else dict(JAPANESE)


def refusal(error: TsuzukuError) -> str:
    """Markdown of a refusal in the visit's language."""
    own = f"{error.detail}\n\n{error.hint}" if error.hint else error.detail
    if language() == "en":
        return own
    return f"{JAPANESE.get(error.code, UNKNOWN)}\n\n{own}"
