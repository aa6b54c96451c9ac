"""Models larger than a device: every rank holds a part of each tensor (FSDP2).

Within a run each rank saves its own part of a checkpoint (`cut`), and any number of ranks takes out
of it what each of them needs. Where a checkpoint is to be one file, without a trace of how many
ranks there were, it is made of the parts later, or gathered tensor by tensor (`whole`), so that no
device ever holds more than one whole one beside its part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (  # pyright: ignore[reportMissingTypeStubs]
    fully_shard,  # pyright: ignore[reportUnknownVariableType]
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.settings import TrainingSettings
from tsuzuku.core.trees import is_tree
from tsuzuku.training.distributed import Ranks
from tsuzuku.training.part_files import Scattered
from tsuzuku.training.parted import TENSORS, description


def require_possible(training: TrainingSettings, from_file: bool) -> None:
    """Raise WrongInput for what a sharded training cannot do."""
    if training.precision == "16":
        raise WrongInput(
            "training.precision: 16 cannot be trained with distributed.strategy fsdp.", "Use bf16."
        )
    if from_file:
        raise WrongInput(
            "A file of another program cannot be begun from with distributed.strategy fsdp.",
            "Begin with strategy: ddp, and resume with fsdp from the first checkpoint.",
        )


def shard(model: torch.nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Let each rank keep its part of every parameter of `model`, in place.

    The elements of its outermost ModuleLists are gathered one at a time when they are computed;
    what is left, with the model itself.
    """
    mesh: DeviceMesh = init_device_mesh(device.type, (ranks.world,))
    shard_in_place: Any = fully_shard
    for block in blocks(model):
        shard_in_place(block, mesh=mesh)
    shard_in_place(model, mesh=mesh)
    if callable(getattr(model, "validate", None)):
        register_fsdp_forward_method(model, "validate")


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The elements of the outermost ModuleLists that share no parameter with anything else."""
    found = [block for block in _listed(model) if any(True for _ in block.parameters())]
    holders: dict[int, int] = {}
    for block in found:
        for parameter in {id(p) for p in block.parameters()}:
            holders[parameter] = holders.get(parameter, 0) + 1
    inside = {id(m) for block in found for m in block.modules()}
    for module in model.modules():
        if id(module) not in inside:
            for parameter in module.parameters(recurse=False):
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    return [b for b in found if all(holders[id(p)] == 1 for p in b.parameters())]


def _listed(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for child in module.children():
        if isinstance(module, torch.nn.ModuleList) and not isinstance(child, torch.nn.ModuleList):
            yield child
        else:
            yield from _listed(child)


def whole(tree: Any, *, keep: bool) -> Any:
    """`tree` with every sharded tensor gathered on the CPU.

    Every rank has to call it with the same tree; what comes out is only good with `keep`.
    """
    if isinstance(tree, DTensor):
        sharded: Any = tree.detach()
        gathered: torch.Tensor = sharded.full_tensor()
        return gathered.cpu() if keep else gathered.new_empty(0)
    if is_tree(tree):
        return {k: whole(v, keep=keep) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [whole(v, keep=keep) for v in cast("list[Any]", tree)]
        return tuple(parts) if isinstance(tree, tuple) else parts
    return tree


def cut(tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` without its sharded tensors, as `rest`, with the table of them that belongs into the
    file; beside it this rank's `pieces` of them by name, and the `offsets` at which they begin.

    Every rank gets the same names. Tied weights are one tensor with several places.
    """
    table: list[dict[str, Any]] = []
    known: dict[Any, dict[str, Any]] = {}
    made: dict[str, Any] = {"pieces": {}, "offsets": {}}

    def without(value: Any, path: list[Any]) -> Any:
        if isinstance(value, DTensor):
            begin, piece = _place(value, ".".join(map(str, path)))
            same = (piece.data_ptr(), piece.shape, piece.stride(), piece.dtype)
            if piece.numel() and same in known:
                known[same]["places"].append(path)
                return None
            name = ".".join(map(str, path))
            known[same] = description(name, [path], value)
            table.append(known[same])
            if piece.numel() or not value.numel():
                made["pieces"][name], made["offsets"][name] = piece, begin
            return None
        if is_tree(value):
            return {k: without(v, [*path, k]) for k, v in value.items()}
        if isinstance(value, list | tuple):
            inner = [without(v, [*path, i]) for i, v in enumerate(cast("list[Any]", value))]
            return tuple(inner) if isinstance(value, tuple) else inner
        return value

    return {"rest": {**without(tree, []), TENSORS: table}, **made}


def _place(tensor: DTensor, name: str) -> tuple[list[int], torch.Tensor]:
    """Where in the whole tensor this rank's piece begins, and that piece."""
    mesh, placements = tensor.device_mesh, tensor.placements
    if mesh.ndim != 1 or not placements[0].is_shard(0):
        raise TsuzukuError(
            f"{name} is not sharded by its first dimension, and cannot be saved in parts.",
            "Set training.distributed.sharded_save to false.",
            code="unsafe_state",
        )
    piece = cast(torch.Tensor, cast(Any, tensor).to_local()).detach()
    length, rank = tensor.shape[0], mesh.get_local_rank()
    # as torch.chunk has it: the last ones may be shorter, or empty
    first = min(rank * -(-length // mesh.size()), length)
    return [first, *[0] * (tensor.dim() - 1)], piece


def parts_of(state: Mapping[str, Any], model: torch.nn.Module) -> dict[str, Any]:
    """Of a whole `model_state_dict`, what this rank holds of it."""
    own = model.state_dict()
    return {name: _part(tensor, own.get(name)) for name, tensor in state.items()}


def moments_of(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Of a whole `optimizer_state_dict`, what this rank holds of it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    inner = cast("Mapping[int, Mapping[str, Any]]", state["state"])
    return {
        **state,
        "state": {
            index: {
                name: _part(value, parameters[index] if _shaped_like(value, parameters[index])
                            else None)
                for name, value in moments.items()
            }
            for index, moments in inner.items()
        },
    }  # fmt: skip


def _shaped_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor | Scattered) and value.shape == parameter.shape


def _part(tensor: Any, like: Any) -> Any:
    if isinstance(tensor, Scattered):
        if isinstance(like, DTensor) and like.shape == tensor.shape:
            return _read(tensor, like)
        tensor = tensor.whole()
    if not isinstance(like, DTensor) or not isinstance(tensor, torch.Tensor):
        return tensor
    mesh = like.device_mesh
    on_device = tensor.to(mesh.device_type)
    # every rank has read the same file: nothing has to be sent
    return distribute_tensor(on_device, mesh, like.placements, src_data_rank=None)


def _read(tensor: Scattered, like: DTensor) -> DTensor:
    """Of a tensor in parts, what this rank holds of it, whoever wrote it; nothing else is read."""
    begin, piece = _place(like, tensor.name)
    own = tensor.box(begin, piece.shape).to(like.device_mesh.device_type)
    return DTensor.from_local(
        own, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
