"""What ranks agree on, in two real processes that meet over gloo; run once, looked at by many."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tsuzuku.training import distributed
from tsuzuku.training.data import EpochSampler
from tsuzuku.training.distributed import Pace, Ranks, lost_the_others, on_cpu, unused
from tsuzuku.training.sharding import blocks

TOGETHER = """
import copy, json, os
from pathlib import Path
import torch
import torch.distributed as dist
from torch import nn
from in_parts import save_in_parts, state_of
from tsuzuku.core.settings import DistributedSettings
from tsuzuku.training.opening import load
from tsuzuku.training.batchnorm import with_whole_batchnorm
from tsuzuku.training.distributed import join, leave
from tsuzuku.training.sharding import moments_of, parts_of, shard, whole

torch.set_num_threads(1)
cpu = torch.device("cpu")
ranks = join(DistributedSettings(launcher="torchrun", devices=2, strategy="fsdp"), cpu)
r = ranks.rank
found = {"agreed": [ranks.agreed(r == 1), ranks.agreed(False)]}
found["total"] = ranks.total(torch.tensor([1.0 + r, 10.0])).tolist()
found["gathered"] = ranks.gathered({"rank": r})
found["told"] = ranks.told("first" if r == 0 else "second")

# BatchNorm over both, against one that sees the whole batch of three
torch.manual_seed(0)
x, norm = torch.randn(3, 4, 5), nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1))
alone = nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 2, 1))
alone.load_state_dict(norm.state_dict())
both = with_whole_batchnorm(norm, ranks, cpu)
mine = x[r::2]
whole_loss = alone(x).pow(2).sum()
whole_loss.backward()
both(mine).pow(2).sum().backward()
worst = 0.0
for a, b in zip(alone.parameters(), both.parameters()):
    grad = ranks.total(b.grad.clone())
    worst = max(worst, (a.grad - grad).abs().max().item())
for a, b in zip(alone.buffers(), both.buffers()):
    worst = max(worst, (a - b).abs().max().item())
found["batchnorm"] = worst
found["names"] = list(both.state_dict()) == list(alone.state_dict())

class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.last = nn.Linear(5, 3)
    def forward(self, x):
        for block in self.inner:
            x = torch.tanh(block(x))
        return self.last(x).pow(2).mean()
    def validate(self, x):
        return self.last(self.inner[1](x)).sum()

torch.manual_seed(1)
model = Blocks()
before = {k: v.clone() for k, v in model.state_dict().items()}
shard(model, ranks, cpu)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
model(torch.randn(4, 5)).backward()
optimizer.step()
optimizer.zero_grad()
with torch.no_grad():
    model.validate(torch.randn(2, 5))
weights, moments = whole(model.state_dict(), keep=True), whole(optimizer.state_dict(), keep=True)
found["plain"] = all(type(t) is torch.Tensor for t in weights.values())
found["shapes"] = {k: list(v.shape) for k, v in weights.items()}
found["kept"] = list(whole(model.state_dict(), keep=False)["last.weight"].shape)
# back into a model that stands elsewhere
other = Blocks()
shard(other, ranks, cpu)
second = torch.optim.AdamW(other.parameters(), lr=0.1)
other.load_state_dict(parts_of(weights, other))
second.load_state_dict(moments_of(copy.deepcopy(moments), second))  # as from a file
# and out of the parts that another number of ranks has saved
file = Path(os.environ["PARTS"]) / "a.pt"
if r == 0:
    state = {**state_of(), "model_state_dict": weights, "optimizer_state_dict": moments}
    save_in_parts(file, copy.deepcopy(state), 3)
ranks.told(None)
saved = load(file, whole=False)
fewer = Blocks()
shard(fewer, ranks, cpu)
third = torch.optim.AdamW(fewer.parameters(), lr=0.1)
fewer.load_state_dict(parts_of(saved["model_state_dict"], fewer))
third.load_state_dict(moments_of(saved["optimizer_state_dict"], third))
torch.manual_seed(2)
batch = torch.randn(4, 5)
for m, o in ((model, optimizer), (other, second), (fewer, third)):
    m(batch).backward()
    o.step()
a, b = whole(model.state_dict(), keep=True), whole(other.state_dict(), keep=True)
c = whole(fewer.state_dict(), keep=True)
found["same"] = all(torch.equal(a[k], b[k]) and torch.equal(a[k], c[k]) for k in a)
found["moved"] = any(not torch.equal(a[k], before[k]) for k in a)
if r == 0:
    print(json.dumps(found))
leave()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first of two ranks saw."""
    tests = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "PARTS": str(tmp_path_factory.mktemp("parts"))}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER], stdout=subprocess.PIPE, text=True,
            env={**os.environ, **common, **own, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    return json.loads(said[0])


def test_ranks_agree(found: dict[str, Any]) -> None:
    assert found["agreed"] == [True, False]
    assert found["total"] == [3.0, 20.0]
    assert found["gathered"] == [{"rank": 0}, {"rank": 1}]
    assert found["told"] == "first"


def test_batchnorm_over_all_is_batchnorm_of_the_whole_batch(found: dict[str, Any]) -> None:
    assert found["batchnorm"] < 1e-5
    assert found["names"]


def test_a_sharded_model_comes_whole_and_goes_on_exactly(found: dict[str, Any]) -> None:
    assert found["plain"]
    assert found["shapes"]["inner.0.weight"] == [5, 5]
    assert found["kept"] == [0]
    assert found["same"]
    assert found["moved"]


def test_one_process_needs_nobody() -> None:
    alone = Ranks()
    assert alone.agreed(True)
    assert not alone.agreed(False)
    assert alone.gathered(1) == [1]
    assert alone.told("x") == "x"
    assert alone.total(torch.ones(1)).item() == 1
    model = nn.Linear(1, 1)
    assert alone.wrapped(model) is model


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8), st.integers(0, 3))
def test_the_ranks_parts_are_the_batches_of_one(
    count: int, size: int, world: int, epoch: int
) -> None:
    """Every sample once, in the batch in which a single process has it, for any number of ranks."""
    indices = torch.arange(count).numpy() * 3

    def keys(**which: int) -> list[list[int]]:
        sampler = EpochSampler(indices, size, 7, **which)
        sampler.seek(epoch, 0)
        return [key.indices for key in sampler]

    alone = keys()
    parts = [keys(rank=rank, ranks=world) for rank in range(world)]
    for number, batch in enumerate(alone):
        real: list[int] = []
        for rank in range(world):
            sampler = EpochSampler(indices, size, 7, rank=rank, ranks=world)
            mine = parts[rank][number]
            assert mine, "every rank has something to do"
            real += mine[: sampler.samples(number)]
        assert sorted(real) == sorted(batch)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
def test_validation_deals_every_batch_and_as_many_to_each(
    count: int, size: int, world: int
) -> None:
    indices = torch.arange(count).numpy()
    dealt = [
        EpochSampler(indices, size, 7, shuffle=False, rank=rank, ranks=world).dealt()
        for rank in range(world)
    ]
    assert len({len(part) for part in dealt}) == 1
    batches = -(-count // size)
    assert {b for part in dealt for b in part} == set(range(batches))


def test_parameters_without_a_gradient_are_named() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "not": nn.Linear(2, 1)})
    model["used"](torch.ones(1, 2)).sum().backward()
    assert unused(model) == ["not.weight", "not.bias"]
    model["not"].requires_grad_(False)
    assert unused(model) == []


def test_blocks_are_the_outermost_lists_elements_that_share_nothing() -> None:
    tied = nn.Linear(2, 2)
    model = nn.Module()
    model.a = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)]), nn.ReLU()])
    model.b = nn.ModuleList([tied, nn.Linear(2, 2)])
    model.c = nn.Linear(2, 2)
    model.c.weight = tied.weight
    assert blocks(model) == [model.a[0][0], model.b[1]]


def test_an_error_that_only_says_that_others_went_is_known() -> None:
    assert lost_the_others(RuntimeError("[enforce fail at gloo/transport] Connection closed"))
    assert not lost_the_others(RuntimeError("shape mismatch"))
    assert not lost_the_others(ValueError("gloo"))


def test_results_are_sent_without_their_graph() -> None:
    loss = torch.ones(1, requires_grad=True).sum()
    sent = on_cpu({"loss": loss, "pair": [loss, 2], "n": 3})
    assert not sent["loss"].requires_grad
    assert sent["pair"] == (torch.tensor(1.0), 2)
    assert sent["n"] == 3


def test_what_a_rank_waits_for_others_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(distributed.time, "perf_counter", lambda: now)
    pace = Pace()
    assert pace.taken() == {}
    for _ in range(4):
        now += 0.010  # its own work
        with pace.waiting():
            now += 0.030
        pace.batch()
        with pace.waiting():  # for whether to stop, say
            now += 0.010
    taken = pace.taken()
    assert taken["batches_per_second"] == pytest.approx(20)
    assert taken["own_ms"] == pytest.approx(10)
    now += 1.0
    assert pace.taken() == {}  # what goes on for longer than a beat counts for the next
    now += 1.0
    pace.batch()
    assert pace.taken()["own_ms"] == pytest.approx(2000)
