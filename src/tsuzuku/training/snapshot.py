"""One memory copy of a training state into buffers that are kept and reused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch

from tsuzuku.core.trees import is_tree


class Snapshot:
    """Copies trees of containers and tensors to host memory.

    The step loop pays for one copy into memory that is already there: fresh memory would cost
    page faults, several times as much. Tensors that share memory (tied weights) share it in the
    copy too. Every copy is compact, whatever it was a view of.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[Any, ...], torch.Tensor] = {}

    def take(self, tree: Any) -> tuple[Any, torch.cuda.Event | None]:
        """A copy of `tree`, and on CUDA the event after which its contents are there.

        The copy is valid until the next call.
        """
        sources: list[torch.Tensor] = []
        targets: list[torch.Tensor] = []
        used: dict[tuple[Any, ...], torch.Tensor] = {}
        copy = self._copy(tree, (), used, sources, targets)
        self._buffers = used
        event = None
        with torch.no_grad():
            if any(s.is_cuda for s in sources):
                # pinned and in stream order: the next optimizer step waits for it on the device
                for target, source in zip(targets, sources, strict=True):
                    target.copy_(source, non_blocking=True)
                event = torch.cuda.Event()
                event.record()
            elif sources:
                torch._foreach_copy_(targets, sources)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        return copy, event

    def _copy(
        self,
        tree: Any,
        path: tuple[Any, ...],
        used: dict[tuple[Any, ...], torch.Tensor],
        sources: list[torch.Tensor],
        targets: list[torch.Tensor],
    ) -> Any:
        if isinstance(tree, torch.Tensor):
            source = tree.detach()
            shape = (tuple(source.shape), source.dtype, source.device)
            same = (source.data_ptr(), source.stride(), *shape)
            if source.numel() and (shared := used.get(same)) is not None:
                return shared
            buffer = self._buffer(path, shape, source)
            # the second key keeps the buffer for the next time, when addresses may differ
            used[same] = used[(path, *shape)] = buffer
            sources.append(source)
            targets.append(buffer)
            return buffer
        if is_tree(tree):
            items = tree.items()
            return {k: self._copy(v, (*path, k), used, sources, targets) for k, v in items}
        if isinstance(tree, list | tuple):
            parts = cast("list[Any]", tree)
            copies = [
                self._copy(v, (*path, i), used, sources, targets) for i, v in enumerate(parts)
            ]
            return tuple(copies) if isinstance(tree, tuple) else copies
        return tree

    def _buffer(
        self, path: tuple[Any, ...], shape: tuple[Any, ...], source: torch.Tensor
    ) -> torch.Tensor:
        kept = self._buffers.get((path, *shape))
        if kept is not None:
            return kept
        return torch.empty(
            source.shape, dtype=source.dtype, device="cpu", pin_memory=source.is_cuda
        )


def tensors_in(tree: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a tree by its path (`optimizer_state_dict.state.0.exp_avg`)."""
    found: dict[str, torch.Tensor] = {}
    _collect(tree, path, found)
    return found


def _collect(tree: Any, path: str, found: dict[str, torch.Tensor]) -> None:
    if isinstance(tree, torch.Tensor):
        found[path] = tree
        return
    pairs: Iterable[tuple[Any, Any]] = ()
    if is_tree(tree):
        pairs = tree.items()
    elif isinstance(tree, list | tuple):
        pairs = enumerate(cast("list[Any]", tree))
    for key, value in pairs:
        _collect(value, f"{path}.{key}" if path else str(key), found)
