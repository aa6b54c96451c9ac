"""Whether an exported graph computes what its model computes, at many sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tsuzuku.core.errors import TsuzukuError, WrongInput
from tsuzuku.core.trees import Tree
from tsuzuku.training.graphs import Run, Sizes
from tsuzuku.training.networks import Network, Outputs
from tsuzuku.training.plugins import sentence

TOLERANCE = 1e-4
"""An output may be off by this, or by this part of itself: graphs add up in another order."""

HALF_TOLERANCE = 2e-2
"""With weights of 16 bits an output may be off by this part of the largest one (at least of 1).
Rounding moves a weight by 2**-11 of itself at most; layer by layer this adds up."""

SIZES = ((1, 1.0), (2, 0.5), (3, 1.5), (5, 2.3), (1, 3.1), (2, 0.27))
"""Batch size, and length as a part of the example's; odd ones, so that padding shows."""


@dataclass(frozen=True)
class Case:
    """Inputs on which a model and its graph are compared."""

    inputs: tuple[Tensor, ...]
    optional: bool = False
    """Much shorter than the example: a graph may refuse it, but not be wrong."""


def cases(network: Network, sizes: Sizes) -> Iterator[Case]:
    """The example; noise of its shape; other batches and lengths; the shortest; and other sizes
    along the axes that are not free, which most models refuse. The same at every call."""
    batch = next((s for s, name in sizes.names.items() if name == "batch"), None)
    lengths = [s for s in sizes.examples if s is not batch]
    generator = torch.Generator().manual_seed(0)

    def made(changed: Mapping[Any, int], optional: bool = False) -> Case:
        chosen = {**sizes.examples, **changed}
        shapes = [sizes.shape(n, chosen) for n in range(len(network.example))]
        return Case(_noise(network.example, shapes, sizes, chosen, generator), optional)

    yield Case(network.example)
    yield made({})
    for turn, (count, _) in enumerate(SIZES):
        changed = {} if batch is None else {batch: count}
        for number, symbol in enumerate(lengths):
            part = SIZES[(turn + number) % len(SIZES)][1]
            wanted = round(part * sizes.examples[symbol]) // 2 * 2 + turn % 2
            changed[symbol] = max(wanted, sizes.least[symbol])
        yield made(changed)
    for symbol in lengths:
        # torch.export has conditions beside the least size, which PT2 files check
        yield made({symbol: sizes.least[symbol]}, optional=True)
        yield made({symbol: max(1, sizes.least[symbol] // 2)}, optional=True)
    for shapes in _frozen(network.example, sizes):
        yield Case(_noise(network.example, shapes, sizes, sizes.examples, generator))


def compared(network: Network, run: Run, sizes: Sizes, rounded: Network | None = None) -> Tree:
    """Compare a graph with its model at every case that the model itself takes.

    With `rounded`, the graph is to be that network, and that one not far from the model. The
    report has `tolerance`, `max_abs_diff`, `max_rel_diff` (both 0 if nothing differs), `axes`,
    the `least` of each, which much shorter cases were `refused`, `cases` and, with `rounded`,
    `rounding`. Raises TsuzukuError (`export_differs`).
    """
    exact = rounded or network
    found: list[Tree] = []
    off: list[float] = []
    refused: list[Tree] = []
    for case in cases(network, sizes):
        try:
            original = network.run(case.inputs)
            expected = exact.run(case.inputs) if rounded else original
        except Exception:
            continue  # not a size for this model
        if not found:
            _require_calm(network, case, original)
        try:
            outputs = run(case.inputs)
        except Exception as error:
            if case.optional:
                refused.append(_shapes(network, case))
                continue
            raise _refuses(network, case, error) from error
        found.append(_case(network, case, expected, outputs))
        if rounded:
            off += [_rounding(network, case, pair) for pair in zip(original, expected, strict=True)]
    report: Tree = {
        "tolerance": TOLERANCE,
        **{key: max(o[key] for c in found for o in c["outputs"].values()) for key in _KEYS},
        "axes": _axes(network, sizes),
        "least": {n: sizes.least[s] for s, n in sizes.names.items() if n != "batch"},
        "refused": refused,
        "cases": found,
    }
    if rounded:
        report["rounding"] = {"tolerance": HALF_TOLERANCE, "max_diff": max(off, default=0.0)}
    return report


_KEYS = ("max_abs_diff", "max_rel_diff")


def _noise(
    example: Sequence[Tensor],
    shapes: Sequence[Sequence[int]],
    sizes: Sizes,
    chosen: Mapping[Any, int],
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Inputs of other shapes with values such as the example's.

    Numbers are noise, in the example's range unless that is a single value. Whole numbers are
    drawn from the example's; if their largest is the size of a free axis, they are lengths along
    it, which are repeated and scaled with it.
    """
    lengths = {s: size for s, size in sizes.examples.items() if sizes.names[s] != "batch"}
    made: list[Tensor] = []
    for tensor, shape in zip(example, shapes, strict=True):
        if tensor.is_floating_point():
            low, high = (float(tensor.min()), float(tensor.max())) if tensor.numel() else (0.0, 0.0)
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
            drawn = low + drawn * (high - low) if low < high else low + 2 * drawn - 1
            made.append(drawn.to(tensor.dtype))
            continue
        values, count = tensor.reshape(-1), torch.Size(shape).numel()
        largest = int(values.max()) if values.numel() and tensor.dtype != torch.bool else 0
        axis = next((s for s, size in lengths.items() if size == largest), None)
        if axis is not None:
            repeated = values[torch.arange(count) % len(values)].double()
            scaled = (repeated * chosen[axis] / largest).round().clamp(1, chosen[axis])
            made.append(scaled.to(tensor.dtype).reshape(shape))
        else:
            at = torch.randint(max(1, len(values)), (count,), generator=generator)
            made.append(values[at].reshape(shape) if len(values) else tensor.new_zeros(shape))
    return tuple(made)


def _frozen(example: Sequence[Tensor], sizes: Sizes) -> Iterator[list[list[int]]]:
    """Shapes with one axis doubled that is not free; the first axes that are alike together."""
    shapes = [list(tensor.shape) for tensor in example]
    for number, free in enumerate(sizes.shapes):
        for axis, size in enumerate(free):
            if not isinstance(size, int):
                continue
            other = [list(shape) for shape in shapes]
            for shape in other if axis == 0 else [other[number]]:
                if len(shape) > axis and shape[axis] == size:
                    shape[axis] = 2 * size
            yield other


def _case(network: Network, case: Case, expected: Outputs, outputs: Outputs) -> Tree:
    measured: Tree = {}
    for name, ours, theirs in zip(network.outputs, expected, outputs, strict=True):
        if ours.shape != theirs.shape:
            how = f"has the shape {list(theirs.shape)} instead of {list(ours.shape)}"
            raise _differs(network, case, name, how)
        wide, other = ours.double(), theirs.double()
        same = (wide == other) | (wide.isnan() & other.isnan())
        apart = torch.where(same, 0.0, (other - wide).abs())
        part = apart / wide.abs().clamp_min(TOLERANCE)
        largest = float(apart.max()) if apart.numel() else 0.0
        bound = TOLERANCE * wide.abs().clamp_min(1.0) if ours.is_floating_point() else 0.0
        # a NaN or an infinity in one of them is no number, and is beyond every bound
        if not bool((same | (apart <= bound)).all()):
            raise _differs(network, case, name, f"is off by {largest:.3g} (allowed: {TOLERANCE:g})")
        relative = float(part.max()) if part.numel() else 0.0
        measured[name] = {"max_abs_diff": largest, "max_rel_diff": relative}
    return {"inputs": _shapes(network, case), "outputs": measured}


def _rounding(network: Network, case: Case, pair: tuple[Tensor, Tensor]) -> float:
    """How far rounding the weights moves an output, as a part of its largest value."""
    original, rounded = (tensor.double() for tensor in pair)
    if not pair[0].is_floating_point() or original.shape != rounded.shape or not original.numel():
        return 0.0
    finite = original[original.isfinite()]
    scale = max(1.0, float(finite.abs().max()) if finite.numel() else 0.0)
    apart = float(torch.where(original == rounded, 0.0, (original - rounded).abs()).max()) / scale
    if not apart <= HALF_TOLERANCE:
        raise TsuzukuError(
            f"The export was given up: with weights of 16 bits, an output for inputs of "
            f"{_shapes(network, case)} is off by {apart:.2g} of its largest value "
            f"(allowed: {HALF_TOLERANCE:g}).",
            "Leave --half out.",
            code="export_differs",
        )
    return apart


def _require_calm(network: Network, case: Case, once: Outputs) -> None:
    for name, first, second in zip(network.outputs, once, network.run(case.inputs), strict=True):
        if not torch.allclose(first.double(), second.double(), TOLERANCE, TOLERANCE, True):
            raise WrongInput(
                f"{network.plugin.label}: {name!r} of export_forward is another one at every "
                "call, so that nothing can be compared.",
                "Leave chance out of export_forward.",
                code="not_exportable",
            )


def _axes(network: Network, sizes: Sizes) -> Tree:
    """For each input its axes: a name for a free one, else its size."""
    return {
        name: [size if isinstance(size, int) else sizes.named(str(size)) for size in shape]
        for name, shape in zip(network.inputs, sizes.shapes, strict=True)
    }


def _shapes(network: Network, case: Case) -> Tree:
    return {n: list(x.shape) for n, x in zip(network.inputs, case.inputs, strict=True)}


def _differs(network: Network, case: Case, name: str, how: str) -> TsuzukuError:
    return TsuzukuError(
        f"The export was given up: for inputs of {_shapes(network, case)} its {name!r} {how}.",
        "Something that Python decides (an if, a size taken as a number) was frozen at the "
        "example's; say it with operations on tensors.",
        code="export_differs",
    )


def _refuses(network: Network, case: Case, error: Exception) -> TsuzukuError:
    said = sentence(error)[:200]
    return TsuzukuError(
        f"The export was given up: it does not take inputs of {_shapes(network, case)}, which the "
        f"model takes ({said}).",
        "A size was frozen; the example of export_inputs() needs at least 2 along every free axis.",
        code="export_differs",
    )
