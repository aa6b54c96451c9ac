"""What compressing older checkpoints gains and costs, beside other ways and `torch.save`.

One state with AdamW, trained for a few steps so that its moments are real. Each way is tried in
turns; the table has medians. `--million` sets the parameters.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsuzuku.core import checkpoint_files, compression
from tsuzuku.training.checkpoints import Save, write
from tsuzuku.training.opening import load


def trained(million: float) -> dict[str, Any]:
    """The state of a small model after some steps of AdamW."""
    torch.manual_seed(0)
    width = int((million * 1e6 / 4) ** 0.5)
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(4)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(5):
        loss = (model(torch.randn(16, width)) - torch.randn(16, width)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}


def timed(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def ways(source: Path, target: Path) -> dict[str, Callable[[], Any]]:
    content = source.read_bytes()

    def with_gzip(level: int) -> None:
        with gzip.open(target, "wb", level) as file:
            file.write(content)

    found: dict[str, Callable[[], Any]] = {
        "gzip -1, a file of its own": lambda: with_gzip(1),
        "gzip -6, a file of its own": lambda: with_gzip(6),
        "deflate -1 of all": lambda: target.write_bytes(zlib.compress(content, 1)),
    }
    if importlib.util.find_spec("zstandard"):
        import zstandard

        for level in (1, 3, 9):
            found[f"zstd -{level}, a file of its own"] = lambda level=level: target.write_bytes(
                zstandard.ZstdCompressor(level).compress(content)
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", type=float, default=5.0, help="parameters, in millions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small, once")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        million, rounds = (0.5, 1) if chosen.quick else (chosen.million, chosen.rounds)
        report(Path(folder), trained(million), rounds)


def report(folder: Path, state: dict[str, Any], rounds: int) -> None:
    info = {"epoch": 1, "global_step": 1, "metrics": {}, "config": {}, "metadata": {}}
    saved, smaller = (
        "a checkpoint (hash, fsync, sidecar)",
        "compressed in place (checked, read back)",
    )
    path, copy, plain = folder / "c.pt", folder / "copy", folder / "plain.pt"
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}

    def note(name: str, do: Callable[[], Any], result: Path) -> None:
        seconds.setdefault(name, []).append(timed(do))
        sizes[name] = result.stat().st_size

    for _ in range(rounds):
        note("torch.save", lambda: torch.save({**info, **state}, plain), plain)
        note(
            "a checkpoint (hash, fsync, sidecar)",
            lambda: write(Save(path, {**info, **state}, info)),
            path,
        )
        for name, do in ways(path, copy).items():
            note(name, do, copy)
        note("opening it", lambda: load(path), path)
        note(smaller, lambda: compression.compress(checkpoint_files.read(path)), path)
        note("opening it compressed", lambda: load(path), path)
        for old in folder.glob("c.pt*"):
            old.unlink()
    whole = sizes[saved]
    print(f"{whole / 1e6:.0f} MB, {rounds} rounds, medians")
    for name, taken in seconds.items():
        print(f"{name:44} {sizes[name] / whole:7.1%} {statistics.median(taken):8.2f} s")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
