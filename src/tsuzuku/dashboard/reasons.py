"""Why checkpoints are kept, and why they cannot be deleted, in the visit's language.

The server says it in fixed English words (`core.retention`, `GET /api/checkpoints/…`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tsuzuku.dashboard.words import Both, speaker

_KEPT = {
    "latest": Both("最新", "latest"),
    "best": Both("最良", "best"),
    "all": Both("すべて残す", "all are kept"),
    "last": Both("直近 {number}", "last {number}"),
    "milestone": Both("節目 {number}", "milestone {number}"),
    "pinned": Both("ピン留め", "pinned"),
    "in use": Both("分岐元", "branched from"),
}
IN_USE = {
    "the training that runs would go on from it": Both(
        "実行中の学習がここから続くため", "the training that runs would go on from it"
    ),
    "the training that begins goes on from it": Both(
        "始まろうとしている学習がここから続くため", "the training that begins goes on from it"
    ),
    "run {run} branched from it and has no checkpoint of its own yet": Both(
        "ここから分岐した学習 {run} に、まだチェックポイントがないため",
        "run {run} branched from it and has no checkpoint of its own yet",
    ),
    "the model that is being tried has it loaded": Both(
        "推論テストで読み込まれているため", "the model that is being tried has it loaded"
    ),
}
say_kept = speaker(_KEPT)


def kept(reason: str) -> str:
    """A reason of the retention, `last 3` say."""
    word, _, number = reason.rpartition(" ") if reason[-1:].isdigit() else (reason, "", "")
    return say_kept(word, number=number) if word in _KEPT else reason


def in_use(sentence: str) -> str:
    """What a checkpoint's `in_use` says."""
    return translated(IN_USE, sentence)


def translated(known: Mapping[str, Both], sentence: str) -> str:
    """A sentence of the server by the template that it was made from; itself if there is none."""
    for template, both in known.items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(template))
        if match := re.fullmatch(pattern, sentence):
            return speaker({"it": both})("it", **match.groupdict())
    return sentence
