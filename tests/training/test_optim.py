"""Optimizers and schedules against closed forms and against torch's own."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.settings import TrainingSettings
from tsuzuku.training.optim import clip_gradients, make_optimizer, make_scheduler

LR = 0.02


def settings(**fields: Any) -> TrainingSettings:
    return TrainingSettings.model_validate({"learning_rate": LR, "num_epochs": 4, **fields})


def made(training: TrainingSettings, steps: int = 5) -> tuple[torch.optim.Optimizer, Any]:
    torch.manual_seed(0)
    optimizer = make_optimizer(torch.nn.Linear(3, 2), training)
    return optimizer, make_scheduler(optimizer, training, steps)


def rates(training: TrainingSettings, count: int, steps: int = 5) -> list[float]:
    """The learning rate of each of the first `count` optimizer steps."""
    optimizer, scheduler = made(training, steps)
    return walk(optimizer, scheduler, count)


def walk(optimizer: torch.optim.Optimizer, scheduler: Any, count: int) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_no_schedule_means_a_constant_rate() -> None:
    optimizer, scheduler = made(settings())
    assert scheduler is None
    assert optimizer.param_groups[0]["lr"] == LR


def test_warm_up_alone_rises_in_a_straight_line_and_stays() -> None:
    assert rates(settings(warmup_steps=4), 6) == pytest.approx(
        [LR * f for f in (0.25, 0.5, 0.75, 1, 1, 1)]
    )


def test_warmup_lr_is_the_transformers_schedule() -> None:
    w = 4
    expected = [LR * math.sqrt(w) * min(n**-0.5, n * w**-1.5) for n in range(1, 13)]
    found = rates(settings(scheduler="WarmupLR", warmup_steps=w), 12)
    assert found == pytest.approx(expected)
    assert max(found) == pytest.approx(LR)
    assert found.index(max(found)) == w - 1


def test_cosine_is_torchs_cosine() -> None:
    training = settings(scheduler="cosine", scheduler_options={"min_lr": 0.001})
    optimizer, _ = made(settings())
    theirs = walk(optimizer, CosineAnnealingLR(optimizer, T_max=20, eta_min=0.001), 20)
    assert rates(training, 20) == pytest.approx(theirs, rel=1e-6)


def test_cosine_ends_at_its_floor_and_stays_there() -> None:
    training = settings(scheduler="cosine", warmup_steps=3, scheduler_options={"min_lr": 0.001})
    found = rates(training, 25)
    assert found[:4] == pytest.approx([LR / 3, LR * 2 / 3, LR, LR])
    assert found[3:21] == sorted(found[3:21], reverse=True)
    assert found[20:] == pytest.approx([0.001] * 5)


def test_step_is_torchs_step_by_epochs() -> None:
    training = settings(scheduler="step", scheduler_options={"step_epochs": 2, "gamma": 0.5})
    optimizer, _ = made(settings())
    theirs = walk(optimizer, StepLR(optimizer, step_size=10, gamma=0.5), 40)
    assert rates(training, 40) == pytest.approx(theirs)


@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "SGD"])
def test_onecycle_is_torchs_and_lasts_exactly_all_steps(optimizer: str) -> None:
    training = settings(
        scheduler="onecycle", optimizer=optimizer, scheduler_options={"pct_start": 0.4}
    )
    other, _ = made(settings(optimizer=optimizer))
    theirs = walk(other, OneCycleLR(other, max_lr=LR, total_steps=20, pct_start=0.4), 20)
    assert rates(training, 20) == pytest.approx(theirs)


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine", "step"])
def test_a_training_of_a_single_step_has_a_schedule_too(scheduler: str) -> None:
    assert len(rates(settings(scheduler=scheduler, num_epochs=1), 1, steps=1)) == 1


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_torchs(mode: str) -> None:
    options = {"patience": 1, "gamma": 0.5, "min_lr": 0.006}
    training = settings(scheduler="plateau", scheduler_options=options, checkpoint={"mode": mode})
    optimizer, scheduler = made(training)
    other, _ = made(settings())
    theirs = ReduceLROnPlateau(other, mode=mode, factor=0.5, patience=1, min_lr=0.006)  # type: ignore
    for value in (1.0, 0.9, 0.9, 0.9, 0.9, 1.1, 1.1, 1.1, 1.1, 0.2, 0.2, 0.2, 0.2):
        scheduler.step(value)
        theirs.step(value)
        assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"]
    assert 0.006 <= optimizer.param_groups[0]["lr"] < LR


@hypothesis_settings(max_examples=40)
@given(
    st.sampled_from(["none", "WarmupLR", "cosine", "step", "onecycle"]),
    st.sampled_from(["AdamW", "SGD"]),
    st.integers(1, 6),
    st.integers(0, 19),
)
def test_a_schedule_restored_half_way_goes_on_as_if_nothing_had_happened(
    scheduler: str, optimizer: str, warmup: int, cut: int
) -> None:
    training = settings(
        scheduler=scheduler,
        optimizer=optimizer,
        warmup_steps=warmup,
        scheduler_options={"step_epochs": 1, "gamma": 0.3},
    )
    straight = rates(training, 20)
    before, schedule = made(training)
    walk(before, schedule, cut)
    file = io.BytesIO()
    torch.save({"optimizer": before.state_dict(), "scheduler": schedule.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    after, restored = made(training)
    after.load_state_dict(saved["optimizer"])
    restored.load_state_dict(saved["scheduler"])
    assert walk(after, restored, 20 - cut) == straight[cut:]


def test_the_optimizers_settings_arrive() -> None:
    training = settings(betas=[0.5, 0.6], eps=1e-5, weight_decay=0.3)
    for name, cls in (("AdamW", torch.optim.AdamW), ("Adam", torch.optim.Adam)):
        optimizer, _ = made(training.model_copy(update={"optimizer": name}))
        group = optimizer.param_groups[0]
        assert isinstance(optimizer, cls)
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.6), 1e-5, 0.3)
    optimizer, _ = made(settings(optimizer="SGD", momentum=0.7, weight_decay=0.3))
    group = optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.7, 0.3)


@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD"])
def test_the_fused_kernels_are_used_and_calculate_what_the_plain_ones_do(name: str) -> None:
    torch.manual_seed(0)
    model, plain = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    plain.load_state_dict(model.state_dict())
    training = settings(optimizer=name, weight_decay=0.1)
    fused = make_optimizer(model, training)
    assert fused.param_groups[0]["fused"] is True
    group = {k: v for k, v in fused.param_groups[0].items() if k not in ("params", "fused")}
    known = {k: group[k] for k in ("lr", "weight_decay", "betas", "eps", "momentum") if k in group}
    other = type(fused)(plain.parameters(), fused=False, foreach=False, **known)
    for _ in range(5):
        x = torch.randn(4, 5)
        for net, optimizer in ((model, fused), (plain, other)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(model.weight, plain.weight)


def test_frozen_parameters_are_left_out_and_a_model_without_any_is_refused() -> None:
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad = False
    assert [p.shape for p in make_optimizer(model, settings()).param_groups[0]["params"]] == [(2,)]
    model.bias.requires_grad = False
    with pytest.raises(WrongInput, match="no parameter to train"):
        make_optimizer(model, settings())


def test_tied_parameters_are_stepped_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert len(make_optimizer(model, settings()).param_groups[0]["params"]) == 3


def test_complex_parameters_do_not_break_the_choice_of_kernel() -> None:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    assert make_optimizer(model, settings()).param_groups[0]["fused"] is False


@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD"])
def test_it_is_torchs_own_optimizer_to_the_bit_hooks_and_state_included(name: str) -> None:
    def trained(optimizer_of: Any) -> tuple[Any, list[str]]:
        torch.manual_seed(0)
        model = torch.nn.Linear(5, 3)
        optimizer = optimizer_of(model)
        called: list[str] = []
        optimizer.register_step_pre_hook(lambda *_: called.append("before"))
        optimizer.register_step_post_hook(lambda *_: called.append("after"))
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            model(torch.randn(4, 5)).pow(2).mean().backward()
            optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
        return (model.state_dict(), optimizer.state_dict()["state"]), called

    training = settings(optimizer=name)
    common = {"lr": LR, "weight_decay": training.weight_decay, "fused": True}
    more = {"momentum": training.momentum} if name == "SGD" else {"betas": training.betas}
    theirs = trained(lambda m: getattr(torch.optim, name)(m.parameters(), **common, **more))
    mine = trained(lambda m: make_optimizer(m, training))
    torch.testing.assert_close(mine[0], theirs[0], rtol=0, atol=0)
    assert mine[1] == theirs[1] == ["before", "after"] * 5


def test_a_step_does_not_load_the_compiler() -> None:
    script = """
import sys, torch
from tsuzuku.core.settings import TrainingSettings
from tsuzuku.training.optim import clip_gradients, make_optimizer, make_scheduler
from tsuzuku.training.setup import make_deterministic
make_deterministic(True)
assert torch.are_deterministic_algorithms_enabled()
assert torch.is_deterministic_algorithms_warn_only_enabled()
model = torch.nn.Linear(3, 2)
training = TrainingSettings(scheduler="cosine")
optimizer = make_optimizer(model, training)
scheduler = make_scheduler(optimizer, training, 5)
model(torch.ones(1, 3)).sum().backward()
clip_gradients(list(model.parameters()), 1.0)
optimizer.step()
optimizer.zero_grad()
scheduler.step()
optimizer.load_state_dict(optimizer.state_dict())
print([name for name in sys.modules if name in ("torch._dynamo", "sympy")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("[]\n", "")


def parameters_with(gradients: list[torch.Tensor | None]) -> list[torch.nn.Parameter]:
    made: list[torch.nn.Parameter] = []
    for gradient in gradients:
        like = torch.zeros(2) if gradient is None else gradient.to_dense()
        made.append(torch.nn.Parameter(torch.zeros_like(like)))
        made[-1].grad = None if gradient is None else gradient.clone()
    return made


def assert_clipped_as_by_torch(gradients: list[torch.Tensor | None], limit: float) -> None:
    mine, theirs = parameters_with(gradients), parameters_with(gradients)
    norm = clip_gradients(mine, limit)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit)
    torch.testing.assert_close(norm, expected, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(mine, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None and b.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0, equal_nan=True)


@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    scale=st.floats(1e-6, 1e6),
    limit=st.floats(1e-6, 1e6),
)
def test_gradients_are_clipped_to_the_bit_as_torch_does(
    seed: int, sizes: list[int], scale: float, limit: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    drawn = [scale * torch.randn(size, generator=generator) for size in sizes]
    assert_clipped_as_by_torch([*drawn, None], limit)


@pytest.mark.parametrize("near", [-2e-6, -1e-6, -1e-7, 0.0, 1e-7, 1e-6, 2e-6])
def test_gradients_at_the_very_limit_are_clipped_as_torch_does(near: float) -> None:
    for norm in (1e-4, 0.5, 1.0, 3.0, 1e4):
        assert_clipped_as_by_torch([torch.tensor([norm, 0.0])], norm + near)
        assert_clipped_as_by_torch([torch.tensor([norm, 0.0])], norm * (1 + near))


@pytest.mark.parametrize(
    "gradients",
    [
        [],
        [None],
        [torch.tensor([math.nan, 1.0]), torch.ones(3)],
        [torch.tensor([math.inf, 1.0]), torch.ones(3)],
        [torch.full((3,), 3e38), torch.ones(3)],
        [torch.ones(3, dtype=torch.float64)],
        [torch.ones(3, dtype=torch.bfloat16), torch.ones(2), torch.ones(3, dtype=torch.bfloat16)],
    ],
    ids=["none", "no gradient", "nan", "infinite", "overflow", "float64", "mixed"],
)
def test_gradients_of_every_kind_are_clipped_as_torch_does(
    gradients: list[torch.Tensor | None],
) -> None:
    for limit in (0.1, 1.0, 1e9):
        assert_clipped_as_by_torch(gradients, limit)
