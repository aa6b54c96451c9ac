"""Which weights of a file are which of a model, by their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile, and DataParallel and DDP, put before names."""
NAMED = 3
"""Names that a sentence lists."""


@dataclass(frozen=True)
class Fit:
    """The model's names with those of the file, and what is without a counterpart."""

    names: dict[str, str]
    missing: list[str]
    """Names of the model that the file lacks."""
    unexpected: list[str]
    """Names of the file that the model lacks."""

    @property
    def whole(self) -> bool:
        return not self.missing and not self.unexpected


def fit(theirs: Collection[str], own: Collection[str]) -> Fit:
    """The best of: the names as they are, without wrappers, without or with a common prefix."""
    bare = {_unwrapped(name): name for name in theirs}
    if len(bare) != len(theirs):
        bare = {name: name for name in theirs}
    candidates = [{name: name for name in theirs}, bare]
    for prefix in _prefixes(bare, own):
        stripped = {n.removeprefix(prefix) if n.startswith(prefix) else n: n for n in bare}
        if len(stripped) == len(bare):
            candidates.append({name: bare[old] for name, old in stripped.items()})
    candidates += [
        {prefix + name: old for name, old in bare.items()} for prefix in _prefixes(own, bare)
    ]
    fits = [_compared(candidate, own) for candidate in candidates]
    return max(fits, key=lambda f: (f.whole, len(f.names), -len(f.unexpected)))


def _unwrapped(name: str) -> str:
    """A name without what compiling or wrapping has put into it."""
    while name.startswith(WRAPPERS):
        name = name.removeprefix("_orig_mod.").removeprefix("module.")
    return name.replace("._orig_mod.", ".")


def _prefixes(longer: Collection[str], shorter: Collection[str]) -> list[str]:
    """What stands before a name of `shorter` in `longer`."""
    names = list(shorter)
    ends = [
        name.removesuffix(known)
        for known in [*names[:1], *names[-1:]]  # one of them may be what is missing
        for name in longer
        if name.endswith("." + known)
    ]
    return list(dict.fromkeys(ends))[:NAMED]


def _compared(candidate: dict[str, str], own: Collection[str]) -> Fit:
    mine = set(own)
    return Fit(
        {name: candidate[name] for name in own if name in candidate},
        [name for name in own if name not in candidate],
        [old for name, old in candidate.items() if name not in mine],
    )


def some(names: Collection[str]) -> str:
    """The first few of some names, and how many there are."""
    listed = ", ".join(repr(name[:80]) for name in list(names)[:NAMED])
    more = len(names) - NAMED
    return f"{listed} and {more} more" if more > 0 else listed
