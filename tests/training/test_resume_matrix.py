"""Every component changed, one at a time: what the preview calls exact agrees to the bit."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from attempts import attempt, new_run, said
from torch.optim.lr_scheduler import ReduceLROnPlateau

from plain_plugins import CONFIG, NOISE, TINY, make_workspace
from tsuzuku.core import launch
from tsuzuku.core.finding import tip
from tsuzuku.core.preview import preview
from tsuzuku.core.preview_answers import Preview
from tsuzuku.core.resume import plan_resume
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.training.data import BatchKey, BatchLoader
from tsuzuku.training.trainer import Trainer
from tsuzuku.worker import session

ROWS = NOISE.replace(
    "        self.noise =",
    """        for path in sorted(Path(config["path"]).glob("*.txt")):
            row = np.array(path.read_text().split(), dtype=np.float32)
            self.x[int(path.stem) % count] = row
        self.noise =""",
).replace("import random", "import random\nfrom pathlib import Path", 1)
"""Samples of which some lie in files."""

BASE = (
    "num_epochs=4",
    "batch_size=4",
    "scheduler=cosine",
    "validation_split=0.1",
    "datasets.noise.path=data/rows",
)


@dataclass
class Seen:
    """A training as it was about to make its next step."""

    weights: Any
    moments: Any
    hyper: Any
    scaler: Any
    rates: list[float]
    batches: list[Any]
    """The rest of the epoch, and the first of the next: keys (samples and seeds)."""
    samples: list[Any]
    """Some samples, whatever their order."""
    settings: Any
    bad_validations: int


class Seeing(Trainer):
    """Looks instead of training."""

    seen: list[Seen]

    def train(self) -> Any:
        s = self.state
        optimizer = copy.deepcopy(s.optimizer.state_dict())
        groups = [
            {k: v for k, v in g.items() if k not in ("lr", "initial_lr")}
            for g in optimizer["param_groups"]
        ]
        sampler = self.train_sampler
        sampler.seek(s.epoch, s.batches)
        keys = list(sampler)
        sampler.seek(s.epoch + 1, 0)
        keys += list(itertools.islice(sampler, 3))
        sampler.seek(s.epoch, s.batches)
        loader: BatchLoader = self.loader
        held = [loader._source[BatchKey("train", [0, 1, 2, 3, 5], 7)]]
        Seeing.seen.append(
            Seen(
                weights={k: v.clone() for k, v in s.model.state_dict().items()},
                moments=optimizer["state"],
                hyper=groups,
                scaler=s.scaler.state_dict() if s.scaler else None,
                rates=list(rates(s.optimizer, s.scheduler)),
                batches=keys,
                samples=held,
                settings=s.settings.training,
                bad_validations=s.bad_validations,
            )
        )
        return "stopped"


def rates(optimizer: Any, scheduler: Any) -> Iterator[float]:
    for _ in range(5):
        yield optimizer.param_groups[0]["lr"]
        if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
            optimizer.step()  # without gradients it moves nothing
            scheduler.step()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


AGREE: dict[str, Callable[[Seen, Seen], bool]] = {
    "weights": lambda a, b: same(a.weights, b.weights),
    "optimizer": lambda a, b: same((a.moments, a.hyper), (b.moments, b.hyper)),
    "scheduler": lambda a, b: same(a.rates, b.rates),
    "scaler": lambda a, b: a.scaler == b.scaler,
    "precision": lambda a, b: all(
        getattr(a.settings, k) == getattr(b.settings, k)
        for k in ("precision", "compile", "deterministic")
    ),
    "accumulation": lambda a, b: all(
        getattr(a.settings, k) == getattr(b.settings, k)
        for k in ("accumulate_grad_batches", "device_batch_size")
    ),
    "random state": lambda a, b: a.settings.seed == b.settings.seed,
    "data order": lambda a, b: same([k.indices for k in a.batches], [k.indices for k in b.batches]),
    "randomness": lambda a, b: same([k.seed for k in a.batches], [k.seed for k in b.batches]),
    "data set": lambda a, b: same(a.samples, b.samples),
    "early stopping": lambda a, b: a.bad_validations == b.bad_validations,
}
"""How the components are compared; of source, libraries, device and ranks see below."""

NOT_COMPARED = {"source code", "libraries", "device", "ranks"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workspace, Store]]:
    root = make_workspace(tmp_path / "workspace", CONFIG)
    (root / "datasets" / "noise.py").write_text(ROWS)
    rows = root / "data" / "rows"
    rows.mkdir(parents=True)
    for number in range(4):
        (rows / f"{number}.txt").write_text("0.5 " * 6)
    monkeypatch.chdir(root)
    workspace = Workspace(root)
    with Store(workspace.db) as store:
        yield workspace, store


@pytest.fixture
def run(home: tuple[Workspace, Store]) -> RunDir:
    """Stopped within its second epoch."""
    made = new_run(*home, *BASE)
    assert attempt(home[0], made, stop_after=25) == 143, said(made)
    end = tip(made)
    assert end is not None
    assert (end.epoch, end.info["end_of_epoch"]) == (1, False)
    return made


def looked_at(
    home: tuple[Workspace, Store], target: str, words: tuple[str, ...], fine_tune: bool | None
) -> tuple[Preview, Seen | None, RunDir]:
    """What the preview says, and what a resume then finds before its first step."""
    workspace, store = home
    plan = plan_resume(workspace, store, target, list(words), fine_tune=fine_tune)
    said_before = preview(plan, store)
    if plan.settings.training.distributed.launcher != "local":
        assert plan.run is not None
        return said_before, None, plan.run  # trained by processes that cannot be looked into here
    made = launch.prepare(workspace, store, plan).run
    Seeing.seen = []
    code = attempt(workspace, made)
    assert code == 128 + 15 or "is of another model" in said(made), said(made)
    return said_before, Seeing.seen[0] if Seeing.seen else None, made


def edit(file: str, text: str) -> Callable[[RunDir], None]:
    def change(run: RunDir) -> None:
        (run.path.parents[2] / file).write_text(text)

    return change


def touch(run: RunDir) -> None:
    os.utime(run.path.parents[2] / "data" / "rows" / "1.txt", (5, 5))


def move(run: RunDir) -> None:
    shutil.move(run.path.parents[2] / "data" / "rows", run.path.parents[2] / "data" / "moved")


def remove(run: RunDir) -> None:
    (run.path.parents[2] / "data" / "rows" / "3.txt").unlink()


def metadata(**changes: Any) -> Callable[[RunDir], None]:
    def change(run: RunDir) -> None:
        end = tip(run)
        assert end is not None
        info = {**end.info, "metadata": {**end.info["metadata"], **changes}}
        write_sidecar(end.path, info)

    return change


def nothing(run: RunDir) -> None:
    pass


EXACT: set[str] = set()
ORDER = {"data order", "randomness"}
MOVED = ("datasets.noise.path=data/moved",)
MATRIX: list[tuple[str, Callable[[RunDir], None], tuple[str, ...], str, set[str]]] = [
    # name, what is done, words, mode, the components that are not exact any more
    ("nothing", nothing, (), "continue", EXACT),
    ("loaders", nothing, ("log_interval=3",), "continue", EXACT),
    ("touched", touch, (), "continue", EXACT),
    ("moved", move, MOVED, "continue", EXACT),
    ("extended", nothing, ("num_epochs=8", "scheduler_options.schedule_epochs=4"), "continue",
     EXACT),
    ("stretched", nothing, ("num_epochs=8",), "branch", {"scheduler"}),
    ("rate", nothing, ("learning_rate=0.03",), "branch", {"optimizer", "scheduler"}),
    ("decay", nothing, ("weight_decay=0.5",), "branch", {"optimizer"}),
    ("betas", nothing, ("betas=[0.8,0.99]",), "branch", {"optimizer"}),
    ("another optimizer", nothing, ("optimizer=SGD",), "branch", {"optimizer"}),
    ("no schedule", nothing, ("scheduler=none",), "branch", {"scheduler"}),
    ("plateau", nothing, ("scheduler=plateau",), "branch", {"scheduler"}),
    ("warm-up", nothing, ("warmup_steps=30",), "branch", {"scheduler"}),
    ("floor", nothing, ("scheduler_options.min_lr=0.0005",), "branch", {"scheduler"}),
    ("batch", nothing, ("batch_size=8",), "branch", {*ORDER, "scheduler"}),
    ("seed", nothing, ("seed=1",), "branch", {*ORDER, "random state", "scheduler"}),
    ("split", nothing, ("validation_split=0.5",), "branch", {*ORDER, "scheduler", "data set"}),
    ("limit", nothing, ("limit_samples=20",), "branch", {*ORDER, "scheduler", "data set"}),
    ("accumulation", nothing, ("accumulate_grad_batches=2",), "branch",
     {*ORDER, "accumulation", "scheduler"}),
    ("passes", nothing, ("device_batch_size=2",), "continue", {"accumulation"}),
    ("precision", nothing, ("precision=bf16",), "branch", {"precision"}),
    ("half precision", nothing, ("precision=16",), "branch", {"precision", "scaler"}),
    ("kernels", nothing, ("deterministic=false",), "branch", {"precision"}),
    ("freezing", nothing, ('freeze=["net.0.*"]',), "branch", {"optimizer"}),
    ("clipping", nothing, ("grad_clip_thresh=0.1",), "branch", EXACT),
    ("patience", nothing, ("early_stopping.patience=3",), "branch", {"early stopping"}),
    ("dropout", nothing, ("model.dropout=0.5",), "branch", {"weights"}),
    ("another width", nothing, ("model.hidden=9",), "branch", {"weights"}),
    ("setting of the data", nothing, ("dataset.noise=0.7",), "branch",
     {*ORDER, "data set", "scheduler"}),
    ("model's file", edit("models/tiny.py", TINY + "\n# more\n"), (), "branch",
     {"source code", "optimizer"}),
    ("data set's file", edit("datasets/noise.py", ROWS.replace("+ self.noise", "- self.noise")), (),
     "branch", {"source code", "data set", *ORDER, "scheduler"}),
    ("another file", edit("data/rows/9.txt", "1 " * 6), (), "branch",
     {*ORDER, "data set", "scheduler"}),
    ("contents", edit("data/rows/2.txt", "0.7 " * 6), (), "branch",
     {*ORDER, "data set", "scheduler"}),
    ("one file less", remove, (), "branch", {*ORDER, "data set", "scheduler"}),
    ("torch", metadata(pytorch_version="2.0.1"), (), "continue", {"libraries"}),
    ("Python", metadata(python_version="3.99"), (), "continue", {"libraries"}),
    ("machine", metadata(hostname="elsewhere"), (), "continue", {"device"}),
    ("device", metadata(device="cuda"), (), "continue", {"device"}),
    ("launcher", nothing, ("distributed.launcher=torchrun",), "continue", EXACT),
    ("cluster", nothing, ("distributed.launcher=ray", "distributed.address=auto"), "continue",
     EXACT),
    ("ranks", nothing, ("distributed.launcher=torchrun", "distributed.devices=2"), "continue",
     {"ranks", "randomness"}),
    ("fewer ranks", metadata(ranks=2), (), "continue", {"ranks", "randomness"}),
    ("strategy", nothing, ("distributed.launcher=torchrun", "distributed.strategy=fsdp"),
     "continue", {"ranks"}),
    ("whole batch's statistics", nothing, ("distributed.sync_batchnorm=true",), "branch", EXACT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words", "mode", "changed"), [row[1:] for row in MATRIX], ids=[r[0] for r in MATRIX]
)
def test_what_is_called_exact_is(
    home: tuple[Workspace, Store],
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[RunDir], None],
    words: tuple[str, ...],
    mode: str,
    changed: set[str],
) -> None:
    monkeypatch.setattr(session, "Trainer", Seeing)
    _, before, _ = looked_at(home, run.run_id, (), None)
    assert before is not None
    change(run)
    found, after, _ = looked_at(home, run.run_id, words, None)
    verdicts = {part.name: part.verdict for part in found.components}
    assert found.mode == mode
    assert {name for name, verdict in verdicts.items() if verdict != "exact"} == changed
    assert all(part.why.endswith(".") for part in found.components)
    assert verdicts.keys() - AGREE.keys() == NOT_COMPARED & verdicts.keys()
    if any(word.startswith("distributed.launcher") for word in words):
        return
    if after is None:  # refused, which the preview has said it may be
        assert "refused" in next(p.why for p in found.components if p.name == "weights")
        return
    for name, agree in AGREE.items():
        if verdicts.get(name) == "exact":
            assert agree(before, after), f"{name} is called exact, and is not"


def test_fine_tuning_takes_the_weights_alone(
    home: tuple[Workspace, Store], run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "Trainer", Seeing)
    _, before, _ = looked_at(home, run.run_id, (), None)
    found, after, made = looked_at(home, run.run_id, ("num_epochs=2",), True)
    assert before is not None
    assert after is not None
    assert (found.mode, found.fine_tuning) == ("branch", True)
    lost = {part.name for part in found.components if part.verdict == "lost"}
    assert lost == {"optimizer", "scheduler", *ORDER}
    assert same(before.weights, after.weights)
    assert after.moments == {}
    assert after.rates[0] == pytest.approx(after.settings.learning_rate)
    assert [len(key.indices) for key in after.batches][:2] == [4, 4]
    assert len(after.batches) > len(before.batches)
    assert made.read_identity()["parent"].startswith(run.run_id)
