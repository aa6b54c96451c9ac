"""BatchNorm over a batch whose parts are in several ranks."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor
from torch.nn.modules.batchnorm import (
    _BatchNorm as BatchNorm,  # pyright: ignore[reportPrivateUsage]
)

from tsuzuku.training.distributed import Ranks


def with_whole_batchnorm(
    model: torch.nn.Module, ranks: Ranks, device: torch.device
) -> torch.nn.Module:
    """`model` with each BatchNorm replaced by one over all ranks; its state has the same names.

    On devices that is torch's SyncBatchNorm, which does not work on CPUs.
    """
    if ranks.world == 1:
        return model
    if device.type != "cpu":
        converter: Any = torch.nn.SyncBatchNorm
        return cast(torch.nn.Module, converter.convert_sync_batchnorm(model))
    for module in list(model.modules()):
        if isinstance(module, BatchNorm) and not isinstance(module, WholeBatchNorm):
            module.__class__ = WholeBatchNorm
            cast(WholeBatchNorm, module).group = ranks.host
    return model


class _Sum(torch.autograd.Function):
    """The sum over all ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return _summed(mine, group)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _summed(grads[0], ctx.group), None


def _summed(mine: Tensor, group: Any) -> Tensor:
    total = mine.clone()
    distributed: Any = torch.distributed
    distributed.all_reduce(total, group=group)
    return total


class WholeBatchNorm(BatchNorm):
    """As BatchNorm (Ioffe and Szegedy 2015), with mean and variance of every rank's samples."""

    group: Any = None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions (got {input.dim()})")

    def forward(self, input: Tensor) -> Tensor:
        """`input` [N, C, …] normalized over all dimensions but C."""
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        dims = [d for d in range(input.dim()) if d != 1]
        values = input.float()
        count = values.new_full((1,), values.numel() / values.shape[1])
        mine = torch.cat([values.sum(dims), values.square().sum(dims), count])
        sums = cast(Tensor, cast(Any, _Sum).apply(mine, self.group))
        n = sums[-1]
        mean, square = (sums[:-1] / n).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        self._track(mean.detach(), variance.detach(), float(n.detach()))
        shape = [1, -1, *[1] * (input.dim() - 2)]
        scale = torch.rsqrt(variance + self.eps)
        result = (values - mean.view(shape)) * scale.view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        seen = self.num_batches_tracked
        if seen is not None:
            seen.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(seen or 1)
        unbiased = variance * count / max(count - 1, 1)
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(new.to(running.dtype), share)
