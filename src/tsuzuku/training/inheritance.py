"""What a training takes over from one that is not quite the same: weights and moments that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch

from tsuzuku.core.errors import CorruptCheckpoint, WrongInput
from tsuzuku.core.trees import is_tree

FEWEST = 0.5
"""The share of the model's values that have to come along; less is another model."""
NAMED = 5


@dataclass(frozen=True)
class Inheritance:
    """What became of the weights of a checkpoint, by their names."""

    taken: list[str]
    adapted: list[str]
    """Those of them that the model has rearranged."""
    anew: list[str]
    """Of another shape in the checkpoint, or not in it: as a new model has them."""
    left: list[str]
    """In the checkpoint only."""


def inherit_weights(
    model: torch.nn.Module, state: Mapping[str, Any], config: Mapping[str, Any], name: str
) -> Inheritance:
    """Load what fits of `state` into `model`.

    A model may have a method `adapt(state_dict, config)` that returns the state as it can use it:
    `config` are the settings of the model that the state is of. It says, say, which row of a
    classifier was which symbol. Raises CorruptCheckpoint, naming what does not fit, where less than
    half of the model's values would come along.
    """
    adapt: Any = getattr(model, "adapt", None)
    offered = dict(state)
    if adapt is not None:
        offered = cast(dict[str, Any], adapt(offered, dict(config)))
    own = model.state_dict()
    fitting = {
        key: value
        for key, value in offered.items()
        if key in own and _shape(value) == _shape(own[key])
    }
    anew = [key for key in own if key not in fitting]
    whole = sum(t.numel() for t in own.values() if isinstance(t, torch.Tensor))
    taken = sum(own[key].numel() for key in fitting if isinstance(own[key], torch.Tensor))
    if taken < FEWEST * whole:
        raise CorruptCheckpoint(
            f"{name} is of another model: only {taken:,} of {whole:,} values fit; "
            f"{some(anew)} do not.",
            "--fresh begins a new run without it.",
            code="other_model",
        )
    model.load_state_dict(fitting, strict=False)
    adapted = [key for key, value in fitting.items() if value is not state.get(key)]
    return Inheritance(list(fitting), adapted, anew, [key for key in state if key not in own])


def some(names: Sequence[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _shape(value: Any) -> object:
    return value.shape if isinstance(value, torch.Tensor) else "no tensor"


def moments_for(
    own: dict[str, Any], saved: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """`saved`, the state of an optimizer, for one that trains other parameters of the same model.

    `own`: the state of the new optimizer. `names`: of all the model's parameters in their order,
    which is that of an optimizer whose state has no names. Parameters that were not trained before
    begin without moments. Raises KeyError or TypeError for what is no optimizer's state.
    """
    groups: Any = saved["param_groups"]
    if len(groups) != 1 or len(own["param_groups"]) != 1:
        return dict(saved)
    mine = own["param_groups"][0]
    theirs = groups[0].get("param_names")
    if theirs is None and len(groups[0]["params"]) == len(names):
        theirs = list(names)
    if theirs is None or theirs == mine["param_names"]:
        return dict(saved)
    state: Any = saved["state"]
    if not is_tree(state):
        raise TypeError("no optimizer's state")
    index = dict(zip(theirs, groups[0]["params"], strict=True))
    kept = {
        number: state[index[name]]
        for number, name in zip(mine["params"], mine["param_names"], strict=True)
        if name in index and index[name] in state
    }
    group = {**groups[0], "params": mine["params"], "param_names": mine["param_names"]}
    return {"state": kept, "param_groups": [group]}


def freeze(model: torch.nn.Module, patterns: Sequence[str]) -> list[str]:
    """Keep the parameters that a pattern names from being trained; their names.

    Raises WrongInput for a pattern that names none, and where all would be frozen.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise WrongInput(
                f"training.freeze: no parameter is named {pattern}; there are {some(names)}."
            )
    frozen = [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if frozen and not any(p.requires_grad for p in model.parameters()):
        raise WrongInput("training.freeze: every parameter would be frozen.")
    return frozen
