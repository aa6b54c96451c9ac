"""data download and data make, and a training on what they leave behind."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from terminal import ask, cli

from tsuzuku.core.workspace import Workspace

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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real HTTP server on loopback, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


def test_a_plug_ins_download_is_fetched_without_importing_it(
    workspace: Workspace, mirror: tuple[str, Path]
) -> None:
    url, folder = mirror
    content = b"1,2\n" * 1000
    (folder / "rows.csv").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    source = PLUGIN.format(size=len(content), sha256=digest, mirror=url)
    plugin = workspace.root / "datasets" / "mine.py"
    plugin.write_text(source, encoding="utf-8")
    assert "mine is in" in cli(workspace.root, "data", "download", "mine")
    assert (workspace.root / "data" / "mine" / "rows.csv").read_bytes() == content
    # what is there and whole is not fetched again
    (folder / "rows.csv").unlink()
    cli(workspace.root, "data", "download", "mine")
    # what the mirror does not have is one sentence
    (workspace.root / "data" / "mine" / "rows.csv").unlink()
    assert "404" in cli(workspace.root, "data", "download", "mine", code=1)
    said = cli(workspace.root, "data", "download", "fashion-mnits", code=2)
    assert "did you mean fashion-mnist?" in said


def test_digits_can_be_made_trained_on_and_drawn(workspace: Workspace) -> None:
    here = workspace.root
    assert "dataset.path=data/digits" in cli(here, "data", "make", "digits")
    assert "cannot be made" in cli(here, "data", "make", "zebras", code=2)
    cli(here, "train", "vae", "mnist", "dataset.path=data/digits", "num_epochs=2")
    (answer,) = ask(here, "predict", "vae-mnist-best.pt", "0", "-o", "drawn")
    for name in ("reconstruction", "samples"):
        assert Path(answer["outputs"][name]).read_bytes().startswith(b"\x89PNG")
    picture = answer["outputs"]["reconstruction"]
    (again,) = ask(here, "predict", "vae-mnist-best.pt", picture)
    assert Path(again["outputs"]["reconstruction"]).is_file()
    assert (
        "there is no sample 99999"
        in cli(here, "predict", "vae-mnist-best.pt", "99999", code=2).lower()
    )
    (here / "no.png").write_bytes(b"not a picture")
    assert "is not a picture" in cli(here, "predict", "vae-mnist-best.pt", "no.png", code=2)


def test_speech_can_be_made_here_or_elsewhere_from_ones_own_lines(workspace: Workspace) -> None:
    here = workspace.root
    said = cli(here, "data", "make", "speech", "--count", "6")
    assert "dataset.path=data/speech" in said
    assert len(list((here / "data/speech/wavs").iterdir())) == 6
    assert "is there already" in cli(here, "data", "make", "speech", code=2)
    (here / "mine.txt").write_text("Hello there.\nGood bye.\n", encoding="utf-8")
    words = ["data", "make", "speech", "--text", str(here / "mine.txt"), "-o", str(here / "mine")]
    assert f"dataset.path={here / 'mine'}" in "".join(cli(here, *words).split("\n"))
    rows = (here / "mine/metadata.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split("|")[1] for row in rows] == ["Hello there.", "Good bye."] * 3
    assert "digits takes no count" in cli(here, "data", "make", "digits", "--count", "3", code=2)
    gone = cli(here, "data", "make", "speech", "--text", "gone.txt", "-o", "x", code=2)
    assert "gone.txt is not a UTF-8 text" in "".join(gone.split("\n"))
