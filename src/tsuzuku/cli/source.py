"""Where commands get what they show: the workspace here, or a server's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tsuzuku.core.answers import CheckpointInfo, Progress, Pruned, RunInfo
from tsuzuku.core.downloadable import Making
from tsuzuku.core.lineage_answers import Lineage
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.rank_answers import Placement, RankLog
from tsuzuku.core.trees import Tree


class Onto(NamedTuple):
    """What a resume is to be with; None is what the checkpoint or the file says."""

    model: str | None = None
    dataset: str | None = None
    fine_tune: bool | None = None
    """Whether only the weights come along."""


"""Of a model and a data set, where a file does not say them."""


class Source(Protocol):
    """`Local` and `Remote` are the two. Methods that return an int show what they do themselves,
    and return the command's exit code."""

    def runs(self, model: str | None, dataset: str | None, status: str | None) -> list[RunInfo]: ...

    def lineage(self, model: str | None, dataset: str | None) -> Lineage: ...

    def rebuild(self) -> tuple[int, list[str]]:
        """Make the database again: the number of runs, and a sentence for each left out."""
        ...

    def active(self) -> list[tuple[RunInfo, Progress]]:
        """The runs that are being trained."""
        ...

    def ranks(self, run_id: str | None) -> Placement:
        """Of a run, else of the one that is being trained, or was last."""
        ...

    def rank_log(self, run_id: str | None, rank: int, tail: int) -> RankLog: ...

    def checkpoints(
        self, model: str | None, dataset: str | None, run_id: str | None
    ) -> list[CheckpointInfo]: ...

    def inspect(self, name: str) -> Tree:
        """What a sidecar holds."""
        ...

    def verify(self, names: Sequence[str]) -> list[Tree]:
        """For each `path`, `ok`, and `checked` or `error`."""
        ...

    def gather(self, names: Sequence[str]) -> list[Tree]:
        """For each `path`, `ok`, and `gathered` (else it was one file before) and `size`, or
        `error`."""
        ...

    def prune(self, dry: bool) -> Pruned: ...

    def export(self, name: str, kind: str, half: bool, target: Path) -> Tree:
        """Write a file here: `path`, `size`, `sha256`, `format`, `half`, `report`."""
        ...

    def evaluate(self, name: str, dataset: str | None) -> Tree:
        """`metrics`."""
        ...

    def predict(self, name: str, inputs: Sequence[str], folder: Path) -> list[Tree]:
        """For each its `input` and its `outputs`: values, or the paths of files in `folder`."""
        ...

    def train(
        self, model: str, dataset: str, words: list[str], fresh: bool, checkpoint: str | None
    ) -> int: ...

    def resume(self, target: str, words: list[str], onto: Onto) -> int: ...

    def preview(self, target: str, words: list[str], onto: Onto) -> Preview: ...

    def stop(self, run_id: str | None) -> int: ...

    def follow(self, run_id: str | None) -> int: ...

    def download(self, name: str) -> int: ...

    def make(self, making: Making, output: Path | None) -> tuple[str, str]:
        """Make a data set: where it is, and the `dataset.path` to train on it with."""
        ...
