"""How long a step waits for a save with fsdp: each rank's copy of its part, or all gathered first.

    python benchmarks/sharded_save.py [--ranks 2] [--megabytes 400] [--quick]

The state is that of AdamW: of its megabytes a third are weights. Each way is timed after a first
time, for the buffers of the copy are kept. Memory is the highest that the first rank has had.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="a small model")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.megabytes = 48
    if "RANK" in os.environ:
        rank(chosen.megabytes)
        return
    for way in ("parts", "gathered"):
        words = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
        words += ["--nproc-per-node", str(chosen.ranks), __file__]
        words += ["--megabytes", str(chosen.megabytes)]
        subprocess.run(words, env={**os.environ, "WAY": way, "OMP_NUM_THREADS": "1"}, check=True)


def rank(megabytes: int) -> None:
    import torch
    from torch import nn

    from tsuzuku.core.settings import DistributedSettings
    from tsuzuku.training.checkpoints import CheckpointWriter, Save
    from tsuzuku.training.distributed import join, leave
    from tsuzuku.training.part_writer import PartWriter
    from tsuzuku.training.sharding import cut, shard, whole

    cpu = torch.device("cpu")
    settings = DistributedSettings(launcher="torchrun", devices=2, strategy="fsdp")
    ranks = join(settings, cpu)

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            count = max(megabytes // 12, 1)  # of 12 MiB with their moments
            self.layers = nn.ModuleList(nn.Linear(1024, 1024) for _ in range(count))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    model = Layers()
    shard(model, ranks, cpu)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1024)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    parted = os.environ["WAY"] == "parts"
    writer: Any
    if parted:
        writer = PartWriter(ranks, lambda: None, lambda _: None)
    else:
        writer = CheckpointWriter(lambda: None, lambda _: None)
    info = {"epoch": 1, "global_step": 1, "metrics": {}, "config": {}, "metadata": {}}
    waited: list[float] = []
    told: str = ranks.told(tempfile.mkdtemp() if ranks.first else None)
    for number in range(TIMES + 1):
        ranks.agreed(False)
        state = {
            **info,
            "model_state_dict": dict(model.state_dict()),
            "optimizer_state_dict": optimizer.state_dict(),
        }
        began = time.perf_counter()
        made = cut(state) if parted else whole(state, keep=ranks.first)
        if parted or ranks.first:
            writer.start(Save(Path(told) / f"{number}.pt", made, info))
        ranks.agreed(False)
        waited.append(time.perf_counter() - began)
        writer.wait()
    took = time.perf_counter() - began
    if ranks.first:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        way, median = os.environ["WAY"], sorted(waited[1:])[TIMES // 2]
        print(f"{way}: waited {median * 1000:.0f} ms, durable after {took:.2f} s, {memory:.0f} MiB")
        subprocess.run(["rm", "-r", told], check=True)
    leave()


if __name__ == "__main__":
    main()
