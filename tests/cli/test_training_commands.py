"""train, stop, resume, follow and the listings, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from terminal import ask, cli, command, start, wait_for_step

from in_parts import take_apart
from tsuzuku.core import checkpoint_files, parts
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

LONG = ("train", "tiny", "noise", "num_epochs=100000", "checkpoint.keep_last_n=2")


@pytest.fixture
def here(workspace: Workspace) -> Path:
    return workspace.root


def test_a_first_training_can_be_looked_at_from_every_side(here: Path) -> None:
    said = cli(here, "train", "tiny", "noise")
    assert "Training started" in said
    assert "tiny-noise-epoch-3.pt" in said
    assert "val_loss" in said
    (run,) = ask(here, "runs")
    assert (run["status"], run["epoch"], run["global_step"]) == ("completed", 3, 21)
    assert run["attempts"][0]["status"] == "completed"
    names = [c["name"] for c in ask(here, "checkpoints")]
    assert names == [f"tiny-noise-epoch-{n}.pt" for n in (3, 2, 1)]
    info = ask(here, "inspect", "tiny-noise-latest.pt")
    assert info["epoch"] == 3
    assert info["tensors"]["net.0.weight"] == ["float32", [8, 6]]
    assert "net.0.weight" in cli(here, "inspect", "tiny-noise-epoch-1.pt")
    assert cli(here, "verify", *names).count("ok") == 3
    assert len(ask(here, "verify", run["run_id"])) == 4, "all of a run, the best included"
    differing = ask(here, "inspect", names[0], "--diff", names[1])
    assert differing["epoch"] == [3, 2]
    assert differing.keys() >= {"sha256", "metrics.val_loss", "global_step"}
    assert not {key for key in differing if key.startswith(("config.", "tensors."))}
    assert ask(here, "inspect", names[0], "--diff", names[0]) == {}
    _gathers(here, names[1])
    measured = ask(here, "evaluate", "tiny-noise-latest.pt")["metrics"]
    assert measured["val_loss"] == info["metrics"]["val_loss"], "the same randomness again"
    assert "nothing is left to train" in cli(here, "train", "tiny", "noise").lower()
    assert "Nothing is being trained" in cli(here, "status")
    folder = here / "outputs" / run["run_id"].replace("_", "/", 1)
    for name in ("config.yaml", "config.json", "model.safetensors", "source/models/tiny.py"):
        assert (folder / name).is_file()


def _gathers(here: Path, name: str) -> None:
    """A checkpoint in parts is used as any, and made one file when that is wished."""
    (path,) = here.glob(f"outputs/*/*/checkpoints/{name}")
    size = path.stat().st_size
    take_apart(path)
    assert "2 (`tsuzuku gather` makes one file)" in cli(here, "inspect", name)
    whole, gathered = ask(here, "gather", name, "tiny-noise-latest.pt")[::-1]
    assert (whole["ok"], whole["gathered"], gathered["gathered"]) == (True, False, True)
    assert path.stat().st_size == gathered["size"] == size
    (listed,) = [c for c in ask(here, "checkpoints") if c["name"] == name]
    assert (listed["size"], listed["sha256"]) == (size, gathered["sha256"])
    apart = take_apart(path)
    next(parts.folder_of(apart.path).iterdir()).unlink()
    assert f"{name} lacks its part" in cli(here, "gather", name, code=1)
    checkpoint_files.remove(path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_and_resume_goes_on(here: Path, number: int, code: int) -> None:
    process = start(here, *LONG)
    wait_for_step(here, 10)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "tsuzuku resume" in said
    (run,) = ask(here, "runs")
    assert run["status"] == "stopped"
    newest = ask(here, "checkpoints")[0]
    assert newest["global_step"] == run["global_step"]
    assert ask(here, "resume", run["run_id"], "--preview")["mode"] == "continue"
    total = newest["epoch"] + 1
    said = cli(here, "resume", run["run_id"], f"num_epochs={total}")
    assert f"Continuing run {run['run_id']}" in said
    (run,) = ask(here, "runs")
    assert (run["status"], run["epoch"], len(run["attempts"])) == ("completed", total, 2)


def test_a_signal_right_after_the_start_is_not_taken_for_a_crash(here: Path) -> None:
    for earlier, pause in enumerate((0.4, 0.8, 1.5)):
        process = start(here, *LONG, "--fresh")
        while len(list((here / "outputs").glob("*/*/logs/worker.log"))) == earlier:
            assert process.poll() is None
        time.sleep(pause)
        process.terminate()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 143, said
        assert ask(here, "runs")[0]["status"] == "stopped", said


def test_a_training_outlives_its_terminal(here: Path) -> None:
    process = start(here, *LONG)
    step = wait_for_step(here, 5)
    process.kill()
    process.wait()
    wait_for_step(here, step["global_step"] + 20)
    status = ask(here, "status")
    assert status["is_training"]
    assert "is being trained right now" in cli(here, "train", "tiny", "noise", code=1)
    assert "Stopped" in cli(here, "stop")
    assert not ask(here, "status")["is_training"]
    assert "Nothing is being trained" in cli(here, "stop", code=2)
    assert "stopped" in cli(here, "follow")


def test_a_killed_worker_is_reported_and_the_training_goes_on_where_it_was(here: Path) -> None:
    process = start(here, *LONG, "checkpoint.every_steps=5")
    wait_for_step(here, 20)
    with Store(here / "outputs" / "tsuzuku.db") as store:
        (attempt,) = store.attempts(store.runs()[0].run_id)
    os.kill(attempt.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "SIGKILL" in said
    (run,) = ask(here, "runs")
    assert run["status"] == "crashed"
    newest = ask(here, "checkpoints")[0]
    process = start(here, *LONG, "checkpoint.every_steps=5")
    # what the killed attempt reported after its last checkpoint is no sign that this one trains
    while (run := ask(here, "runs")[0])["status"] != "running" or len(run["attempts"]) < 2:
        assert process.poll() is None
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"Resuming from {newest['name']}" in said


def test_a_second_signal_ends_at_once_and_keeps_what_was_saved(here: Path) -> None:
    slow = (
        (here / "models" / "tiny.py")
        .read_text()
        .replace("        logits =", "        import time; time.sleep(2)\n        logits =", 1)
    )
    (here / "models" / "tiny.py").write_text(slow)
    process = start(here, *LONG, "batch_size=60")
    wait_for_step(here, 2)
    before = ask(here, "checkpoints")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    after = ask(here, "checkpoints")  # one more may have been saved before the signal came
    assert max(c["global_step"] for c in after) >= max(c["global_step"] for c in before)
    assert cli(here, "verify", *[c["name"] for c in after])


def test_changed_settings_branch_and_leave_the_old_run_alone(here: Path) -> None:
    cli(here, "train", "tiny", "noise")
    preview = cli(here, "resume", "tiny-noise-epoch-1.pt", "learning_rate=0.1", "--preview")
    assert "branch" in preview
    assert "training.learning_rate" in preview
    tuned = ask(here, "resume", "tiny-noise-epoch-1.pt", "--fine-tune", "--preview")
    assert (tuned["mode"], tuned["fine_tuning"]) == ("branch", True)
    (here / "datasets" / "other.py").write_text((here / "datasets" / "noise.py").read_text())
    tuned = ask(here, "resume", "tiny-noise-epoch-1.pt", "--dataset", "other", "--preview")
    assert tuned["fine_tuning"]
    kept = ask(
        here, "resume", "tiny-noise-epoch-1.pt", "--dataset", "other", "--no-fine-tune", "--preview"
    )
    assert (kept["mode"], kept["fine_tuning"], kept["epoch"]) == ("branch", False, 1)
    said = cli(here, "train", "tiny", "noise", "learning_rate=0.1", "num_epochs=4")
    assert "branched from" in said
    new, old = ask(here, "runs")
    assert new["parent"] == f"{old['run_id']}/tiny-noise-epoch-3.pt"
    assert old["status"] == "completed"
    assert "New run" in cli(here, "train", "tiny", "noise", "--fresh", "num_epochs=1")
    said = cli(here, "train", "tiny", "noise", "--resume", "num_epochs=2")
    assert "Continuing" in said
    said = cli(here, "train", "tiny", "noise", "--resume", f"{old['run_id']}/tiny-noise-epoch-2.pt")
    assert f"branched from {old['run_id']}/tiny-noise-epoch-2.pt" in said
    said = cli(here, "resume", f"{old['run_id']}/tiny-noise-epoch-2.pt", "--fine-tune")
    assert f"fine-tuning the weights of {old['run_id']}/tiny-noise-epoch-2.pt" in said


def test_a_changed_plug_in_begins_a_branch(here: Path) -> None:
    cli(here, "train", "tiny", "noise", "num_epochs=1")
    path = here / "models" / "tiny.py"
    path.write_text(path.read_text() + "\n# changed\n")
    said = cli(here, "train", "tiny", "noise", "num_epochs=2")
    assert "branched from" in said
    assert "models/tiny.py" in said


def test_the_database_is_made_again_from_the_run_folders(here: Path) -> None:
    cli(here, "train", "tiny", "noise")
    before = (ask(here, "runs"), ask(here, "checkpoints"))
    for path in (here / "outputs").glob("tsuzuku.db*"):
        path.write_bytes(b"not a database")
    assert "--rebuild" in cli(here, "runs", code=1)
    cli(here, "runs", "--rebuild")
    runs, checkpoints = ask(here, "runs"), ask(here, "checkpoints")
    for run in (*runs, *before[0]):
        run.pop("updated_at")
    assert runs == before[0]
    assert [c["sha256"] for c in checkpoints] == [c["sha256"] for c in before[1]]


def test_prune_says_why_each_is_kept(here: Path) -> None:
    cli(here, "train", "tiny", "noise", "checkpoint.keep_last_n=null")
    path = next((here / "outputs").glob("*/*/run.json"))
    path.write_text(path.read_text().replace('"keep_last_n": null', '"keep_last_n": 1'))
    dry = ask(here, "prune", "--dry-run")
    assert len(ask(here, "checkpoints")) == 3
    done = ask(here, "prune")
    assert done["removed"] == dry["removed"]
    assert {c["name"] for c in ask(here, "checkpoints")} == {k["name"] for k in done["kept"]}


def test_proof_of_an_exact_and_of_an_inexact_pair(here: Path) -> None:
    verdict = ask(here, "prove", "tiny", "noise", "--kills", 2)
    assert verdict["exact"]
    assert verdict["kills"] == 2
    path = here / "models" / "tiny.py"
    path.write_text(
        path.read_text()
        .replace("import torch\n", "import os\nimport torch\n")
        .replace('return {"loss": loss,', 'return {"loss": loss * (1 + 1e-3 * os.urandom(1)[0]),')
    )
    said = cli(here, "prove", "tiny", "noise", "--kills", 1, code=1)
    assert "the plug-in itself is not deterministic" in said
    assert "model_state_dict.net." in said
    assert "values differ" in said


def test_init_makes_a_workspace_and_never_overwrites(tmp_path: Path) -> None:
    assert "is a workspace now" in cli(tmp_path, "init", "new")
    config = tmp_path / "new" / "config.yaml"
    config.write_text("training: {seed: 7}\n")
    (tmp_path / "new" / ".gitignore").unlink()
    cli(tmp_path, "init", "new")
    assert config.read_text() == "training: {seed: 7}\n"
    assert (tmp_path / "new" / ".gitignore").exists()
    assert "No runs yet" in cli(tmp_path, "-w", "new", "runs")


def test_a_wrong_command_line_ends_with_2_and_says_how_it_is_used(here: Path) -> None:
    for words in (["foo"], ["train"], ["train", "tiny"], ["runs", "--bogus"], ["prove", "a"]):
        assert "Usage: " in cli(here, *words, code=2)


def test_final_weights_are_those_of_a_completed_run(here: Path) -> None:
    """A run that goes on loses them until it is completed again, so they are never old ones."""
    cli(here, "train", "tiny", "noise", "num_epochs=1")
    weights = next((here / "outputs").glob("*/*/model.safetensors"))
    before = weights.read_bytes()
    process = start(here, *LONG)
    wait_for_step(here, 30)
    assert not weights.exists()
    process.terminate()
    process.communicate(timeout=60)
    epoch = ask(here, "checkpoints")[0]["epoch"]
    cli(here, "train", "tiny", "noise", f"num_epochs={epoch + 1}")
    assert weights.read_bytes() != before


def test_help_is_quick_because_it_does_not_load_torch(here: Path) -> None:
    code = (
        "import sys; from tsuzuku.cli import main; main(['--help']); "
        "main(['runs']); main(['checkpoints']); "
        "print([m for m in ('torch', 'numpy', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run(
        [command()[0], "-c", code], cwd=here, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]")
