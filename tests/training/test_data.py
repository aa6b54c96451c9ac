"""Batches: their order, and that it does not matter who loads them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plain_plugins import NOISE, python
from tsuzuku.training.data import (
    BatchLoader,
    BatchSource,
    EpochSampler,
    epoch_batches,
    split_off,
)
from tsuzuku.training.plugins import Plugin, make_data

sizes = st.integers(1, 60)


def flat(sampler: EpochSampler) -> list[int]:
    return [i for key in sampler for i in key.indices]


# Order


@given(sizes, st.integers(1, 9), st.integers(0, 99), st.integers(0, 9), st.booleans())
def test_an_epoch_has_every_sample_exactly_once(
    count: int, batch: int, seed: int, epoch: int, by_length: bool
) -> None:
    indices = np.arange(count) * 3 + 1
    lengths = np.arange(3 * count + 1, dtype=np.float64) % 7 if by_length else None
    sampler = EpochSampler(indices, batch, seed, lengths=lengths)
    sampler.seek(epoch, 0)
    keys = list(sampler)
    assert sorted(i for k in keys for i in k.indices) == indices.tolist()
    assert len(keys) == len(sampler) == -(-count // batch)
    assert all(1 <= len(k.indices) <= batch for k in keys)
    assert sum(len(k.indices) < batch for k in keys) == (count % batch > 0)


@given(sizes, st.integers(1, 9), st.integers(0, 9), st.integers(0, 70), st.booleans())
def test_an_epoch_that_begins_in_the_middle_is_the_rest_of_the_whole(
    count: int, batch: int, epoch: int, start: int, by_length: bool
) -> None:
    lengths = np.random.RandomState(0).rand(count) if by_length else None
    sampler = EpochSampler(np.arange(count), batch, 5, lengths=lengths)
    sampler.seek(epoch, 0)
    whole = list(sampler)
    other = EpochSampler(np.arange(count), batch, 5, lengths=lengths)
    other.seek(epoch, start)
    assert list(other) == whole[start:]


@given(st.integers(2, 60), st.integers(0, 9))
def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else(count: int, epoch: int) -> None:
    one = EpochSampler(np.arange(count), 4, 5)
    one.seek(epoch, 0)
    first = list(one)
    np.random.rand(3)
    torch.manual_seed(3)
    list(one)
    again = EpochSampler(np.arange(count), 4, 5)
    again.seek(epoch + 1, 0)
    list(again)
    again.seek(epoch, 0)
    assert list(again) == first


def test_epochs_and_seeds_have_different_orders() -> None:
    orders = set()
    for seed in range(5):
        sampler = EpochSampler(np.arange(50), 4, seed)
        for epoch in range(5):
            sampler.seek(epoch, 0)
            orders.add(tuple(flat(sampler)))
    assert len(orders) == 25


def test_the_order_of_a_seed_stays_what_it_is_for_ever() -> None:
    """NumPy promises a stable stream for PCG64; a change here would bend resumed runs."""
    sampler = EpochSampler(np.arange(6), 2, 42)
    again = EpochSampler(np.arange(6), 2, 42)
    again.seek(1, 0)
    assert sorted(flat(sampler)) == sorted(flat(again))
    order = epoch_batches(np.arange(6), 2, 42, 0)
    generator = np.random.Generator(np.random.PCG64(_order_seed()))
    assert np.array_equal(order, generator.permutation(6))


def _order_seed() -> int:
    from tsuzuku.training.randomness import position_seed

    return position_seed(42, "order", 0)


def test_validation_goes_through_in_order_with_seeds_of_its_own() -> None:
    sampler = EpochSampler(np.array([5, 3, 8]), 2, 1, shuffle=False, split="validation")
    train = EpochSampler(np.array([5, 3, 8]), 2, 1)
    sampler.seek(4, 0)
    train.seek(4, 0)
    assert [k.indices for k in sampler] == [[5, 3], [8]]
    assert {k.split for k in sampler} == {"validation"}
    assert not {k.seed for k in sampler} & {k.seed for k in train}
    assert [sampler.size_of(i) for i in range(2)] == [2, 1]


def test_every_batch_has_a_seed_of_its_own() -> None:
    sampler = EpochSampler(np.arange(100), 3, 1)
    seeds = set()
    for epoch in range(10):
        sampler.seek(epoch, 0)
        seeds |= {k.seed for k in sampler}
    assert len(seeds) == 10 * len(sampler)


def test_length_buckets_pad_less_and_still_shuffle() -> None:
    lengths = np.random.RandomState(1).gamma(2, 100, size=4000)

    def padding(batches: list[Any]) -> float:
        return sum(len(b) * lengths[b].max() - lengths[b].sum() for b in batches)

    order = np.asarray(epoch_batches(np.arange(4000), 8, 3, 0))
    plain = [order[i : i + 8] for i in range(0, 4000, 8)]
    bucketed = list(epoch_batches(np.arange(4000), 8, 3, 0, lengths))
    assert padding(bucketed) < padding(plain) / 5
    means = [lengths[b].mean() for b in bucketed]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2, "batches come by length"
    other = list(epoch_batches(np.arange(4000), 8, 3, 1, lengths))
    assert {tuple(sorted(b)) for b in bucketed} != {tuple(sorted(b)) for b in other}


@given(st.integers(0, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_the_split_is_a_partition_of_the_right_size(count: int, share: float, seed: int) -> None:
    kept, held = split_off(count, share, seed)
    assert sorted([*kept, *held]) == list(range(count))
    assert kept.tolist() == sorted(kept)
    assert held.tolist() == sorted(held)
    if share == 0 or count < 2:
        assert len(held) == 0
    else:
        assert len(kept) >= 1
        assert len(held) >= 1
        assert abs(len(held) - count * share) <= 1
    again = split_off(count, share, seed)
    assert [x.tolist() for x in again] == [kept.tolist(), held.tolist()]


def test_another_seed_splits_off_other_samples() -> None:
    assert len({tuple(split_off(100, 0.1, seed)[1]) for seed in range(10)}) == 10


# Loading


def source_of(tmp_path: Path, code: str = NOISE, **settings: Any) -> BatchSource:
    path = tmp_path / "datasets" / "noise.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")
    data = make_data(Plugin("datasets/noise.py", path), settings)
    return BatchSource(data.plugin, {"train": data.train}, data.collate)


def identical(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return torch.equal(a, b)


def batches(loader: BatchLoader, sampler: EpochSampler, epoch: int, start: int = 0) -> list[Any]:
    sampler.seek(epoch, start)
    return list(loader.batches(sampler))


@pytest.fixture
def two_workers(tmp_path: Path) -> Any:
    made: list[BatchLoader] = []

    def make(source: BatchSource, workers: int = 2) -> BatchLoader:
        made.append(BatchLoader(source, workers, False))
        return made[-1]

    yield make
    for loader in made:
        if loader._loader is not None and loader._loader._iterator is not None:
            loader._loader._iterator._shutdown_workers()


def test_who_loads_a_batch_does_not_change_it(tmp_path: Path, two_workers: Any) -> None:
    """Augmented with all three generators; from the middle, and after a pass that was given up."""
    source = source_of(tmp_path, count=40)
    sampler = EpochSampler(np.arange(40), 6, 3)
    here = BatchLoader(source, 0, False)
    there = two_workers(source)
    expected = {epoch: batches(here, sampler, epoch) for epoch in range(3)}
    assert not identical(expected[0], expected[1])
    for epoch in range(3):
        found = batches(there, sampler, epoch)
        assert len(found) == 7
        assert all(map(identical, found, expected[epoch]))
    sampler.seek(1, 0)
    given_up = iter(there.batches(sampler))
    assert identical(next(given_up), expected[1][0])
    found = batches(there, sampler, 2, 3)
    assert len(found) == 4
    assert all(map(identical, found, expected[2][3:]))
    # a batch depends on nothing that was loaded before it
    assert all(map(identical, batches(here, sampler, 1, 5), expected[1][5:]))


LARGE = """
import torch

class Large:
    def __init__(self, config, split):
        self.x = torch.randn(4, 300_000, generator=torch.Generator().manual_seed(0))
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return self.x[index].sum()
"""


def test_sums_over_large_samples_are_rounded_alike_in_every_process(
    tmp_path: Path, two_workers: Any
) -> None:
    """torch adds in another order with another number of threads; loader processes have one."""
    source = source_of(tmp_path, LARGE)
    sampler = EpochSampler(np.arange(4), 1, 3)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = batches(BatchLoader(source, 0, False), sampler, 0)
        assert torch.get_num_threads() == 2, "the training keeps its threads"
    finally:
        torch.set_num_threads(before)
    there = batches(two_workers(source, 1), sampler, 0)
    assert all(map(identical, here, there))


COLLATE = """
import random
import torch
from typing import NamedTuple

class Item(NamedTuple):
    x: torch.Tensor

class Words(torch.utils.data.Dataset):
    splits = ["train"]
    def __init__(self, config, split):
        self.count = config["count"]
    def __len__(self):
        return self.count
    def __getitems__(self, indices):
        return [torch.full((1 + i % 3,), float(i) + random.random()) for i in indices]
    def __getitem__(self, index):
        raise AssertionError("asked one by one")
    def collate(self, items):
        return Item(torch.nn.utils.rnn.pad_sequence(items, batch_first=True))

DATASET = Words
"""


def test_a_data_sets_own_collate_and_bulk_reading_are_used_in_every_process(
    tmp_path: Path, two_workers: Any
) -> None:
    source = source_of(tmp_path, COLLATE, count=10)
    sampler = EpochSampler(np.arange(10), 4, 3)
    here = batches(BatchLoader(source, 0, False), sampler, 0)
    there = batches(two_workers(source), sampler, 0)
    assert [type(b).__name__ for b in there] == ["Item"] * 3
    assert all(map(identical, here, there))


BROKEN = NOISE.replace(
    "def __getitem__(self, index):", "def __getitem__(self, index):\n        1 / (index - 3)"
)


def test_what_a_data_set_raises_arrives_with_its_line(tmp_path: Path, two_workers: Any) -> None:
    source = source_of(tmp_path, BROKEN)
    sampler = EpochSampler(np.arange(8), 2, 3)
    for loader in (BatchLoader(source, 0, False), two_workers(source)):
        with pytest.raises(ZeroDivisionError):
            batches(loader, sampler, 0)


ORPHANS = """
import os, sys
from pathlib import Path
import numpy as np

if __name__ == "__main__":
    from tsuzuku.training.data import BatchLoader, BatchSource, EpochSampler
    from tsuzuku.training.plugins import Plugin, make_data
    data = make_data(Plugin("datasets/noise.py", Path(sys.argv[1])), {"count": 64})
    loader = BatchLoader(BatchSource(data.plugin, {"train": data.train}, data.collate), 2, False)
    stream = loader.batches(EpochSampler(np.arange(64), 2, 1))
    next(stream)
    print(*[w.pid for w in loader._loader._iterator._workers], flush=True)
    sys.stdin.readline()
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_loader_processes_die_with_the_trainer_however_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "noise.py"
    path.write_text(NOISE, encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text(ORPHANS, encoding="utf-8")
    process = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", path)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2, process.communicate()
    assert all(map(alive, workers))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    # however slow the machine: without the watch they would live for ever
    until = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in workers if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
