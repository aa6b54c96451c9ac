"""The index of checkpoints: what their sidecars say, who pinned them, when they were verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tsuzuku.core import listing
from tsuzuku.core.rows import insert
from tsuzuku.core.schemas import Checkpoint
from tsuzuku.core.tables import Tables, cell, models


class CheckpointIndex(Tables):
    """The checkpoints of all runs, as rows."""

    def put_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.put_checkpoints([checkpoint])

    def put_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Insert or update rows. A pin stays, as does a verification of the same bytes: whoever
        saves and prunes does not know of them. `mark_checkpoint` changes them."""
        if not checkpoints:
            return
        own = {"run_id", "name", "pinned", "verified"}
        names = list(Checkpoint.model_fields)
        changes = [f"{name} = excluded.{name}" for name in names if name not in own]
        changes.append("pinned = max(pinned, excluded.pinned)")
        changes.append("verified = max(verified * (sha256 = excluded.sha256), excluded.verified)")
        rows = [c.model_dump() for c in checkpoints]
        with self.writing() as db:
            insert(
                db,
                f"checkpoints ({', '.join(names)})",
                [tuple(cell(row[name]) for name in names) for row in rows],
                f"ON CONFLICT (run_id, name) DO UPDATE SET {', '.join(changes)}",
            )

    def resize_checkpoint(self, run_id: str, name: str, size: int, sha256: str) -> None:
        """The same checkpoint in other bytes, which were compared with the old ones."""
        with self.writing() as db:
            db.execute(
                "UPDATE checkpoints SET size = ?, sha256 = ? WHERE run_id = ? AND name = ?",
                (size, sha256, run_id, name),
            )

    def mark_checkpoint(
        self, run_id: str, name: str, *, pinned: bool | None = None, verified: bool | None = None
    ) -> None:
        """Set what a person, not the policies, says of a checkpoint."""
        with self.writing() as db:
            if verified is not None:
                db.execute(
                    "UPDATE checkpoints SET verified = ? WHERE run_id = ? AND name = ?",
                    (verified, run_id, name),
                )
            if pinned is not None:
                reasons = (
                    "(SELECT json_group_array(value) FROM json_each(kept_because)"
                    " WHERE value != 'pinned')"
                )
                if pinned:
                    reasons = f"json_insert({reasons}, '$[#]', 'pinned')"
                db.execute(
                    f"UPDATE checkpoints SET pinned = ?, kept_because = {reasons}"
                    " WHERE run_id = ? AND name = ?",
                    (pinned, run_id, name),
                )

    def note_check(self, run_id: str, name: str, sha256: str, when: float) -> None:
        """A checkpoint's bytes were found to be what they should be."""
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?)", (run_id, name, sha256, when)
            )
            db.execute(
                "UPDATE checkpoints SET verified = 1 WHERE run_id = ? AND name = ? AND sha256 = ?",
                (run_id, name, sha256),
            )

    def checked_at(self, run_id: str, name: str) -> float | None:
        """When a checkpoint was found to be whole, in seconds since the epoch."""
        with self.reading() as db:
            row = db.execute(
                "SELECT time FROM checks WHERE run_id = ? AND name = ?", (run_id, name)
            ).fetchone()
        return float(row[0]) if row else None

    def next_to_check(self, before: float) -> tuple[str, str] | None:
        """Run and name of the newest checkpoint that was not looked at since `before`."""
        with self.reading() as db:
            row = db.execute(
                "SELECT c.run_id, c.name FROM checkpoints c LEFT JOIN checks k"
                " ON k.run_id = c.run_id AND k.name = c.name AND k.sha256 = c.sha256"
                " WHERE coalesce(k.time, 0) < ? ORDER BY c.created_at DESC, c.name DESC LIMIT 1",
                (before,),
            ).fetchone()
        return (str(row[0]), str(row[1])) if row else None

    def drop_checkpoint(self, run_id: str, name: str) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM checks WHERE run_id = ? AND name = ?", (run_id, name))
            db.execute("DELETE FROM checkpoints WHERE run_id = ? AND name = ?", (run_id, name))

    def checkpoints(
        self,
        *,
        model_name: str | None = None,
        dataset_name: str | None = None,
        run_id: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """Newest first."""
        equal = {"model_name": model_name, "dataset_name": dataset_name}
        equal |= {"run_id": run_id, "name": name}
        order = "created_at DESC, global_step DESC, run_id DESC, name DESC"
        rows = self.rows("checkpoints", Checkpoint.model_fields, order, limit, **equal)
        return models(Checkpoint, rows)

    def checkpoints_json(self, **chosen: Any) -> list[str]:
        """The same as JSON: see `listing.checkpoints` for what can be chosen."""
        with self.reading() as db:
            return listing.checkpoints(db, **chosen)
