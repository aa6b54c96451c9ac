"""Several processes that train one model together: what they have to agree on, and how.

`torch.distributed` moves the tensors: gloo between CPUs, NCCL between GPUs. What is decided on the
host (to stop, a metric) goes over a gloo group of its own, so that no device is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal, cast

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from tsuzuku.core.settings import DistributedSettings

dist: Any = torch.distributed
"""Its functions have no types."""

PATIENCE = timedelta(hours=1)
"""How long ranks wait for each other: a full disk makes the first wait, and the others for it."""

Strategy = Literal["ddp", "fsdp"]


class Pace:
    """How fast a rank is by itself: what it takes for a batch when it does not wait for others."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._waited = 0.0
        self._batches = 0

    def batch(self) -> None:
        """Count a batch."""
        self._batches += 1

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Around what only goes on when the others have come as far."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def taken(self) -> dict[str, float]:
        """Batches a second and own milliseconds a batch since the last call; empty without one."""
        now = time.perf_counter()
        elapsed, waited, batches = now - self._began, self._waited, self._batches
        if not batches:
            return {}
        self._began, self._waited, self._batches = now, 0.0, 0
        own = max(elapsed - waited, 0.0)
        return {"batches_per_second": batches / elapsed, "own_ms": 1000 * own / batches}


@dataclass
class Ranks:
    """This process among those that train together; alone, everything here costs next to nothing.

    Every method but the properties has to be called by all ranks, in the same order.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    strategy: Strategy = "ddp"
    host: Any = None
    """The gloo group for what is decided on the host."""
    pace: Pace = field(default_factory=Pace)

    @property
    def first(self) -> bool:
        """Whether this is the one that reports and saves."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether each holds a part of the model only."""
        return self.strategy == "fsdp"

    def agreed(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.world == 1:
            return flag
        said = torch.tensor([float(flag)])
        with self.pace.waiting():
            dist.all_reduce(said, dist.ReduceOp.MAX, self.host)
        return bool(said.item())

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place; on the device that the values are on."""
        if self.world > 1:
            with self.pace.waiting():
                dist.all_reduce(values, group=self.host if values.device.type == "cpu" else None)
        return values

    def gathered(self, mine: Any) -> list[Any]:
        """What each rank gives: plain containers and CPU tensors, by rank."""
        if self.world == 1:
            return [mine]
        given: list[Any] = [None] * self.world
        with self.pace.waiting():
            dist.all_gather_object(given, mine, self.host)
        return given

    def told(self, words: Any) -> Any:
        """What the first rank gives, for all."""
        if self.world == 1:
            return words
        given = [words]
        with self.pace.waiting():
            dist.broadcast_object_list(given, 0, self.host)
        return given[0]

    def apart(self) -> Ranks:
        """The same ranks with a group of their own, for a thread beside the training."""
        if self.world == 1:
            return self
        host = dist.new_group(backend="gloo", timeout=PATIENCE)
        return replace(self, host=host, pace=Pace())

    def wrapped(self, model: torch.nn.Module) -> Callable[[Any], Any]:
        """What to call in a training step in the place of `model`, which stays what is saved.

        With ddp, gradients are averaged while backward goes on, and every rank's buffers are the
        first one's before a step: that is what makes a checkpoint of the first one all there is.
        """
        if self.world == 1 or self.sharded:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def accumulating(
        self, forward: Callable[[Any], Any], model: Any, step_follows: bool
    ) -> AbstractContextManager[Any]:
        """Around a batch: only where a step follows do the gradients of all meet."""
        if self.sharded:
            model.set_requires_gradient_sync(step_follows)
        elif not step_follows and isinstance(forward, DistributedDataParallel):
            return forward.no_sync()
        return nullcontext()

    def share_buffers(self, model: torch.nn.Module) -> None:
        """Let every rank have the first one's buffers, as ddp does by itself before a step."""
        if self.sharded and self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def join(settings: DistributedSettings, device: torch.device) -> Ranks:
    """Find the others by what the launcher has put into the environment.

    Raises torch's DistError where they do not come.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if world == 1:
        return Ranks()
    if not dist.is_initialized():
        cuda = device.type == "cuda"
        own = device if cuda else None  # else NCCL guesses, and may guess the same for all
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE, device_id=own)
    host = dist.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(rank, world, local_rank, settings.strategy, host)


def leave() -> None:
    """Part from the others, who may be gone already."""
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The device of this rank, of those that its machine has."""
    if device.type != "cuda":
        return device
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(torch.cuda.device_count(), 1)
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def unused(model: torch.nn.Module) -> list[str]:
    """Parameters that are to be trained and got no gradient by the backward pass just now."""
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def lost_the_others(error: BaseException) -> bool:
    """Whether an error only says that another rank has gone, which has an error of its own."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("gloo", "nccl", "connection closed by peer", "connection reset")
    )


def on_cpu(result: Any) -> Any:
    """What a model's validate returned, as it can be sent: tensors off their device and graph."""
    if isinstance(result, torch.Tensor):
        return result.detach().cpu()
    if isinstance(result, Mapping):
        return {k: on_cpu(v) for k, v in cast("Mapping[str, Any]", result).items()}
    if isinstance(result, tuple | list):
        return tuple(on_cpu(v) for v in cast("tuple[Any, ...]", result))
    return result
