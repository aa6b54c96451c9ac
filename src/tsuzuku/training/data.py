"""Batches in an order that is a pure function of seed and epoch.

The position in an epoch is the number of batches trained on. A resume makes the epoch's order
anew and begins at that batch; no batch is loaded only to be thrown away.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from tsuzuku.training.plugins import Plugin
from tsuzuku.training.randomness import Stream, mixed, position_seed, seed_all

Indices = npt.NDArray[np.int64]

BUCKET_BATCHES = 100
"""How many batches are sorted by length together: more pads less, fewer mixes better."""


@dataclass(frozen=True)
class BatchKey:
    """Which samples of which split make up a batch, and the seed under which they are loaded."""

    split: str
    indices: list[int]
    seed: int


def split_off(n: int, share: float, seed: int) -> tuple[Indices, Indices]:
    """Indices for training and validation: `share` of `n` samples, drawn by seed, both sorted.

    At least one sample is split off where `share` is above 0 and there are two or more.
    """
    count = min(max(round(n * share), 1), n - 1) if share > 0 and n > 1 else 0
    generator = np.random.Generator(np.random.PCG64(position_seed(seed, "split")))
    order = generator.permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def epoch_batches(
    indices: Indices,
    batch_size: int,
    seed: int,
    epoch: int,
    lengths: npt.NDArray[np.float64] | None = None,
) -> list[Indices] | Indices:
    """The epoch's order: a flat permutation, or with `lengths` (per index) a list of batches.

    With lengths, the shuffled samples are cut into groups of 100 batches, sorted by length within
    a group, cut into batches, and the batches are shuffled.
    """
    generator = np.random.Generator(np.random.PCG64(position_seed(seed, "order", epoch)))
    order = indices[generator.permutation(len(indices))]
    if lengths is None:
        return order
    group = batch_size * BUCKET_BATCHES
    batches: list[Indices] = []
    by_length = lengths[order]
    for start in range(0, len(order), group):
        part = order[start : start + group]
        part = part[np.argsort(by_length[start : start + group], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


class EpochSampler:
    """Yields the batches of one epoch from a position on. Its state is two whole numbers.

    Of several ranks, each gets its part of every shuffled batch: samples `rank`, `rank + ranks`
    and so on of it, so that the parts are about as long as each other where a batch is sorted by
    length. Where a batch has fewer samples than there are ranks, the others get its first, which
    then counts for nothing (`samples`). An unshuffled pass deals out whole batches, each rank as
    many: the last one again where there are not enough (`dealt`).
    """

    def __init__(
        self,
        indices: Indices,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        lengths: npt.NDArray[np.float64] | None = None,
        split: str = "train",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.indices = indices
        self.rank, self.ranks = rank, ranks
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.lengths = lengths
        self.split = split
        self.stream: Stream = "fetch" if shuffle else "fetch_validation"
        self.epoch = 0
        self.start = 0
        self._sizes: list[int] | None = None

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return -(-len(self.indices) // self.batch_size)

    def seek(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin at `batch` of `epoch` (both from 0)."""
        self.epoch, self.start = epoch, batch

    def __iter__(self) -> Iterator[BatchKey]:
        epoch, size = self.epoch, self.batch_size
        if self.shuffle:
            order = epoch_batches(self.indices, size, self.seed, epoch, self.lengths)
        else:
            order = self.indices
        epoch_seed = position_seed(self.seed, self.stream, epoch)
        sized = isinstance(order, list)
        self._sizes = [len(part) for part in order] if sized and self.ranks > 1 else None
        for batch in range(self.start, len(self)) if self.shuffle else self.dealt():
            chosen = order[batch] if sized else order[batch * size : (batch + 1) * size]
            seed = mixed(epoch_seed, batch)
            if self.shuffle and self.ranks > 1:
                chosen = chosen[self.rank :: self.ranks] if self.samples(batch) else chosen[:1]
                if self.rank:  # the first draws what a single one would
                    seed = mixed(seed, self.rank)
            yield BatchKey(self.split, chosen.tolist(), seed)

    def dealt(self) -> list[int]:
        """The batches of an unshuffled pass that this rank measures; as many for every rank."""
        last = len(self) - 1
        return [min(b, last) for b in range(self.start + self.rank, last + self.ranks, self.ranks)]

    def size_of(self, batch: int) -> int:
        """Samples in a batch, over all ranks."""
        if self._sizes is not None:
            return self._sizes[batch]
        return min(self.batch_size, len(self.indices) - batch * self.batch_size)

    def samples(self, batch: int) -> int:
        """Samples of a shuffled batch that are this rank's."""
        return len(range(self.rank, self.size_of(batch), self.ranks))


class BatchSource(Dataset[Any]):
    """The data sets of a run, asked for whole batches; every generator is seeded before each.

    Pickled for a loader process, it takes the plug-in's file along, which is loaded there first.
    """

    def __init__(
        self, plugin: Plugin, splits: dict[str, Any], collate: Callable[[list[Any]], Any]
    ) -> None:
        self.plugin = plugin
        self.splits = splits
        self.collate = collate

    def __reduce__(self) -> Any:
        # pickle writes and reads the tuple in order: the plug-in's module is there before its class
        return BatchSource, (self.plugin, self.splits, self.collate)

    def __getitem__(self, key: BatchKey) -> Any:
        """The collated batch of a key; DataLoader calls this with what the sampler yields."""
        threads = torch.get_num_threads()
        if threads > 1:
            # loader processes have one thread, and sums are rounded in another order by several
            torch.set_num_threads(1)
        try:
            seed_all(key.seed)
            dataset = self.splits[key.split]
            fetch_many = getattr(dataset, "__getitems__", None)
            samples = fetch_many(key.indices) if fetch_many else [dataset[i] for i in key.indices]
            return self.collate(samples)
        finally:
            if threads > 1:
                torch.set_num_threads(threads)


class BatchLoader:
    """Loads the batches that a sampler names, here or in loader processes.

    Training and validation share the processes; they are never loaded at the same time.
    """

    def __init__(self, source: BatchSource, num_workers: int, pin_memory: bool) -> None:
        self._source = source
        self._sampler: EpochSampler | None = None
        self._pin = pin_memory
        self._loader: DataLoader[Any] | None = None
        if num_workers:
            self._loader = DataLoader(
                source,
                batch_size=None,
                sampler=self,  # pyright: ignore[reportArgumentType]
                collate_fn=_as_it_is,
                num_workers=num_workers,
                pin_memory=pin_memory,
                worker_init_fn=in_loader_process,
                persistent_workers=True,
                multiprocessing_context=start_method(),
            )

    def __iter__(self) -> Iterator[BatchKey]:
        return iter(self._sampler or ())

    def __len__(self) -> int:
        return len(self._sampler or ())

    def batches(self, sampler: EpochSampler) -> Iterator[Any]:
        """The batches of `sampler` from its position on."""
        if self._loader is None:
            # DataLoader's own in-process path costs a multiple of this
            source = self._source
            return (source[key] for key in sampler)
        self._sampler = sampler
        return iter(self._loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def in_loader_process(_worker: int) -> None:
    """Set up a loader process: Ctrl-C is for the trainer; when that dies, so does this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is None:
        return

    def follow_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    # torch's own watchdog compares parent ids, which a fork server keeps alive
    threading.Thread(target=follow_parent, daemon=True).start()


def start_method() -> str:
    """How loader processes start: never by a plain fork, which copies locks of running threads."""
    return "forkserver" if sys.platform.startswith("linux") else "spawn"


def preload_loader_processes() -> None:
    """Let the fork server import torch while the trainer sets itself up."""
    if start_method() == "forkserver":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tsuzuku.training.data"])


def to_device(batch: Any, device: torch.device) -> Any:
    """`batch` with every tensor in it on `device`."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {k: to_device(v, device) for k, v in cast("Mapping[Any, Any]", batch).items()}
    if isinstance(batch, list | tuple):
        moved = [to_device(v, device) for v in cast("list[Any]", batch)]
        kind = cast("type[Any]", type(batch))  # pyright: ignore[reportUnknownArgumentType]
        return kind(*moved) if hasattr(kind, "_fields") else kind(moved)
    return batch
