"""`--server`: the same commands with the same answers, from a folder that is no workspace."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from terminal import ask, cli, command, start, wait_for_step

from mirrors import mirrors
from plain_plugins import TINY, make_workspace
from servers import Served, free_port, serving
from tsuzuku.cli import main
from tsuzuku.core.workspace import Workspace

LONG = ("train", "tiny", "noise", "num_epochs=100000", "checkpoint.keep_last_n=2")
EARLIER = TINY[: TINY.index("    def inference")]
INFERENCE = """\
    def inference(self, sample):
        if "text" in sample:
            return {"length": len(sample["text"])}
        levels = torch.linspace(0, 1, 12).reshape(3, 4)
        curves = torch.tensor([[1.0, 2.5, float("nan")], [0.0, -1.0, 3.0]])
        return {
            "picture": {"type": "image", "value": levels},
            "lines/both": {"type": "curves", "value": curves},
            "sound": {"type": "audio", "value": levels.flatten(), "sample_rate": 8000},
            "class": int(self.net(sample["item"]["x"][None]).argmax()),
        }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose workspace has one completed run."""
    root = make_workspace(tmp_path_factory.mktemp("remote") / "workspace")
    (root / "models" / "tiny.py").write_text(EARLIER + INFERENCE)
    with serving(root) as served:
        cli(root, "--server", served.url, "train", "tiny", "noise")
        yield served


@pytest.fixture
def away(tmp_path: Path) -> Path:
    """A folder that has nothing to do with any workspace."""
    folder = tmp_path / "away"
    folder.mkdir()
    return folder


def both(served: Served, away: Path, *words: object) -> tuple[Any, Any]:
    """The JSON that a command prints through the server, and where the workspace is."""
    return ask(away, "--server", served.url, *words), ask(served.root, *words)


def close(value: Any) -> Any:
    """`value` without the last digits of floats, which SQLite does not write."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {k: close(v) for k, v in value.items()}
    return [close(v) for v in value] if isinstance(value, list) else value


def test_a_training_looks_as_it_does_at_home(trained: Served, away: Path) -> None:
    said = cli(away, "--server", trained.url, "train", "tiny", "noise", "--fresh", "num_epochs=2")
    assert "New run" in said
    assert "Training started" in said
    assert "tiny-noise-epoch-2.pt" in said
    assert "val_loss" in said.splitlines()[-2] or "metric" in said
    again = cli(away, "--server", trained.url, "train", "tiny", "noise", "num_epochs=2")
    assert "nothing is left to train" in again.lower()
    newest = ask(trained.root, "runs")[0]["run_id"]
    said = cli(away, "--server", trained.url, "resume", newest, "num_epochs=3")
    assert f"Continuing run {newest}" in said
    assert "training.num_epochs: 2 → 3" in said
    rows = [line.split() for line in said.splitlines() if line.startswith("val_loss")]
    assert rows, "the summary of all epochs"
    (run,) = [r for r in ask(trained.root, "runs") if r["run_id"] == newest]
    assert (run["status"], run["epoch"], len(run["attempts"])) == ("completed", 3, 2)
    assert "completed" in cli(away, "--server", trained.url, "follow", newest)
    assert not list(away.iterdir()), "nothing is written here"


def test_listings_are_the_same_from_here_and_there(
    trained: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*words: str) -> str:
        assert main([*words]) == 0
        return capsys.readouterr().out

    there, here = ("--server", trained.url), ("-w", str(trained.root))
    for words in (
        ("runs",),
        ("runs", "--status", "completed", "--model", "tiny"),
        ("runs", "--status", "failed"),
        ("runs", "--tree"),
        ("status",),
        ("checkpoints",),
        ("checkpoints", "--model", "another"),
        ("prune", "--dry-run"),
        ("resume", "tiny-noise-epoch-1.pt", "learning_rate=0.1", "--preview"),
    ):
        remote, local = (json.loads(printed(*place, *words, "--json")) for place in (there, here))
        assert close(remote) == close(local), words
        assert printed(*there, *words) == printed(*here, *words)
    evaluate = ("evaluate", "tiny-noise-best.pt", "--json")
    assert json.loads(printed(*there, *evaluate)) == json.loads(printed(*here, *evaluate))
    inspect = ("inspect", "tiny-noise-latest.pt")
    remote, local = (json.loads(printed(*place, *inspect, "--json")) for place in (there, here))
    for key in ("name", "epoch", "global_step", "sha256", "tensors", "metrics", "metadata"):
        assert remote[key] == local[key]
    assert printed(*there, *inspect) == printed(*here, *inspect)
    assert printed(*there, "verify", "tiny-noise-latest.pt").startswith("ok")


def test_exports_and_predictions_arrive_here(trained: Served, away: Path) -> None:
    name = "tiny-noise-latest.pt"
    remote = ask(away, "--server", trained.url, "export", name, "-o", "here/w.safetensors")
    local = ask(trained.root, "export", name, "-o", "w.safetensors")
    file = away / "here" / "w.safetensors"
    assert remote["path"] == str(file)
    at_home = load_file(trained.root / "w.safetensors")
    assert {k: v.tolist() for k, v in load_file(file).items()} == {
        k: v.tolist() for k, v in at_home.items()
    }
    assert remote["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    own = ("path", "sha256")  # safetensors writes its notes in any order
    assert {k: remote[k] for k in remote if k not in own} == {
        k: local[k] for k in local if k not in own
    }
    assert json.loads(file.with_name("w.safetensors.json").read_text())["checkpoint"]
    assert sorted(p.name for p in file.parent.iterdir()) == [
        "w.safetensors",
        "w.safetensors.json",
    ]
    (away / "words.txt").write_text("five!")
    (trained.root / "words.txt").write_text("five!")
    remote, local = both(trained, away, "predict", name, "2", "words.txt", "-o", "drawn")
    assert [Path(a["input"]).name for a in remote] == ["2", "words.txt"]
    assert remote[1]["outputs"] == local[1]["outputs"] == {"length": 5}
    assert remote[0]["outputs"]["class"] == local[0]["outputs"]["class"]
    for output, ending in (("picture", "png"), ("sound", "wav"), ("lines/both", "npy")):
        made, wanted = (Path(a[0]["outputs"][output]) for a in (remote, local))
        assert made.parent == away / "drawn"
        assert made.name == wanted.name == f"2-{output.replace('/', '-')}.{ending}"
        if ending == "npy":
            np.testing.assert_array_equal(np.load(made), np.load(wanted))
        else:
            assert made.read_bytes() == wanted.read_bytes()
    assert "does not exist" in cli(away, "--server", trained.url, "predict", name, "no.txt", code=2)


def test_what_is_wrong_is_said_as_at_home(
    trained: Served,
    away: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(away)
    (away / "mine.pt").write_bytes(b"")
    for words, expected in (
        (("train", "tinny", "noise"), "did you mean tiny"),
        (("train", "tiny", "noise", "batch_size=0"), "training.batch_size"),
        (("train", "tiny", "noise", "batch_size"), "key.path=value"),
        (("resume", "2020-01-01_00-00-00"), "no run"),
        (("resume", "nothing.pt"), "no run and no checkpoint"),
        (("inspect", "../../etc/passwd"), "nothing called"),
        (("verify", "mine.pt"), "a checkpoint of the server is named"),
        (("stop",), "Nothing is being trained"),
        (("follow", "2020-01-01_00-00-00"), "no run"),
        (("checkpoints", "--run", "2020-01-01_00-00-00"), "no run"),
        (("data", "download", "fashion-mnits"), "did you mean fashion-mnist?"),
        (("data", "make", "zebras"), "cannot be made"),
        (("runs", "--rebuild"), "where the workspace is"),
        (("prove", "tiny", "noise"), "where the workspace is"),
        (("serve",), "serves a folder here"),
        (("demo",), "in a folder here"),
        (("init", "new"), "makes a folder here"),
        (("-w", ".", "runs"), "only one can be meant"),
    ):
        assert main(["--server", trained.url, *words]) == 2, words
        assert expected in capsys.readouterr().err, words
    assert "is not the address" in cli(away, "--server", "ftp://x", "runs", code=2)
    said = cli(away, "--server", f"127.0.0.1:{free_port()}", "status", code=1)
    assert "cannot be reached: Connection refused" in said
    assert [p.name for p in away.iterdir()] == ["mine.pt"]


def test_a_training_that_fails_ends_as_at_home(trained: Served, away: Path) -> None:
    words = ("train", "tiny", "noise", "--fresh", "model.hiden=3")
    said = cli(away, "--server", trained.url, *words, code=2)
    assert "did you mean hidden?" in said


def test_the_environment_names_a_server_and_a_folder_goes_before_it(
    trained: Served, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSUZUKU_SERVER", trained.url)
    assert close(ask(away, "runs")) == close(ask(away, "-w", trained.root, "runs"))
    assert "is not a workspace" in cli(away, "-w", ".", "runs", code=2)


def test_a_token_is_taken_from_the_environment(
    tmp_path: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_workspace(tmp_path / "workspace")
    config = root / "config.yaml"
    config.write_text(f"{config.read_text()}  token: a-token-of-some-length\n")
    with serving(root) as served:
        said = cli(away, "--server", served.url, "runs", code=2)
        assert "asks for its token" in said
        assert "TSUZUKU_TOKEN" in said
        monkeypatch.setenv("TSUZUKU_TOKEN", "another-token-of-some-length")
        assert "not this server's token" in cli(away, "--server", served.url, "runs", code=2)
        monkeypatch.setenv("TSUZUKU_TOKEN", "a-token-of-some-length")
        assert "No runs yet" in cli(away, "--server", served.url, "runs")
        # the event stream asks for it, too
        cli(away, "--server", served.url, "train", "tiny", "noise", "num_epochs=1")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_asks_the_server_to_stop_and_waits(
    workspace: Workspace, away: Path, number: int, code: int
) -> None:
    with serving(workspace.root) as served:
        process = start(away, "--server", served.url, *LONG)
        wait_for_step(workspace.root, 10)
        process.send_signal(number)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == code, said
        assert "tsuzuku resume" in said
        (run,) = ask(workspace.root, "runs")
        assert run["status"] == "stopped"
        newest = ask(workspace.root, "checkpoints")[0]
        assert newest["global_step"] == run["global_step"], "saved when it returned"


def test_closing_the_terminal_ends_nothing_and_others_can_follow_and_stop(
    workspace: Workspace, away: Path
) -> None:
    with serving(workspace.root) as served:
        through = ("--server", served.url)
        process = start(away, *through, *LONG)
        step = wait_for_step(workspace.root, 5)
        process.kill()
        process.wait()
        wait_for_step(workspace.root, step["global_step"] + 20)
        assert ask(away, *through, "status")["runs"][0]["progress"]["global_step"] > 5
        said = cli(away, *through, "train", "tiny", "noise", code=1)
        assert "A training is running" in said
        watcher = start(away, *through, "follow")
        assert watcher.stdout is not None
        while "Training started" not in watcher.stdout.readline():
            assert watcher.poll() is None
        assert f"Stopped {step['run_id']}" in cli(away, *through, "stop")
        said, _ = watcher.communicate(timeout=120)
        assert watcher.returncode == 0
        assert f"{step['run_id']}: stopped" in said
        assert ask(away, *through, "status") == {"is_training": False, "runs": []}


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    workspace: Workspace, away: Path
) -> None:
    with serving(workspace.root) as served:
        process = start(away, "--server", served.url, *LONG)
        step = wait_for_step(workspace.root, 5)["global_step"]
        served.kill()
        assert process.stdout is not None
        said = ""
        while "the training goes on" not in said:
            assert process.poll() is None, said
            said = process.stdout.readline()
        wait_for_step(workspace.root, step + 20)
        with serving(workspace.root, port=served.port) as again:
            cli(away, "--server", again.url, "stop")
            said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "Stopped" in said


PLUGIN = """\
DOWNLOADS = {{
    "mine": {{
        "path": "data/mine",
        "files": [{{"name": "rows.csv", "size": {size}, "sha256": "{sha256}"}}],
        "mirrors": ["{mirror}"],
    }}
}}
raise RuntimeError("a download must not import the file")
"""


def test_data_sets_are_fetched_and_made_where_the_workspace_is(
    workspace: Workspace, away: Path
) -> None:
    content = b"1,2\n" * 1000
    with mirrors() as begin, serving(workspace.root) as served:
        mirror = begin()
        mirror.files["/rows.csv"] = content
        digest = hashlib.sha256(content).hexdigest()
        source = PLUGIN.format(size=len(content), sha256=digest, mirror=mirror.url)
        (workspace.root / "datasets" / "mine.py").write_text(source)
        through = ("--server", served.url)
        assert "data/mine" in cli(away, *through, "data", "download", "mine")
        assert (workspace.root / "data" / "mine" / "rows.csv").read_bytes() == content
        (workspace.root / "data" / "mine" / "rows.csv").unlink()
        mirror.files.clear()
        assert "404" in cli(away, *through, "data", "download", "mine", code=1)
        said = cli(away, *through, "data", "make", "digits")
        assert "dataset.path=data/digits" in said
        assert any((workspace.root / "data" / "digits").iterdir())
    assert not list(away.iterdir())


def test_help_loads_no_http_library(away: Path) -> None:
    code = (
        "import sys; from tsuzuku.cli import main; main(['--help']); "
        "print([m for m in ('httpx', 'websockets', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [command()[0], "-c", code], cwd=away, capture_output=True, text=True, check=True,
        env={**os.environ, "TSUZUKU_SERVER": "http://127.0.0.1:1"},
    )  # fmt: skip
    assert done.stdout.strip().endswith("[]")
