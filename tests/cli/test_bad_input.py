"""Whatever is wrong is said in one clear sentence, with the right exit code; nothing is lost."""

from __future__ import annotations

import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from attempts import attempt, new_run
from terminal import ask, cli, start, wait_for_step

from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


@pytest.fixture
def here(workspace: Workspace) -> Path:
    return workspace.root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    for words in (("train", "vae", "mnist"), ("runs",), ("status",), ("prove", "a", "b")):
        said = cli(tmp_path, *words, code=2)
        assert "is not a workspace" in said
        assert "tsuzuku init" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training: [1, 2\n", "config.yaml, line"),
        ("training:\n\tseed: 1\n", "config.yaml, line 2"),
        ("just words\n", "just words is not a setting; there are: available_models"),
        ("a: !!python/object/apply:os.system ['touch pwned']\n", "config.yaml"),
        ("training: {lerning_rate: 1}\n", "training.lerning_rate is not a setting; did you mean"),
        ("trainign: {}\n", "trainign is not a setting; did you mean training?"),
        ("training:\n  seed: ${nowhere}\n", "nowhere"),
    ],
)
def test_settings_that_cannot_be_read(here: Path, text: str, expected: str) -> None:
    write(here / "config.yaml", text)
    assert expected in cli(here, "train", "tiny", "noise", code=2)
    assert not (here / "pwned").exists()
    assert not any((here / "outputs").glob("*/*")) if (here / "outputs").exists() else True


def test_all_wrong_settings_are_named_at_once(here: Path) -> None:
    words = ["batch_size=0", "training.optimizer=Adamm", "checkpoint.filename=x.pt", "nonsense=1"]
    said = cli(here, "train", "tiny", "noise", *words, code=2)
    for path in (
        *("training.batch_size", "training.optimizer", "training.checkpoint", "nonsense"),
    ):
        assert path in said
    assert "key.path=value" in cli(here, "train", "tiny", "noise", "batch_size", code=2)


def test_unknown_names_say_which_exist(here: Path) -> None:
    said = cli(here, "train", "tinny", "noise", code=2)
    assert "did you mean tiny" in said
    said = cli(here, "train", "tiny", "zzz", code=2)
    assert "mnist" in said
    assert "noise" in said
    assert "no run" in cli(here, "resume", "2020-01-01_00-00-00", code=2).lower()
    assert "no checkpoint" in cli(here, "inspect", "nothing.pt", code=2)
    assert "There is no run" in cli(here, "inspect", "../../etc/passwd", code=2)
    assert "no checkpoint" in cli(here, "train", "tiny", "noise", "--resume", code=2)


MODEL = """
import torch
class Odd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 3)
    def forward(self, batch):
        {body}
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return self.layer(batch['x'])", "it returned a tensor of shape [8, 3]"),
        ("return None", "it returned NoneType"),
        ("return {'accuracy': 1.0}", "a dict with accuracy"),
        ("return torch.zeros(())", "depends on no parameter"),
        ("return self.layer(batch['nope'])", "models/tiny.py, line 8: KeyError: 'nope'"),
        ("return self.layer(batch['x'].T)", "models/tiny.py, line 8: RuntimeError: mat1"),
    ],
)
def test_a_forward_that_gives_no_loss(here: Path, body: str, expected: str) -> None:
    write(here / "models" / "tiny.py", MODEL.format(body=body))
    code, said, status = trained(here)
    assert code == (1 if "line 8" in expected else 2)
    assert expected in said
    assert status == "failed"


def test_a_failed_training_says_on_the_terminal_why(here: Path) -> None:
    write(here / "models" / "tiny.py", MODEL.format(body="return None"))
    assert "it returned NoneType" in cli(here, "train", "tiny", "noise", code=2)
    assert ask(here, "runs")[0]["status"] == "failed"


def trained(here: Path) -> tuple[int, str, str]:
    """Exit code, error and status of a training of tiny on noise, as its worker tells them."""
    workspace = Workspace(here)
    with Store(workspace.db) as store:
        run = new_run(workspace, store)
        code = attempt(workspace, run)
        (error,) = store.events(run_id=run.run_id, types=["error"])
        return code, str(error.payload["message"]), store.runs()[0].status


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("models/tiny.py", "import torch\n1 / 0\n", "models/tiny.py, line 2 raised ZeroDivision"),
        ("models/tiny.py", "def f(:\n", "models/tiny.py, line 1: "),
        ("models/tiny.py", "x = 1\n", "has no model"),
        ("models/tiny.py", "import no_such_package\n", "No module named 'no_such_package'"),
        (
            "datasets/noise.py",
            "raise SystemExit(0)\n",
            "noise.py, line 1 raised SystemExit",
        ),
        (
            "datasets/noise.py",
            "class D:\n  def __init__(self, config, split): pass\n"
            "  def __len__(self): return 0\n  def __getitem__(self, i): return i\n",
            "the training split is empty",
        ),
        (
            "datasets/noise.py",
            "class D:\n  def __init__(self, config, split):\n"
            "    raise FileNotFoundError('corpus.csv does not exist')\n"
            "  def __len__(self): return 1\n  def __getitem__(self, i): return i\n",
            "datasets/noise.py, line 3: corpus.csv does not exist",
        ),
    ],
)
def test_plug_ins_that_do_not_work(here: Path, file: str, text: str, expected: str) -> None:
    write(here / file, text)
    code, said, _ = trained(here)
    assert code == 2
    assert expected in said


def test_a_plug_in_that_does_not_work_is_said_on_the_terminal(here: Path) -> None:
    write(here / "models" / "tiny.py", "import torch\n1 / 0\n")
    said = cli(here, "train", "tiny", "noise", code=2)
    assert "models/tiny.py, line 2 raised ZeroDivision" in said


def test_a_missing_data_path_and_wrong_model_settings(here: Path) -> None:
    said = cli(here, "train", "vae", "mnist", "dataset.path=/nowhere/at/all", code=2)
    assert "datasets.mnist.path: /nowhere/at/all does not exist" in said
    assert not (here / "outputs" / "proofs").exists()
    said = cli(here, "train", "tiny", "noise", "model.hiden=3", code=2)
    assert "models.tiny.hiden is not a setting; did you mean hidden?" in said


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch pwned",)


def test_hostile_and_broken_checkpoints_are_refused_and_nothing_runs(here: Path) -> None:
    cli(here, "train", "tiny", "noise")
    folder = next((here / "outputs").glob("*/*/checkpoints"))
    good = folder / "tiny-noise-epoch-2.pt"
    whole = good.read_bytes()
    torch.save({"model_state_dict": {}, "epoch": Evil(), "config": {}}, here / "evil.pt")
    (here / "raw.pt").write_bytes(pickle.dumps(Evil()))
    (here / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (here / "empty.pt").write_bytes(b"")
    with zipfile.ZipFile(here / "zip.pt", "w") as archive:
        archive.writestr("../escape", "x")
    torch.save({"model_state_dict": {"w": torch.ones(2)}}, here / "bare.pt")
    names = [f"{name}.pt" for name in ("evil", "raw", "cut", "empty", "zip", "bare")]
    answers = ask(here, "verify", *names, code=1)
    assert [a["ok"] for a in answers] == [False] * 6
    assert all(name in a["error"] for name, a in zip(names, answers, strict=True))
    assert "opening it would run its code" in answers[0]["error"]
    assert "would run its code" in cli(here, "inspect", "evil.pt", code=1)
    assert not (here / "pwned").exists()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    good.write_bytes(bytes(altered))
    assert "SHA-256" in cli(here, "verify", good.name, code=1)
    assert "SHA-256" in cli(here, "resume", good.name, code=1)
    good.write_bytes(whole[:-10])
    assert "cut or overwritten" in cli(here, "predict", good.name, "0", code=1)


def test_a_checkpoint_of_another_model_names_the_first_tensor_that_differs(here: Path) -> None:
    cli(here, "train", "tiny", "noise", "num_epochs=1")
    said = cli(here, "train", "tiny", "noise", "model.hidden=9", "num_epochs=2", code=1)
    assert "'net.0.weight' has the shape [8, 6] there and [9, 6] here" in said
    assert "ok" in cli(here, "verify", "tiny-noise-epoch-1.pt")


def test_two_trainings_on_one_run(here: Path) -> None:
    first = start(here, "train", "tiny", "noise", "num_epochs=100000")
    run = wait_for_step(here, 3)["run_id"]
    said = cli(here, "resume", run, code=1)
    assert "is being trained right now" in said
    assert f"process {ask(here, 'runs')[0]['attempts'][0]['pid']}" in said
    said = cli(here, "train", "tiny", "noise", "num_epochs=100000", code=1)
    assert "--fresh" in said
    cli(here, "stop")
    first.communicate(timeout=60)
    assert len(ask(here, "runs")[0]["attempts"]) == 1


needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="LOUD: needs root for a small disk"
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A real file system of 30 MB, unmounted afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", folder], capture_output=True, text=True
    )
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"LOUD: no small disk can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    yield folder  # type: ignore[misc]
    subprocess.run(["umount", "-l", folder], check=True)


@needs_mount
def test_a_full_disk_pauses_the_training_until_there_is_room(
    workspace: Workspace, small_disk: Path
) -> None:
    from plain_plugins import make_workspace

    here = make_workspace(small_disk / "workspace")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(14 << 20))
    process = start(here, "train", "tiny", "noise", "num_epochs=4")
    assert process.stdout is not None
    lines: list[str] = []
    while "paused" not in "".join(lines[-1:]):
        line = process.stdout.readline()
        assert line, "".join(lines)
        lines.append(line)
    assert "The disk is full" in lines[-1]
    assert ask(here, "status")["runs"][0]["status"] == "paused"
    filler.unlink()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    calm = make_workspace(workspace.root.parent / "calm")
    cli(calm, "train", "tiny", "noise", "num_epochs=4")
    ends = [
        torch.load(next(w.glob("outputs/*/*/checkpoints/*-epoch-4.pt")), weights_only=True)
        for w in (here, calm)
    ]
    a, b = (e["model_state_dict"] for e in ends)
    assert all(torch.equal(a[k], b[k]) for k in a)


@needs_mount
def test_a_read_only_disk(small_disk: Path) -> None:
    from plain_plugins import make_workspace

    here = make_workspace(small_disk / "workspace")
    cli(here, "train", "tiny", "noise", "num_epochs=1")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    said = cli(here, "train", "tiny", "noise", "num_epochs=2", code=1)
    assert "read-only" in said.lower()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert "ok" in cli(here, "verify", "tiny-noise-epoch-1.pt")
    cli(here, "train", "tiny", "noise", "num_epochs=2")
