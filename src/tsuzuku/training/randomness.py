"""Randomness as a function of position.

Nothing random is carried from step to step: before a batch is loaded, before a forward pass and
before anything else that may be random, Python, NumPy and torch are seeded from the run's seed and
the position in the run. So it does not matter which process loads a batch, how many there are, or
how often the run was interrupted.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch

Stream = Literal["init", "order", "split", "fetch", "forward", "validate", "fetch_validation"]
_STREAMS: dict[str, int] = {
    "init": 1,
    "order": 2,
    "split": 3,
    "fetch": 4,
    "forward": 5,
    "validate": 6,
    "fetch_validation": 7,
}
_MASK = (1 << 64) - 1


def position_seed(seed: int, stream: Stream, *coordinates: int) -> int:
    """A 64-bit seed for a position in a stream.

    Each coordinate goes through the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast
    Splittable Pseudorandom Number Generators", 2014), so that neighbours share nothing.
    """
    state = 0
    for value in (seed, _STREAMS[stream], *coordinates):
        state = mixed(state, value)
    return state


def mixed(state: int, coordinate: int) -> int:
    """`position_seed(s, x, a, b)` from `position_seed(s, x, a)` and `b`."""
    state = (state + 0x9E3779B97F4A7C15 + (coordinate & _MASK)) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


_torch_generator = torch.default_generator


def seed_all(value: int, device: torch.device | None = None) -> None:
    """Seed Python, NumPy and torch (and the generator of `device`) with a 64-bit `value`.

    About 9 µs; `torch.manual_seed` alone takes 280, because it prepares for every back-end that
    a machine might have.
    """
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)  # forgets the second half of a pair of normals, too
    _torch_generator.manual_seed(value)
    if device is not None and device.type != "cpu":
        _seed_device(value, device)


def _seed_device(value: int, device: torch.device) -> None:
    if device.type == "cuda":
        # torch's stubs say that an index is always there; for "cuda" it is None
        index: int | None = device.index
        if index is None:  # pyright: ignore[reportUnnecessaryComparison]
            index = torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)


def rng_state(device: torch.device) -> dict[str, Any]:
    """Every global generator's state in plain containers (a safety net, and for other programs)."""
    version, words, gauss = random.getstate()
    words_of_numpy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, cached = words_of_numpy
    state: dict[str, Any] = {
        "python": {
            "version": version,
            "words": torch.tensor(words, dtype=torch.int64),
            "gauss": gauss,
        },
        "numpy": {
            "kind": str(kind),
            "keys": torch.tensor(keys.tolist(), dtype=torch.int64),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached_gaussian": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Put every global generator into a state that `rng_state` returned."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    saved = state["numpy"]
    keys = saved["keys"].numpy().astype(np.uint32)
    np.random.set_state(
        (saved["kind"], keys, saved["position"], saved["has_gauss"], saved["cached_gaussian"])
    )
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
