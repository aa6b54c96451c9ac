"""The cache of decoded sound: the same bits with and without it, whatever happens to it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attempts import attempt, difference, said

from plain_plugins import ran
from spoken import SENTENCES, write_corpus
from tsuzuku.core import launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.datasets.ljspeech import Cache, Config, LJSpeech

EAR = '''\
"""Loudness in four bands, a linear layer with dropout: enough for a wrong bit to show."""

import torch
from torch import nn


class Ear(nn.Module):
    def __init__(self, dataset):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, batch):
        spectrum = torch.fft.rfft(batch["audio"], 8000).abs()[:, :4000]
        heard = spectrum.unflatten(1, (4, 1000)).mean(2).log1p()
        length = batch["token_lengths"].float().log()
        return (self.net(heard)[:, 0] - length).square().mean()
'''
KEY = "ab" + 62 * "0"


def opened(folder: Path, cache: Path | None, **settings: Any) -> LJSpeech:
    config = Config(path=str(folder), cache=cache and str(cache), **settings)
    return LJSpeech(config, "train")


def sounds(dataset: LJSpeech) -> list[torch.Tensor]:
    return [dataset[index]["audio"] for index in range(len(dataset))]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_an_item_is_the_same_without_with_a_cold_and_with_a_warm_cache(tmp_path: Path) -> None:
    folder, cache = write_corpus(tmp_path / "d", SENTENCES[:10]), tmp_path / "cache"
    without = sounds(opened(folder, None))
    assert same(sounds(opened(folder, cache)), without)
    kept = {path: path.stat().st_mtime_ns for path in files(cache)}
    assert len(kept) == len(without)
    assert same(sounds(opened(folder, cache)), without)
    assert {path: path.stat().st_mtime_ns for path in files(cache)} == kept
    # it is read indeed: other sound under the right name is believed
    path = next(iter(kept))
    Cache(cache, 1 << 30).put(path.name, np.full(1000, 16384, np.int16))
    assert any(torch.equal(a, torch.full((1000,), 0.5)) for a in sounds(opened(folder, cache)))


def test_what_needs_no_work_is_not_cached(tmp_path: Path) -> None:
    folder, cache = write_corpus(tmp_path / "d", SENTENCES[:5], rate=16_000), tmp_path / "cache"
    sounds(opened(folder, cache))
    assert not cache.exists()


def test_a_damaged_or_changed_file_is_noticed(tmp_path: Path) -> None:
    folder, cache = write_corpus(tmp_path / "d", SENTENCES[:10]), tmp_path / "cache"
    dataset = opened(folder, cache)
    before = sounds(dataset)
    for number, path in enumerate(files(cache)):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[: len(content) - number])  # altered, or altered and cut
    assert same(sounds(dataset), before)
    assert same(sounds(opened(folder, cache)), before)
    # another recording under an old name is another recording
    shutil.copy(folder / dataset.rows[0].file, folder / dataset.rows[1].file)
    assert torch.equal(dataset[1]["audio"], before[0])


def test_it_never_holds_more_than_it_may(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 256 * 10_000)
    for number in range(50):
        cache.put(f"{KEY[:60]}{number:04}", np.full(1000, number, np.int16))
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 10_000
    assert len(files(tmp_path)) == 4  # of 2,004 bytes each
    last = cache.get(f"{KEY[:60]}0049")
    assert last is not None
    assert set(last.tolist()) == {49}
    cache.put(KEY, np.zeros(5000, np.int16))  # too large for all of it
    assert cache.get(KEY) is None
    assert len(files(tmp_path)) == 4


def test_a_cache_that_cannot_be_written_is_no_cache(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "d", SENTENCES[:5])
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert same(sounds(opened(folder, tmp_path / "cache")), sounds(opened(folder, None)))
    assert same(sounds(opened(folder, tmp_path / "c", cache_gb=0)), sounds(opened(folder, None)))
    assert not (tmp_path / "c").exists()


WRITERS = """\
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from tsuzuku.datasets.ljspeech import Cache
cache = Cache(Path(sys.argv[1]), 1 << 33)
for _ in range(60):
    writer = os.fork()
    if not writer:
        number = random.randrange(20)
        while True:
            number = (number + 1) % 20
            cache.put("ab%062d" % number, np.full(400_000, number, np.int16))
    time.sleep(random.uniform(0, 0.03))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
cache.put("ab%062d" % 3, np.full(400_000, 3, np.int16))
"""


def test_killed_writers_leave_nothing_that_is_believed(tmp_path: Path) -> None:
    ran(WRITERS, tmp_path)
    cache = Cache(tmp_path, 1 << 33)
    found = [cache.get(f"ab{number:062}") for number in range(20)]
    assert found[3] is not None
    for number, sound in enumerate(found):
        assert sound is None or (len(sound) == 400_000 and set(sound.tolist()) == {number})
    # what they left half written goes an hour later, when somebody writes
    half = tmp_path / "ab" / f".{KEY}.123"
    half.write_bytes(b"half")
    cache.put(KEY, np.zeros(10, np.int16))
    assert half.exists()
    an_hour_ago = time.time() - 3700
    os.utime(half, (an_hour_ago, an_hour_ago))
    cache.put(KEY, np.zeros(10, np.int16))
    assert not half.exists()


def run_of(workspace: Workspace, store: Store, *words: str) -> RunDir:
    plan = plan_training(
        workspace, store, "ear", "ljspeech", parse_overrides(list(words), "ear", "ljspeech"),
        fresh=True,
    )  # fmt: skip
    return launch.prepare(workspace, store, plan).run


def test_stops_and_loader_processes_and_a_lost_cache_change_no_bit(
    workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt in this process with a cold cache; several with loader processes and a warm one,
    which is then lost, with speeds drawn at random in all of them."""
    monkeypatch.chdir(workspace.root)
    (workspace.root / "models/ear.py").write_text(EAR, encoding="utf-8")
    write_corpus(workspace.root / "data/ljspeech", SENTENCES[:24])
    words = [
        "dataset.speed_perturbation=[0.9,1.0,1.1]",
        "dataset.validation_share=0.2",
        "num_epochs=2",
        "batch_size=4",
        "deterministic=true",
    ]
    calm = run_of(workspace, store, *words)
    assert attempt(workspace, calm) == 0, said(calm)
    cache = workspace.root / "data/.cache/ljspeech"
    assert len(files(cache)) == 24
    run = run_of(workspace, store, *words, "num_workers=2")
    for stop in (3, 6, None):
        code = attempt(workspace, run, stop)
        assert code == (143 if stop else 0), said(run)
        shutil.rmtree(cache)
    assert len(store.attempts(run.run_id)) == 3
    assert difference(store, calm, run) is None
