"""A run's `latest` and `best` after one of its checkpoints has gone."""

from __future__ import annotations

from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import CheckpointFile
from tsuzuku.core.pruning import survey
from tsuzuku.core.settings import RunSettings, render
from tsuzuku.core.workspace import RunDir


def relink(run: RunDir) -> None:
    """Let `latest` point at what is the newest now, and `best` be the best of what is left if it
    is gone. A run that is being trained does so itself at its next save."""
    settings = RunSettings.model_validate(run.read_identity()["requested"])
    policy = settings.training.checkpoint
    for link in [p for p in run.checkpoints.glob("*") if p.is_symlink() and not p.exists()]:
        link.unlink(missing_ok=True)
    files, _ = checkpoint_files.in_folder(run.checkpoints)
    if not files or run.worker() is not None:
        return

    def name(template: str, file: CheckpointFile) -> str:
        names = (settings.model_name, settings.dataset_name)
        return render(template, *names, file.epoch, file.global_step)

    checkpoint_files.link_latest(files[-1].path, name(policy.latest, files[-1]))
    best = [r.name for r in survey(files, policy).records if r.is_best]
    for file in files:
        if file.name in best and not (run.checkpoints / name(policy.best, file)).exists():
            checkpoint_files.link_best(file, name(policy.best, file))
