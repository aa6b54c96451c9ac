"""What a training would go on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from made_runs import begin, checkpoint, worked_on
from plain_plugins import CONFIG, TINY
from tsuzuku.core import checkpoint_files
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import Busy, CorruptCheckpoint, NotFound, SettingsError, WrongInput
from tsuzuku.core.finding import find_checkpoint, tip
from tsuzuku.core.launch import prepare
from tsuzuku.core.resume import Plan, plan_resume, plan_training
from tsuzuku.core.sidecars import sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


def plan(workspace: Workspace, store: Store, *words: str, **more: Any) -> Plan:
    overrides = parse_overrides(words, "tiny", "noise")
    return plan_training(workspace, store, "tiny", "noise", overrides, **more)


def changed(found: Plan) -> dict[str, bool]:
    return {d.key: d.changes_result for d in found.differences}


# train


def test_without_any_run_a_training_is_fresh(workspace: Workspace, store: Store) -> None:
    found = plan(workspace, store)
    assert (found.mode, found.run, found.checkpoint, found.origin) == ("fresh", None, None, None)
    assert found.settings.training.num_epochs == 3
    assert (found.model.label, found.dataset.label) == ("models/tiny.py", "datasets/noise.py")
    assert list(workspace.run_dirs()) == [], "planning writes nothing"


def test_it_continues_at_the_tip_of_the_run_that_moved_last(
    workspace: Workspace, store: Store
) -> None:
    older, newer = begin(workspace, store), begin(workspace, store)
    for run in (older, newer):
        checkpoint(run, 1)
        checkpoint(run, 1, step=13)
    found = plan(workspace, store)
    assert found.mode == "continue"
    assert found.origin == f"{newer.run_id}/tiny-noise-epoch-1-step-13.pt"
    store.update_run(older.run_id, status="stopped")
    assert plan(workspace, store).origin == f"{older.run_id}/tiny-noise-epoch-1-step-13.pt"


def test_the_end_of_an_epoch_comes_after_its_last_step(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    checkpoint(run, 0, step=10)
    newest = tip(run)
    assert newest is not None
    assert newest.name == "tiny-noise-epoch-1.pt"


def test_runs_of_other_pairs_and_runs_without_checkpoints_do_not_count(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    begin(workspace, store)
    (workspace.root / "models" / "other.py").write_text(TINY, encoding="utf-8")
    assert plan_training(workspace, store, "other", "noise", {}).mode == "fresh"
    found = plan(workspace, store)
    assert found.run is not None
    assert found.run.run_id == run.run_id


def test_fresh_and_auto_resume_begin_anew(workspace: Workspace, store: Store) -> None:
    checkpoint(begin(workspace, store), 1)
    assert plan(workspace, store, fresh=True).mode == "fresh"
    assert plan(workspace, store, "auto_resume=false").mode == "fresh"


def test_what_changes_nothing_continues_and_what_changes_the_result_branches(
    workspace: Workspace, store: Store
) -> None:
    checkpoint(begin(workspace, store), 1)
    harmless = plan(workspace, store, "num_workers=2", "num_epochs=9", "checkpoint_interval=2")
    assert harmless.mode == "continue"
    assert changed(harmless) == {
        "training.num_workers": False,
        "training.num_epochs": False,
        "training.checkpoint.save_freq": False,
    }
    other = plan(workspace, store, "learning_rate=0.5", "model.hidden=9", "dataset.count=5")
    assert other.mode == "branch"
    assert changed(other) == {
        "training.learning_rate": True,
        "model.hidden": True,
        "dataset.count": True,
    }


def test_a_changed_source_branches_and_is_named(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    path = workspace.root / "models" / "tiny.py"
    path.write_text(TINY + "# changed\n", encoding="utf-8")
    for found in (plan(workspace, store), plan_resume(workspace, store, run.run_id, [])):
        assert found.mode == "branch"
        assert changed(found) == {"models/tiny.py": True}
    path.write_text(TINY, encoding="utf-8")
    assert plan(workspace, store).mode == "continue"


def test_a_completed_run_is_finished_until_more_epochs_are_asked_for(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store, status="completed")
    checkpoint(run, 3)
    assert plan(workspace, store).mode == "continue", "its final weights are still to be written"
    run.weights.touch()
    assert plan(workspace, store).mode == "finished"
    assert plan(workspace, store, "num_workers=1").mode == "finished"
    assert plan(workspace, store, "num_epochs=4").mode == "continue"
    assert plan_resume(workspace, store, run.run_id, []).mode == "finished"


def test_a_run_that_ended_early_is_finished_too(workspace: Workspace, store: Store) -> None:
    """Early stopping completed it: when nothing is left to train, `train` says so."""
    run = begin(workspace, store, "early_stopping.patience=1", status="completed")
    checkpoint(run, 2)
    run.weights.touch()
    assert plan(workspace, store, "early_stopping.patience=1").mode == "finished"


def test_a_run_that_is_being_trained_is_busy(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store, status="running")
    with worked_on(run) as worker:
        with pytest.raises(Busy, match=str(worker.pid)) as caught:
            plan(workspace, store)
        assert caught.value.code == "already_running"
        checkpoint(run, 1)
        with pytest.raises(Busy, match=run.run_id):
            plan(workspace, store)
        with pytest.raises(Busy):
            plan_resume(workspace, store, run.run_id, [])
        assert plan(workspace, store, fresh=True).mode == "fresh"
        assert plan(workspace, store, "seed=1").mode == "branch"
    assert plan(workspace, store).mode == "continue"


def test_unknown_names_and_wrong_settings_are_refused(workspace: Workspace, store: Store) -> None:
    with pytest.raises(WrongInput, match="did you mean tiny"):
        plan_training(workspace, store, "tinny", "noise", {})
    with pytest.raises(WrongInput, match="did you mean noise"):
        plan_training(workspace, store, "tiny", "nois", {})
    with pytest.raises(SettingsError, match=r"training\.sead"):
        plan(workspace, store, "training.sead=1")
    with pytest.raises(WrongInput, match=r"datasets\.noise\.path: data/none does not") as caught:
        plan(workspace, store, "dataset.path=data/none")
    assert caught.value.code == "missing_data"
    with pytest.raises(NotFound):
        plan(workspace, store, checkpoint="none.pt")


def test_a_preset_of_the_model_is_below_the_settings_of_the_workspace(
    workspace: Workspace, store: Store
) -> None:
    preset = 'TRAINING = {"batch_size": 3, "grad_clip_thresh": 5, "checkpoint_interval": 7}\n'
    (workspace.root / "models" / "tiny.py").write_text(TINY + preset, encoding="utf-8")
    training = plan(workspace, store).settings.training
    assert (training.batch_size, training.grad_clip_thresh) == (8, 5)
    assert training.checkpoint.save_freq == 7


# A checkpoint by its name


def test_a_checkpoint_may_be_named_in_every_form(
    workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(workspace, store)
    first, second = checkpoint(run, 1), checkpoint(run, 2)
    checkpoint_files.link_latest(second.path, "tiny-noise-latest.pt")
    checkpoint_files.link_best(first, "tiny-noise-best.pt")
    elsewhere = workspace.root.parent
    monkeypatch.chdir(elsewhere)
    for name, expected in {
        first.name: first.path,
        f"{run.run_id}/{first.name}": first.path,
        str(first.path): first.path,
        os.path.relpath(first.path, elsewhere): first.path,
        "tiny-noise-latest.pt": second.path,
        str(run.checkpoints / "tiny-noise-latest.pt"): second.path,
    }.items():
        found_run, found = find_checkpoint(workspace, store, name)
        assert found.path == expected, name
        assert found_run.run_id == run.run_id
    _, best = find_checkpoint(workspace, store, "tiny-noise-best.pt")
    assert best.epoch == 1


def test_a_bare_name_means_the_newest_run_that_has_it(workspace: Workspace, store: Store) -> None:
    runs = [begin(workspace, store) for _ in range(12)]
    for run in runs:
        checkpoint(run, 1)
    assert find_checkpoint(workspace, store, "tiny-noise-epoch-1.pt")[0].run_id == runs[-1].run_id
    checkpoint(runs[0], 2)
    assert find_checkpoint(workspace, store, "tiny-noise-epoch-2.pt")[0].run_id == runs[0].run_id


@pytest.mark.parametrize(
    "name",
    [
        *("", "x.pt", "..", "../config.yaml", "run.json", "checkpoints", ".", "/", "a/b/c.pt"),
        *("2020-01-01_00-00-00/tiny-noise-epoch-1.pt", "tiny-noise-epoch-1.pt.json", "~/x.pt"),
        "\x00",
    ],
)
def test_a_name_of_nothing_is_not_found(workspace: Workspace, store: Store, name: str) -> None:
    checkpoint(begin(workspace, store), 1)
    with pytest.raises(NotFound):
        find_checkpoint(workspace, store, name)
    with pytest.raises(NotFound):
        plan_resume(workspace, store, name, [])


def test_a_checkpoint_without_a_good_sidecar_is_refused(workspace: Workspace, store: Store) -> None:
    found = checkpoint(begin(workspace, store), 1)
    sidecar(found.path).unlink()
    with pytest.raises(CorruptCheckpoint, match="no sidecar"):
        find_checkpoint(workspace, store, found.name)


def test_an_older_checkpoint_branches_and_the_newest_continues(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    first, second = checkpoint(run, 1), checkpoint(run, 2)
    for found in (
        plan(workspace, store, checkpoint=first.name),
        plan_resume(workspace, store, first.name, []),
    ):
        assert (found.mode, found.origin) == ("branch", f"{run.run_id}/{first.name}")
    for found in (
        plan(workspace, store, checkpoint=second.name),
        plan_resume(workspace, store, second.name, []),
        plan_resume(workspace, store, run.run_id, []),
    ):
        assert (found.mode, found.origin) == ("continue", f"{run.run_id}/{second.name}")


def test_a_branch_off_best_names_a_file_that_stays(workspace: Workspace, store: Store) -> None:
    """`best` is replaced when the old run improves; a parent has to be what it was."""
    run = begin(workspace, store)
    first = checkpoint(run, 1)
    checkpoint(run, 2)
    checkpoint_files.link_best(first, "tiny-noise-best.pt")
    found = plan_resume(workspace, store, "tiny-noise-best.pt", [])
    assert found.origin == f"{run.run_id}/{first.name}"
    checkpoint_files.remove(first.path)
    found = plan_resume(workspace, store, "tiny-noise-best.pt", [])
    assert found.mode == "branch"


# resume


def test_a_resumed_run_keeps_its_own_settings_not_the_workspaces(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store, "learning_rate=0.5", "model.hidden=9")
    checkpoint(run, 1)
    workspace.config_path.write_text("training: {seed: 7}\n", encoding="utf-8")
    found = plan_resume(workspace, store, run.run_id, ["num_epochs=5"])
    assert found.mode == "continue"
    training = found.settings.training
    assert (training.learning_rate, training.seed, training.num_epochs) == (0.5, 42, 5)
    assert found.settings.model == {"hidden": 9}


def test_overrides_of_a_resume_reach_every_part(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    words = ["model.hidden=3", "datasets.noise.count=5", "checkpoint_interval=4", "seed=3"]
    words += ["training.checkpoint.keep_last_n=2", "models.tiny.training.checkpoint.keep_best_n=3"]
    settings = plan_resume(workspace, store, run.run_id, words).settings
    assert (settings.model, settings.dataset) == ({"hidden": 3}, {"count": 5})
    policy = settings.training.checkpoint
    assert (policy.save_freq, policy.keep_last_n, policy.keep_best_n) == (4, 2, 3)
    assert settings.training.seed == 3


@pytest.mark.parametrize(
    "word",
    [
        *("server.port=1", "models.other.x=1", "datasets.other.x=1", "training.sead=1", "bogus=1"),
        *("seed=x", "training=5", "training=null", "models=5", "models.tiny=5", "checkpoint=5"),
        *("models.tiny.training=5", "datasets=null", "training.checkpoint=x", "model=1"),
        "seed=${x}",
    ],
)
def test_a_wrong_override_of_a_resume_is_refused(
    workspace: Workspace, store: Store, word: str
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    harmless = word in ("training=null", "datasets=null")
    try:
        found = plan_resume(workspace, store, run.run_id, [word])
    except SettingsError:
        assert not harmless
    else:
        assert harmless
        assert found.mode == "continue"


def test_a_run_whose_plug_in_is_gone_goes_on_with_its_own_copy(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    (workspace.root / "models" / "tiny.py").unlink()
    found = plan_resume(workspace, store, run.run_id, [])
    assert found.mode == "continue"
    assert found.model.path == run.source / "models" / "tiny.py"


def test_a_run_without_any_checkpoint_goes_on_from_its_beginning(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store, "seed=5")
    found = plan_resume(workspace, store, run.run_id, [])
    assert (found.mode, found.checkpoint) == ("continue", None)
    assert found.settings.training.seed == 5


def test_settings_with_text_that_looks_like_an_interpolation_survive(
    workspace: Workspace, store: Store
) -> None:
    workspace.config_path.write_text(CONFIG.replace("count: 64", r"text: 'a \${b} c'"))
    run = begin(workspace, store)
    checkpoint(run, 1)
    found = plan_resume(workspace, store, run.run_id, [])
    assert (found.mode, changed(found)) == ("continue", {})


def test_what_was_planned_twice_is_planned_alike_after_a_preparation(
    workspace: Workspace, store: Store
) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)
    prepare(workspace, store, plan(workspace, store, "num_epochs=7"))
    found = plan_resume(workspace, store, run.run_id, [])
    assert found.settings.training.num_epochs == 7
    assert changed(found) == {}


def test_a_run_of_another_workspace_is_found_by_its_path(
    workspace: Workspace, store: Store, tmp_path: Path
) -> None:
    run = begin(workspace, store)
    found = checkpoint(run, 1)
    with Store(tmp_path / "other" / "outputs" / "tsuzuku.db") as other:
        where, same = find_checkpoint(Workspace(tmp_path / "other"), other, str(found.path))
    assert (where.path, same.path) == (run.path, found.path)
