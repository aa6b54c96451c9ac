"""The statuses of runs in words and colour."""

from __future__ import annotations

from tsuzuku.dashboard.words import Both, speaker

STATUSES = {
    "starting": Both("🟢 準備中", "🟢 starting"),
    "running": Both("🟢 学習中", "🟢 running"),
    "stopping": Both("🟡 停止処理中", "🟡 stopping"),
    "paused": Both("🟡 一時停止", "🟡 paused"),
    "stopped": Both("⚪ 停止", "⚪ stopped"),
    "completed": Both("🔵 完了", "🔵 completed"),
    "failed": Both("🔴 失敗", "🔴 failed"),
    "crashed": Both("🔴 異常終了", "🔴 crashed"),
}
status = speaker(STATUSES)
