"""Checkpoints of other programs: what is in one, and what of it a training can take over."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tsuzuku.core.checkpoint_files import sha256_of
from tsuzuku.core.errors import CorruptCheckpoint
from tsuzuku.core.pickle_outline import Stored, Unopened
from tsuzuku.core.tensor_files import TensorFile, open_tensors, unopened_in
from tsuzuku.core.trees import Tree, is_list, is_tree

Format = Literal["checkpoint", "lightning", "weights", "safetensors"]
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
WEIGHTS = ("model_state_dict", "state_dict", "model", "model_state", "net", "network", "weights")
OPTIMIZERS = ("optimizer_state_dict", "optimizer_states", "optimizer", "optimizer_state", "optim")
SCHEDULERS = ("scheduler_state_dict", "lr_schedulers", "scheduler", "lr_scheduler")
LISTED = 20
"""Classes that are named."""
MOST = 10**9
"""Epochs and steps beyond it are no count."""


@dataclass(frozen=True)
class ForeignFile:
    """A file that a training can begin from."""

    path: Path
    size: int
    format: Format
    weights: dict[str, Stored]
    """In the file's own order."""
    epoch: int | None = None
    """Completed epochs, as far as the file tells."""
    midway: bool = False
    """Whether it was saved within the epoch after those."""
    global_step: int | None = None
    optimizer: Optimizer | None = None
    scheduler: bool = False
    """Whether it has a schedule's state."""
    model_name: str | None = None
    dataset_name: str | None = None
    unopened: tuple[str, ...] = ()
    """Classes whose objects are left out, since opening them would run code."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def origin(self) -> str:
        """How runs that began from it name it as their parent."""
        return f"imports/{self.name}"


@dataclass(frozen=True)
class Optimizer:
    """An optimizer's state: of which kind, and of each parameter in order what is kept."""

    kind: Literal["AdamW", "Adam", "Adam or AdamW", "SGD"]
    states: dict[int, Tree] = field(default_factory=dict[int, Tree])
    """By the parameter's number: tensors (`Stored`) and numbers."""
    count: int = 0
    """Parameters."""

    def is_of(self, kind: str) -> bool:
        return kind in self.kind.split(" or ")


def look(path: Path) -> ForeignFile:
    """What is in a file, without torch; nothing of it is run.

    Raises CorruptCheckpoint with the one reason why it cannot be used.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise CorruptCheckpoint(f"{path.name} cannot be read: {error.strerror or error}.") from None
    found = _looked_at(path, state.st_ino, state.st_size, state.st_ctime_ns)
    if isinstance(found, CorruptCheckpoint):
        raise CorruptCheckpoint(found.detail, found.hint, code=found.code)
    return found


def outlined(path: Path) -> Tree | None:
    """What a sidecar would say of a file that lacks `epoch` or `config`, or is none of torch's:
    None for one that has them, of which more can be said by opening it."""
    try:
        contents = open_tensors(path).contents
        if is_tree(contents) and {"model_state_dict", "epoch", "config"} <= contents.keys():
            return None
        found = look(path)
    except CorruptCheckpoint:
        return None
    return {
        "name": path.name,
        "size": found.size,
        "sha256": sha256_of(path),
        "epoch": found.epoch,
        "global_step": found.global_step,
        "metadata": {"format": found.format, "left_out": ", ".join(found.unopened) or None},
        "tensors": {k: [v.dtype, list(v.shape)] for k, v in found.weights.items()},
    }


@functools.lru_cache(256)
def _looked_at(
    path: Path, _inode: int, size: int, _changed: int
) -> ForeignFile | CorruptCheckpoint:
    try:
        return described(open_tensors(path), size)
    except CorruptCheckpoint as error:  # kept as well: a page asks again and again
        return error


def described(file: TensorFile, size: int) -> ForeignFile:
    """What `look` says of an opened file."""
    contents, path = file.contents, file.path
    if not is_tree(contents):
        _refuse_object(path, contents)
    if {"parts", "sharded_tensors"} <= contents.keys():
        raise CorruptCheckpoint(
            f"{path.name} has its tensors in parts, which belong to the run that saved it.",
            "`tsuzuku gather` makes one file of it there.",
        )
    if path.suffix == ".safetensors":
        return ForeignFile(path, size, "safetensors", _weights(path, contents))
    key = next((k for k in WEIGHTS if _has_tensors(contents.get(k))), None)
    if key is None:
        bare = {k: v for k, v in contents.items() if isinstance(v, Stored)}
        if not bare or any(is_tree(v) for v in contents.values()):
            known = ", ".join(WEIGHTS[:3])
            raise CorruptCheckpoint(
                f"{path.name} holds no weights: it has none of {known}, and is none itself."
                + _whole_model(contents)
            )
        return ForeignFile(path, size, "weights", _weights(path, contents))
    lightning = "pytorch-lightning_version" in contents
    epoch, midway = _lightning_epoch(contents) if lightning else (_count(contents, "epoch"), False)
    optimizer = _optimizer(contents)
    told = epoch is not None or optimizer is not None
    return ForeignFile(
        path,
        size,
        "lightning" if lightning else "checkpoint" if told else "weights",
        _weights(path, contents[key]),
        epoch=epoch,
        midway=midway,
        global_step=_count(contents, "global_step"),
        optimizer=optimizer,
        scheduler=any(contents.get(k) for k in SCHEDULERS),
        model_name=_word(contents, "model_name"),
        dataset_name=_word(contents, "dataset_name"),
        unopened=tuple(unopened_in(contents)[:LISTED]),
    )


def _has_tensors(part: Any) -> bool:
    return is_tree(part) and any(isinstance(v, Stored | Unopened) for v in part.values())


def _weights(path: Path, state: Tree) -> dict[str, Stored]:
    for name, value in state.items():
        if isinstance(value, Unopened):
            raise CorruptCheckpoint(
                f"{path.name} was refused: the weights {str(name)[:80]!r} are of "
                f"{value.name[:80]}, which is not opened.",
                "Save them anew where you trust the file: `state = {k: v.detach().clone() for "
                "k, v in state.items()}`.",
                code="unsafe_checkpoint",
            )
        if not isinstance(value, Stored):
            raise CorruptCheckpoint(
                f"{path.name} was refused: the weights {str(name)[:80]!r} are no tensor."
            )
    if not state:
        raise CorruptCheckpoint(f"{path.name} holds no weights.")
    return {str(name): value for name, value in state.items()}


def _refuse_object(path: Path, contents: Any) -> None:
    if isinstance(contents, Unopened):
        raise CorruptCheckpoint(
            f"{path.name} was refused: it is a whole object of {contents.name[:80]}, and opening "
            "it would run its code.",
            "Where you trust it, save its weights alone: `torch.save(torch.load(FILE, "
            "weights_only=False).state_dict(), NEW)`.",
            code="unsafe_checkpoint",
        )
    raise CorruptCheckpoint(f"{path.name} holds a {type(contents).__name__}, not a checkpoint.")


def _whole_model(contents: Tree) -> str:
    found = next((v for k in WEIGHTS if isinstance(v := contents.get(k), Unopened)), None)
    return (
        f" Its model is a whole object of {found.name[:80]}; save its state_dict." if found else ""
    )


def _lightning_epoch(contents: Tree) -> tuple[int | None, bool]:
    """Completed epochs, and whether the file was saved within the next one.

    Before version 1.6 `epoch` counts the completed ones. Since then it is the number of the
    current one from 0, which callbacks see before it is counted as completed; what has become of
    it is in `loops`. A file without them was saved at an epoch's end, as Lightning does by itself.
    """
    epoch = _count(contents, "epoch")
    if epoch is None:
        return None, False
    fit_loop = _inner(contents, "loops", "fit_loop")
    progress = _inner(fit_loop, "epoch_progress", "current")
    ready, processed = _count(progress, "ready"), _count(progress, "processed")
    if ready is None or processed is None:
        version = str(contents.get("pytorch-lightning_version"))
        parts = [int(word) for word in version.split(".")[:2] if word.isdigit()]
        return (epoch if parts < [1, 6] else epoch + 1), False
    if ready <= processed:  # nothing is under way: between two epochs, or in hooks at the end
        return processed, False
    batches = _inner(fit_loop, "epoch_loop.batch_progress")
    if batches.get("is_last_batch") is True:  # all of its steps are done, only hooks are not
        return processed + 1, False
    begun = _count(_inner(batches, "current"), "processed") or 0
    return processed, begun > 0


def _inner(tree: Tree, *keys: str) -> Tree:
    for key in keys:
        value = tree.get(key)
        tree = value if is_tree(value) else {}
    return tree


def _count(tree: Tree, key: str) -> int | None:
    value = tree.get(key)
    return value if type(value) is int and 0 <= value < MOST else None


def _word(contents: Tree, key: str) -> str | None:
    for tree in (_inner(contents, "config"), contents):
        value = tree.get(key)
        if isinstance(value, str) and 0 < len(value) <= 100:
            return value
    return None


def _optimizer(contents: Tree) -> Optimizer | None:
    """An optimizer's state, if it is one of a kind that is known, with one group of parameters."""
    found: Any = next((contents[k] for k in OPTIMIZERS if contents.get(k)), None)
    if is_list(found):
        found = found[0] if len(found) == 1 else None
    if not is_tree(found) or not is_tree(found.get("state")):
        return None
    groups: Any = found.get("param_groups")
    # with several groups the order of the parameters is not that of the model
    if not is_list(groups) or len(groups) != 1 or not is_tree(groups[0]):
        return None
    group, states = groups[0], found["state"]
    numbers: Any = group.get("params")
    if not is_list(numbers) or len(numbers) > MOST:
        return None
    numbered: dict[Any, int] = {n: i for i, n in enumerate(numbers) if isinstance(n, int)}
    if len(numbered) != len(numbers) or not set(states) <= set(numbered):
        return None
    if not states or not all(is_tree(one) for one in states.values()):
        return None
    kind = _kind(group, set[str]().union(*states.values()))
    ordered: dict[int, Tree] = {numbered[n]: one for n, one in states.items()}
    return Optimizer(kind, ordered, len(numbers)) if kind else None


def _kind(group: Tree, kept: set[str]) -> Any:
    """The optimizer that keeps such things: Adam's kinds differ in one word of newer versions."""
    if kept == {"momentum_buffer"}:
        return "SGD" if not group.get("nesterov") else None
    if kept != {"step", "exp_avg", "exp_avg_sq"} or group.get("amsgrad"):
        return None
    decoupled = group.get("decoupled_weight_decay")
    if isinstance(decoupled, bool):
        return "AdamW" if decoupled else "Adam"
    return "Adam or AdamW"
