"""`runs --tree` as lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from tsuzuku.cli import main
from tsuzuku.cli.tree import lines
from tsuzuku.core.lineage_answers import Branch, Lineage, Relative


def relative(number: int, depth: int, branch: Branch | None = None, **other: str) -> Relative:
    named = {"model_name": "音声認識" * 6, "dataset_name": "日本語コーパス"} | other
    return Relative(
        run_id=f"2026-11-21_19-20-{number:02}", status="completed", created_at=1.0, epoch=3,
        total_epochs=5, global_step=12345, best_metric=0.25, depth=depth, branch=branch,
        attempts=[], checkpoints=[], **named,
    )  # fmt: skip


def branch(number: int, state: str = "there", step: int | None = 600) -> Branch:
    origin = f"2026-11-21_19-20-{number:02}"
    return Branch(run_id=origin, checkpoint="長い名前-epoch-2.pt", global_step=step, state=state)  # type: ignore[arg-type]


FAMILY = Lineage(
    runs=[
        relative(1, 0),
        relative(2, 1, branch(1)),
        relative(3, 2, branch(2, "checkpoint_deleted", None)),
        relative(4, 1, branch(1), dataset_name="m\nn"),
        relative(5, 0, branch(99, "run_deleted")),
    ],
    total=5,
)

DRAWN = """\
2026-11-21_19-20-01  completed  epoch 3/5  step 12,345  best 0.25
│  音声認識音声認識音声認識音声認識音声認識音声認識 on 日本語コーパス
├─ 2026-11-21_19-20-02  completed  epoch 3/5  step 12,345  best 0.25
│  │  from 長い名前-epoch-2.pt at step 600
│  └─ 2026-11-21_19-20-03  completed  epoch 3/5  step 12,345  best 0.25
│        from 長い名前-epoch-2.pt  (checkpoint deleted)
└─ 2026-11-21_19-20-04  completed  epoch 3/5  step 12,345  best 0.25
      音声認識音声認識音声認識音声認識音声認識音声認識 on m\N{REPLACEMENT CHARACTER}n
      from 長い名前-epoch-2.pt at step 600
2026-11-21_19-20-05  completed  epoch 3/5  step 12,345  best 0.25
   音声認識音声認識音声認識音声認識音声認識音声認識 on 日本語コーパス
   from 2026-11-21_19-20-99/長い名前-epoch-2.pt at step 600  (run deleted)
"""


def test_a_family_is_drawn() -> None:
    assert "".join(f"{line.plain}\n" for line in lines(FAMILY, 80)) == DRAWN


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in (30, 41, 80):
        assert max(cell_len(line.plain) for line in lines(FAMILY, width)) <= width


def test_a_status_is_not_for_families(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert main(["-w", str(tmp_path), "runs", "--tree", "--status", "failed"]) == 2
    assert "--status does not go with --tree." in capsys.readouterr().err
    assert main(["-w", str(tmp_path), "runs", "--tree"]) == 0
    assert "No runs yet." in capsys.readouterr().out
