"""demo: the main job on data that is here, or can be had, or comes with a package."""

from __future__ import annotations

from pathlib import Path

from tsuzuku.cli import datasets
from tsuzuku.cli.checkpoints import predict
from tsuzuku.cli.console import console
from tsuzuku.cli.local import Local
from tsuzuku.cli.scaffold import init_workspace
from tsuzuku.cli.train import train
from tsuzuku.core.downloadable import Making
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.workspace import Workspace

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""


def demo(folder: Path) -> int:
    """Train a VAE in a workspace (by default one in `demo/`), and draw what it makes."""
    workspace = Workspace(folder)
    if not workspace.config_path.exists():
        workspace = Workspace(folder / "demo" if folder == Path() else folder)
        init_workspace(workspace.root)
    path = _find_data(workspace)
    words = [f"dataset.path={path}", "num_epochs=3"]
    code = train(workspace, "vae", "mnist", words, fresh=False, checkpoint=None)
    if code:
        return code
    console.print("\nWhat the model makes of the first three validation pictures:")
    output = workspace.root / "predictions"
    predict(Local(workspace), "vae-mnist-latest.pt", ["0", "1", "2"], output, as_json=False)
    console.print(
        f"\nThe run, its checkpoints and curves: tsuzuku -w {workspace.root} runs | checkpoints"
    )
    return 0


def _find_data(workspace: Workspace) -> str:
    """A folder with pictures in MNIST's format: there already, downloaded, or made."""
    for name in ("data/mnist", "data/fashion-mnist", str(DEBIAN), "data/digits"):
        if any((workspace.root / name).glob("train-images*")):
            return name
    try:
        datasets.download(workspace, "fashion-mnist")
        return "data/fashion-mnist"
    except TsuzukuError as error:
        console.print(f"[dim]{error.detail}[/]")
        console.print("Fashion-MNIST cannot be fetched here; making scikit-learn's digits instead.")
    datasets.show_made(Local(workspace), Making("digits"))
    return "data/digits"
