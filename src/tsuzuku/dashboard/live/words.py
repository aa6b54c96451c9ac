"""What the live part of the main page says."""

from __future__ import annotations

from tsuzuku.dashboard.words import Both

WORDS = {
    # numbers
    "numbers": Both("学習の状況", "Training at a glance"),
    "number_epoch": Both("Epoch", "Epoch"),
    "number_step": Both("Step", "Step"),
    "number_origin": Both("再開元", "Resumed from"),
    "number_speed": Both("速度", "Speed"),
    "number_eta": Both("残り時間", "Time left"),
    "number_loss": Both("ロス", "Loss"),
    "number_learning_rate": Both("学習率", "Learning rate"),
    "number_status": Both("状態", "Status"),
    "per_second": Both("{speed} サンプル/秒", "{speed} samples/s"),
    "days_hours": Both("{days}日 {hours}時間", "{days} d {hours} h"),
    "progress": Both("学習の進捗", "Progress of the training"),
    "status_idle": Both("待機中", "Idle"),
    "status_starting": Both("準備中", "Starting"),
    "status_running": Both("学習中", "Running"),
    "status_stopping": Both("停止処理中", "Stopping"),
    "status_stopped": Both("停止", "Stopped"),
    "status_completed": Both("完了", "Completed"),
    "status_failed": Both("失敗", "Failed"),
    "status_crashed": Both("異常終了", "Crashed"),
    "status_paused": Both("一時停止", "Paused"),
    # charts
    "charts": Both("グラフ", "Charts"),
    "chart_loss": Both("学習ロスグラフ", "Training loss"),
    "chart_learning_rate": Both("学習率グラフ", "Learning rate"),
    "chart_grad_norm": Both("勾配ノルム", "Gradient norm"),
    "chart_samples_per_second": Both("速度（サンプル/秒）", "Speed (samples/s)"),
    "metric_loss": Both("学習ロス", "Training loss"),
    "metric_train_loss": Both("学習ロス（エポック平均）", "Training loss (mean of an epoch)"),
    "metric_val_loss": Both("検証ロス", "Validation loss"),
    "metric_learning_rate": Both("学習率", "Learning rate"),
    "metric_grad_norm": Both("勾配ノルム", "Gradient norm"),
    "metric_samples_per_second": Both("サンプル/秒", "Samples/s"),
    "metric_of_training": Both("{name}（学習）", "{name} (training)"),
    "metric_of_validation": Both("{name}（検証）", "{name} (validation)"),
    "more_charts": Both("その他のグラフ", "More charts"),
    "smoothing": Both("平滑化", "Smoothing"),
    "log_scale": Both("対数目盛", "Log scale"),
    "resumed_at": Both("再開 {origin}", "Resumed from {origin}"),
    "branched_at": Both("分岐 {origin}", "Branched from {origin}"),
    "show_tails": Both("分岐元のその後も表示", "Show what was left behind"),
    "tails": Both("分岐元のその後", "Left behind"),
    "tail_of": Both("分岐元 {run} のその後", "left behind by {run}"),
    "no_values": Both("まだ値がありません。", "There are no values yet."),
    "chart_summary": Both(
        "{name}: 最新 {last}（ステップ {step}）、最小 {low}、最大 {high}。",
        "{name}: newest {last} (step {step}), lowest {low}, highest {high}.",
    ),
    "plotly_zoom": Both("拡大する範囲を選ぶ", "Zoom"),
    "plotly_pan": Both("移動", "Pan"),
    "plotly_zoom_in": Both("拡大", "Zoom in"),
    "plotly_zoom_out": Both("縮小", "Zoom out"),
    "plotly_reset": Both("全体を表示", "Show everything"),
    "plotly_download": Both("PNG画像で保存", "Save as PNG"),
    "plotly_back": Both("ダブルクリックで元に戻る", "Double-click to zoom back out"),
    # system
    "system": Both("システム", "System"),
    "cpu": Both("CPU", "CPU"),
    "memory": Both("メモリ", "Memory"),
    "disk_free": Both("ディスク空き", "Free disk"),
    "gpu": Both("GPU {name}", "GPU {name}"),
    "gpu_memory": Both("GPUメモリ {name}", "GPU memory {name}"),
    "worker_cpu": Both("学習プロセスのCPU {run}", "Training's CPU {run}"),
    "worker_memory": Both("学習プロセスのメモリ {run}", "Training's memory {run}"),
    # log
    "log": Both("ログ表示", "Log"),
    "level": Both("レベル", "Level"),
    "level_all": Both("すべて", "All"),
    "level_info": Both("INFO 以上", "INFO and above"),
    "level_warning": Both("WARNING 以上", "WARNING and above"),
    "level_error": Both("ERROR のみ", "ERROR only"),
    "search": Both("ログを検索", "Search the log"),
    "lines_shown": Both("{shown} / {lines} 行", "{shown} of {lines} lines"),
    "earlier": Both("以前のログを読み込む", "Load earlier lines"),
    "newest": Both("↓ 最新へ", "↓ To the newest"),
    "line_checkpoint": Both("チェックポイントを保存しました: {name}", "Checkpoint saved: {name}"),
    "line_best": Both(
        "チェックポイントを保存しました（最良）: {name}", "Checkpoint saved (best so far): {name}"
    ),
    "line_status": Both("状態: {status}", "Status: {status}"),
    "line_validation": Both(
        "検証（エポック {epoch}）: {values}", "Validation (epoch {epoch}): {values}"
    ),
    # trouble
    "away": Both(
        "サーバーに接続できません。学習はそのまま続いています。サーバーが戻ると、この表示も自動で戻ります。",
        "The server cannot be reached. Training goes on, and this page comes back when the server"
        " does.",
    ),
    "locked": Both("ログインの期限が切れました。", "Your login is not valid any more."),
    "log_in": Both("ログインし直す", "Log in again"),
    "trouble_crashed": Both("💥 学習が異常終了しました", "💥 The training has crashed"),
    "trouble_failed": Both("❌ 学習が失敗しました", "❌ The training has failed"),
    "trouble_paused": Both("⏸️ 学習を一時停止しています", "⏸️ The training is paused"),
    "crashed_hint": Both(
        "最後のチェックポイントから、同じ結果になるように再開できます。",
        "It can go on from its last checkpoint, and arrives at the same result.",
    ),
    "failed_hint": Both(
        "原因を取り除いてから、最後のチェックポイントから再開してください。",
        "Remove the cause, then let it go on from its last checkpoint.",
    ),
    "paused_hint": Both(
        "空き容量ができると自動で続きます（現在の空き: {free}）。",
        "It goes on by itself when there is room (free now: {free}).",
    ),
    "last_lines": Both("ログの最後の行", "Last lines of the log"),
    "resume": Both("🔄 学習再開", "🔄 Resume training"),
}
