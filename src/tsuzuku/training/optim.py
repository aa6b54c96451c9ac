"""Optimizers and learning-rate schedules by the names in the settings."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from tsuzuku.core.errors import WrongInput
from tsuzuku.core.settings import TrainingSettings

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)
_MET_BY_THE_COMPILER = ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group")


def _plain(cls: type[Kind]) -> type[Kind]:
    """`cls` without what torch puts around its methods for those who compile an optimizer.

    That loads the compiler at the first step, which takes a second, every time that a training
    begins or goes on. The arithmetic is the same.
    """
    own: dict[str, Any] = {
        name: inspect.unwrap(getattr(cls, name)) for name in _MET_BY_THE_COMPILER
    }
    # the wrapper that is gone did this, too
    own["step"] = torch.no_grad()(own["step"])
    return cast(type[Kind], type(cls.__name__, (cls,), own))


_AdamW, _Adam, _SGD = _plain(torch.optim.AdamW), _plain(torch.optim.Adam), _plain(torch.optim.SGD)


def make_optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimizer over every parameter that asks for a gradient, fused where torch has it.

    Its state holds the parameters' names: a training that freezes others can find its own.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not parameters:
        raise WrongInput(f"The model {settings_name(model)} has no parameter to train.")
    fused = all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps") for _, p in parameters
    )
    common: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": fused,
    }
    if settings.optimizer == "SGD":
        return _SGD(parameters, momentum=settings.momentum, **common)
    cls = _AdamW if settings.optimizer == "AdamW" else _Adam
    return cls(parameters, betas=settings.betas, eps=settings.eps, **common)


def clip_gradients(parameters: Sequence[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients so that the Euclidean norm of all together is at most `limit`; the norm
    that they had, a scalar (Pascanu, Mikolov and Bengio 2013, algorithm 1).

    To the bit what `torch.nn.utils.clip_grad_norm_` does, at a quarter of its cost where a model
    has many small parameters: on the CPU that takes them one by one, and multiplies each by the
    one that most steps would scale by.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not all(map(_is_plain, gradients)) or not gradients:
        return torch.nn.utils.clip_grad_norm_(parameters, limit)
    with torch.no_grad():
        norms = torch._foreach_norm(gradients, 2.0)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        norm = cast(torch.Tensor, cast(Any, torch.linalg).vector_norm(torch.stack(norms), 2.0))
        # twice torch's own 1e-6, so that rounding has no say in it
        if not norm.item() + 2e-6 < limit * (1 - 1e-6):
            scale = torch.clamp(limit / (norm + 1e-6), max=1.0)
            torch._foreach_mul_(gradients, scale)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return norm


def _is_plain(gradient: torch.Tensor) -> bool:
    """Whether torch would take it neither apart from the others nor all of them in one kernel."""
    return (
        type(gradient) is torch.Tensor
        and gradient.dtype is torch.float32
        and gradient.layout is torch.strided
        and gradient.is_cpu
    )


class HeldOneCycleLR(OneCycleLR):
    """Stays at its last rate where torch's would raise after its last step."""

    def get_lr(self) -> list[float | torch.Tensor]:
        here: int = cast(Any, self).last_epoch
        self.last_epoch = min(here, self.total_steps - 1)
        try:
            return super().get_lr()
        finally:
            self.last_epoch = here


def settings_name(model: torch.nn.Module) -> str:
    return type(model).__name__


def make_scheduler(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps_per_epoch: int
) -> LRScheduler | ReduceLROnPlateau | None:
    """The schedule; all but plateau are functions of the optimizer step alone.

    - WarmupLR: lr · √w · min(n^-½, n · w^-1½) at step n from 1 with w = `warmup_steps`
      (Vaswani et al. 2017, section 5.3, scaled to reach `learning_rate` at step w).
    - cosine: from `learning_rate` to `min_lr` over all steps (Loshchilov and Hutter 2017).
    - onecycle: Smith and Topin 2018, as torch has it (momentum moves too).
    - step: times `gamma` every `step_epochs` epochs.
    - plateau: times `gamma` after `patience` validations without improvement.
    """
    options, warmup = settings.scheduler_options, settings.warmup_steps
    total = max((settings.schedule_epochs or settings.num_epochs) * steps_per_epoch, 1)
    floor = options.min_lr / settings.learning_rate

    def rising(step: int) -> float:
        return min(1.0, (step + 1) / warmup) if warmup else 1.0

    def noam(step: int) -> float:
        n = step + 1
        return math.sqrt(warmup) * min(n**-0.5, n * warmup**-1.5)

    def cosine(step: int) -> float:
        if step < warmup:
            return rising(step)
        share = min((step - warmup) / max(total - warmup, 1), 1.0)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))

    def stairs(step: int) -> float:
        fallen = step // steps_per_epoch // options.step_epochs
        return rising(step) * options.gamma**fallen

    match settings.scheduler:
        case "none":
            return LambdaLR(optimizer, rising) if warmup else None
        case "WarmupLR":
            return LambdaLR(optimizer, noam)
        case "cosine":
            return LambdaLR(optimizer, cosine)
        case "step":
            return LambdaLR(optimizer, stairs)
        case "onecycle":
            return HeldOneCycleLR(
                optimizer,
                max_lr=settings.learning_rate,
                total_steps=max(total, 2),
                pct_start=options.pct_start,
            )
        case "plateau":
            return ReduceLROnPlateau(
                optimizer,
                mode=settings.checkpoint.mode,
                factor=options.gamma,
                patience=options.patience,
                min_lr=options.min_lr,
            )
