"""init: a workspace to begin with."""

from __future__ import annotations

from pathlib import Path

from tsuzuku.cli.console import console
from tsuzuku.core.errors import WrongInput

CONFIG = """\
# Settings of this workspace. Whatever is not here has its default (docs/settings.md);
# `tsuzuku train MODEL DATASET key=value` overrides any of them for one run.

# Settings of models and data sets, by name:
models: {}
  # vae:
  #   latent_dim: 24
  #   training: {learning_rate: 0.002}    # goes before the general one below

datasets: {}
  # mnist:
  #   path: data/mnist

training:
  seed: 42
  # num_epochs: 10
  # batch_size: 32
  # learning_rate: 0.001
  # scheduler: cosine
  checkpoint:
    save_freq: 1          # epochs
    keep_last_n: 10

server:
  language: ja            # ja or en
"""

GITIGNORE = "outputs/\ndata/\n"


def init_workspace(folder: Path) -> None:
    """Make what is missing of a workspace; nothing that exists is touched."""
    made: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("models", "datasets", "data"):
            if not (folder / name).exists():
                (folder / name).mkdir()
                made.append(f"{name}/")
        for name, text in (("config.yaml", CONFIG), (".gitignore", GITIGNORE)):
            path = folder / name
            if not path.exists():
                path.write_text(text, encoding="utf-8")
                made.append(name)
    except OSError as error:
        raise WrongInput(f"{folder} cannot be a workspace: {error.strerror or error}.") from None
    where = folder.absolute()
    if not made:
        console.print(f"{where} is a workspace already; nothing was changed.", markup=False)
        return
    console.print(f"{where} is a workspace now ({', '.join(made)}).", markup=False)
    console.print("  tsuzuku data download fashion-mnist && tsuzuku train vae mnist", markup=False)
