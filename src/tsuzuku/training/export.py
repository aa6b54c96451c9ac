"""Weights and graphs for use elsewhere; none counts before it was compared."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

from tsuzuku import __version__
from tsuzuku.core import checkpoint_files
from tsuzuku.core.checkpoint_files import temporary
from tsuzuku.core.errors import CorruptCheckpoint, DiskFull, TsuzukuError, WrongInput
from tsuzuku.core.settings import RunSettings
from tsuzuku.core.trees import Tree, is_tree
from tsuzuku.core.workspace import sync_folder, write_atomically
from tsuzuku.training import graphs, parity
from tsuzuku.training.networks import network_of
from tsuzuku.training.onnx_files import PACKAGES, require_packages
from tsuzuku.training.opening import load
from tsuzuku.training.plugins import Plugin, sentence

FORMATS = ("safetensors", *graphs.KINDS)

HALF_STEP = 2.0**-11
"""Rounding to half precision moves a value by at most this part of it,"""
HALF_SMALLEST = 2.0**-25
"""and values near 0 by at most this."""


def final_weights(
    weights: Mapping[str, Any], path: Path, *, half: bool, settings: RunSettings
) -> None:
    """Write a model's weights as safetensors, in half precision on request; all or nothing."""
    note = _note(settings.model_name, settings.dataset_name, settings.model)
    _publish(_write(weights, temporary(path), note, half=half), path)


def export(
    checkpoint: Path,
    kind: str,
    output: Path,
    *,
    half: bool = False,
    opening: Callable[[], tuple[Plugin, torch.nn.Module]] | None = None,
) -> Tree:
    """Write a checkpoint to `output` in another format, read it back and compare.

    `safetensors` has the weights, the others a graph of the model that `opening` makes of the
    checkpoint. Answers `path, size, sha256, format, half, report`, which is also written to
    `<output>.json`. There is no file unless it is right. The report of weights has `tensors`, how
    many were compared, and `max_abs_diff`: 0 without `half`; see `parity.compared` for a graph's.

    Raises WrongInput (`unsupported_format`, `not_exportable`), CorruptCheckpoint,
    DiskFull, and TsuzukuError (`export_differs`, `write_failed`, `missing_package`).
    """
    _refuse(kind, output, graph=opening is not None)
    config, facts = _origin(checkpoint)
    # of this process, for others may export to the same place
    draft = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if kind in graphs.KINDS and opening is not None:
            note = facts | _identity(checkpoint) | {"half": half, "config": config}
            report = _graph(kind, draft, opening(), note)
        else:
            state: Mapping[str, Any] = load(checkpoint)["model_state_dict"]
            note = _note(config.get("model_name"), config.get("dataset_name"), config.get("model"))
            report = _compared(_write(state, draft, note, half=half), state, half=half)
        answer: Tree = {
            "path": str(output),
            "size": draft.stat().st_size,
            "sha256": checkpoint_files.sha256_of(draft),
            "format": kind,
            "half": half,
            "report": report,
        }
        _publish(draft, output)
        text = json.dumps(answer | facts, ensure_ascii=False, indent=1)
        write_atomically(output.with_name(f"{output.name}.json"), text)
    except (OSError, SafetensorError) as error:
        full = "No space left" in str(error) or getattr(error, "errno", 0) == errno.ENOSPC
        if full:
            raise DiskFull(f"There is no room for {output}.") from error
        raise TsuzukuError(f"{output} cannot be written: {error}.", code="write_failed") from error
    finally:
        draft.unlink(missing_ok=True)
    return answer


def _refuse(kind: str, output: Path, *, graph: bool) -> None:
    """Raise what can be said before anything is opened."""
    if kind not in FORMATS:
        raise WrongInput(
            f"{kind!r} is not a format to export to.",
            f"There are: {', '.join(FORMATS)}.",
            code="unsupported_format",
        )
    if output.suffix in checkpoint_files.SUFFIXES or output.is_dir():
        # its report would take the place of a checkpoint's sidecar
        raise WrongInput(
            f"{output} cannot be what is exported to.", f"Give a name that ends with .{kind}."
        )
    if kind in graphs.KINDS and not graph:
        raise WrongInput(
            f"{kind} holds a model's graph, and this checkpoint is of no run here, so that its "
            "model is not known.",
            "Use --format safetensors, which holds the weights.",
            code="unsupported_format",
        )
    if kind == "onnx":
        require_packages(*PACKAGES)


def _graph(kind: str, draft: Path, made: tuple[Plugin, torch.nn.Module], facts: Tree) -> Tree:
    """Write the graph of a model to `draft`, durably, and compare it; answers the report."""
    plugin, model = made
    network = network_of(plugin, model.cpu().eval().requires_grad_(False))
    rounded = network.rounded() if facts["half"] else None
    stored = rounded or network
    program, sizes = graphs.trace(stored)
    named = {k: getattr(network, k) for k in ("inputs", "outputs", "structure")}
    content = graphs.written(kind, stored, program, sizes, facts | named)
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    del content, program  # the file is read now as others will
    try:
        run = graphs.opened(kind, draft)
    except Exception as error:
        raise TsuzukuError(
            f"The export was given up: the file cannot be read back: {sentence(error)[:300]}",
            code="export_differs",
        ) from error
    return parity.compared(network, run, sizes, rounded)


def _origin(path: Path) -> tuple[Tree, Tree]:
    """The settings behind a checkpoint, and what a report says of where weights come from.

    Raises CorruptCheckpoint if the file is not what its sidecar says. Other programs' files have
    none.
    """
    facts: Tree = {"checkpoint": path.name, "tsuzuku_version": __version__}
    try:
        found = checkpoint_files.read(path)
    except CorruptCheckpoint as error:
        if error.code != "no_sidecar":
            raise
        return {}, facts
    checkpoint_files.check(found)
    facts |= {"run_id": found.run_id, "epoch": found.epoch, "global_step": found.global_step}
    config: Any = found.info.get("config")
    if not is_tree(config):
        config = {}
    facts |= {k: config[k] for k in ("model_name", "dataset_name") if k in config}
    return config, facts | {"source_sha256": found.info["sha256"]}


def _identity(path: Path) -> Tree:
    """What it takes to find a model's source again, and to use it just as the checkpoint."""
    info = checkpoint_files.read(path).info
    return {
        "plugins_sha256": info["metadata"].get("source_sha256") or {},
        "end_of_epoch": bool(info.get("end_of_epoch")),
    }


def _note(model_name: Any, dataset_name: Any, settings: Any) -> dict[str, str]:
    """What a file says of itself."""
    named = {"model_name": model_name, "dataset_name": dataset_name}
    note = {key: str(name) for key, name in named.items() if name}
    config = json.dumps(settings or {}, ensure_ascii=False, default=str)
    return {"format": "pt", **note, "config": config}


def _write(state: Mapping[str, Any], draft: Path, note: dict[str, str], *, half: bool) -> Path:
    """Write the tensors of `state` to `draft`, durably, tied ones once; returns `draft`."""
    weights: dict[str, torch.Tensor] = {}
    first: dict[Any, str] = {}
    note = dict(note)
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            continue  # what a module keeps by get_extra_state
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            note[name] = first[place]  # tied weights, as safetensors.torch.load_model reads them
            continue
        first[place] = name
        weights[name] = _compact(tensor) if half else tensor.detach().cpu().contiguous().clone()
    save_file(weights, str(draft), metadata=note)
    draft.chmod(0o666 & ~_umask())  # safetensors keeps it from everybody else
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    return draft


def _publish(draft: Path, path: Path) -> None:
    draft.replace(path)
    sync_folder(path.parent)


def _compared(file: Path, state: Mapping[str, Any], *, half: bool) -> Tree:
    """Compare what is in a file with every tensor of `state`; raises TsuzukuError if it differs."""
    largest, count = 0.0, 0
    opening: Any = safe_open  # its stubs say nothing
    with opening(str(file), framework="pt") as stored:
        written: set[str] = set(stored.keys())
        tied: dict[str, str] = stored.metadata() or {}
        for name, tensor in state.items():
            if not isinstance(tensor, torch.Tensor):
                continue
            source = name if name in written else tied.get(name)
            if source not in written:
                raise _differs(file, name, "is not in the file")
            largest = max(largest, _distance(file, name, tensor, stored.get_tensor(source), half))
            count += 1
    return {"tensors": count, "max_abs_diff": largest}


def _distance(
    file: Path, name: str, original: torch.Tensor, found: torch.Tensor, half: bool
) -> float:
    """The largest difference of two tensors; raises TsuzukuError unless rounding explains it."""
    original = original.detach().cpu().contiguous()
    if found.shape != original.shape:
        raise _differs(file, name, f"has the shape {list(found.shape)} in the file")
    if found.dtype == original.dtype:
        # bits, so that a NaN equals itself
        if _bits(found).equal(_bits(original)):
            return 0.0
        raise _differs(file, name, "has other values in the file")
    if not half or found.dtype != torch.float16:
        raise _differs(file, name, f"has the type {found.dtype} in the file")
    exact = original.double()
    apart = (found.double() - exact).abs()
    if not bool((apart <= exact.abs() * HALF_STEP + HALF_SMALLEST).all()):
        raise _differs(file, name, "is further off than half precision explains")
    return float(apart.max()) if apart.numel() else 0.0


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _differs(file: Path, name: str, how: str) -> TsuzukuError:
    return TsuzukuError(
        f"The export was given up: read back, {name!r} {how}.",
        f"Check the disk of {file.parent}.",
        code="export_differs",
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in half precision; whole numbers, and what half cannot hold, stay as they are."""
    copy = tensor.detach().cpu().contiguous().clone()
    if not copy.is_floating_point():
        return copy
    half = copy.half()
    return half if bool(torch.isfinite(half).all()) else copy
