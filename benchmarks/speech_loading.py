"""Which share of a training's time it waits for sound, with a cold and a warm cache.

python benchmarks/speech_loading.py [--quick] [--size tiny]

Clips are as long and as fine as LJSpeech's (1.1 to 10.1 s, 6.6 on average, 22,050 Hz), in batches
of 16 sorted as a training sorts them; a step is forward, backward and AdamW's. What the first batch
waits for, the start of a loader process, is told apart.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from common import options, print_table
from tsuzuku.core.plugin_files import find
from tsuzuku.training.data import BatchLoader, BatchSource, EpochSampler, preload_loader_processes
from tsuzuku.training.plugins import Plugin, make_data, make_model

BATCH, RATE, LETTERS_A_SECOND = 16, 22_050, 14
TARGET = 0.02
WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumped",
    "over",
    "a",
    "lazy",
    "dog",
    "near",
    "frozen",
    "lakes",
)


def write_corpus(folder: Path, count: int) -> None:
    """Noise of LJSpeech's lengths, with texts as long as its own."""
    (folder / "wavs").mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines: list[str] = []
    for number in range(count):
        seconds = 1.1 + 9 * generator.beta(2.2, 1.42)
        sound = generator.standard_normal(int(seconds * RATE)) * 0.1
        soundfile.write(folder / "wavs" / f"{number:05}.wav", sound, RATE, subtype="PCM_16")
        words: list[str] = []
        while len(" ".join(words)) < seconds * LETTERS_A_SECOND:
            words.append(str(generator.choice(WORDS)))
        lines.append(f"{number:05}|{' '.join(words)}\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")


def measure(data: Any, model: torch.nn.Module, workers: int, steps: int) -> list[float]:
    """Seconds: waiting for the first batch, waiting for the others, and in steps."""
    source = BatchSource(data.plugin, {"train": data.train}, data.collate)
    lengths = np.asarray(data.train.lengths(), dtype=np.float64)
    sampler = EpochSampler(np.arange(len(lengths)), BATCH, 0, lengths=lengths)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    waits: list[float] = []
    working = 0.0
    batches = iter(BatchLoader(source, workers, pin_memory=False).batches(sampler))
    for _ in range(steps):
        began = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - began)
        if batch is None:
            break
        began = time.perf_counter()
        result = model(batch)
        (result["loss"] if isinstance(result, dict) else result).backward()
        optimizer.step()
        optimizer.zero_grad()
        working += time.perf_counter() - began
    return [waits[0], sum(waits[1:]), working]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--size", default="tiny")
    chosen = parser.parse_args()
    steps = 4 if chosen.quick else 30
    preload_loader_processes()
    folder = Path(tempfile.mkdtemp(prefix="tsuzuku-speech-"))
    model_file, data_file = (
        find(kind, name, folder)
        for kind, name in (("models", "conformer"), ("datasets", "ljspeech"))
    )
    rows: list[list[str]] = []
    try:
        write_corpus(folder / "data", (steps + 1) * BATCH)
        for workers in (0, 1, 2):
            for kind in ("no cache", "cold cache", "warm cache"):
                cache = None if kind == "no cache" else str(folder / f"cache-{workers}")
                settings = {"path": str(folder / "data"), "cache": cache}
                data = make_data(Plugin(data_file.label, data_file.path), settings)
                torch.manual_seed(0)
                plugin = Plugin(model_file.label, model_file.path)
                model, _ = make_model(plugin, {"size": chosen.size}, data.train)
                first, waited, working = measure(data, model, workers, steps)
                share = waited / (waited + working)
                row = [f"{workers} loader processes, {kind}", f"{first:.2f}", f"{waited:.2f}"]
                row += [f"{working:.1f}", f"{share:.2%}", "met" if share <= TARGET else "missed"]
                rows.append(row)
    finally:
        shutil.rmtree(folder)
    head = ["", "first (s)", "waited (s)", "steps (s)", "waiting", f"≤ {TARGET:.0%}"]
    print_table(f"{steps} steps of {BATCH}, conformer {chosen.size}", head, rows)


if __name__ == "__main__":
    main()
