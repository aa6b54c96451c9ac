"""What comes along to another model, another data set, or other parameters to train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attempts import attempt, last, resume, said, straight
from torch import nn

from plain_plugins import TINY
from tsuzuku.core import launch, lineage
from tsuzuku.core.errors import CorruptCheckpoint, WrongInput
from tsuzuku.core.preview import preview
from tsuzuku.core.resume import plan_resume
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.training.inheritance import freeze, inherit_weights, moments_for
from tsuzuku.training.opening import load


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, classes))


def test_a_head_of_another_shape_is_made_anew() -> None:
    old, new = network(3), network(5)
    fresh = new[1].weight.detach().clone()
    found = inherit_weights(new, {**old.state_dict(), "more": torch.ones(1)}, {}, "a.pt")
    assert (found.taken, found.anew) == (["0.weight", "0.bias"], ["1.weight", "1.bias"])
    assert (found.adapted, found.left) == ([], ["more"])
    assert torch.equal(new[0].weight, old[0].weight)
    assert torch.equal(new[1].weight, fresh)


def test_hardly_anything_that_fits_is_another_model() -> None:
    with pytest.raises(CorruptCheckpoint, match=r"only 3 of 83 values fit.*0\.weight") as refused:
        inherit_weights(network(3), {"1.bias": torch.ones(3)}, {}, "a.pt")
    assert refused.value.code == "other_model"


def test_a_model_may_rearrange_what_it_gets() -> None:
    class Adapting(nn.Sequential):
        def adapt(self, state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
            assert config == {"classes": 3}
            state["1.weight"] = torch.zeros(5, 8)
            return state

    new = Adapting(*network(5))
    found = inherit_weights(new, network(3).state_dict(), {"classes": 3}, "a.pt")
    assert (found.adapted, found.anew) == (["1.weight"], ["1.bias"])
    assert not new[1].weight.any()


def trained(names: list[str], model: nn.Module) -> torch.optim.AdamW:
    chosen = [(n, p) for n, p in model.named_parameters() if n in names]
    optimizer = torch.optim.AdamW(chosen)
    for number, (_, parameter) in enumerate(chosen):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    optimizer.step()
    return optimizer


NAMES = ["0.weight", "0.bias", "1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("before", "named"),
    [(NAMES, True), (NAMES, False), (NAMES[2:], True)],
    ids=["all", "all, as older checkpoints have it", "two"],
)
@pytest.mark.parametrize("after", [NAMES, NAMES[1:3]], ids=["all", "some"])
def test_moments_follow_their_parameters(before: list[str], after: list[str], named: bool) -> None:
    old, new = network(), network()
    saved = trained(before, old).state_dict()
    if not named:
        del saved["param_groups"][0]["param_names"]
    optimizer = torch.optim.AdamW([(n, p) for n, p in new.named_parameters() if n in after])
    optimizer.load_state_dict(moments_for(optimizer.state_dict(), saved, NAMES))
    theirs = {n: saved["state"][i] for i, n in enumerate(before)}
    for name, parameter in new.named_parameters():
        if name in after and name in before:
            assert torch.equal(optimizer.state[parameter]["exp_avg"], theirs[name]["exp_avg"])
        else:
            assert parameter not in optimizer.state


def test_what_is_frozen_has_to_be_there_and_not_everything() -> None:
    model = network()
    assert freeze(model, ["0.*"]) == NAMES[:2]
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    with pytest.raises(WrongInput, match=r"no parameter is named encoder.*0\.weight, 0\.bias"):
        freeze(model, ["encoder"])
    with pytest.raises(WrongInput, match="every parameter would be frozen"):
        freeze(model, ["*"])


def test_frozen_weights_stay_and_thawed_ones_move(workspace: Workspace, store: Store) -> None:
    first = straight(workspace, store, "num_epochs=1")
    frozen = resume(workspace, store, first.run_id, "num_epochs=2", 'freeze=["net.0.*"]')
    assert attempt(workspace, frozen) == 0, said(frozen)
    thawed = resume(workspace, store, frozen.run_id, "num_epochs=3", "freeze=[]")
    assert attempt(workspace, thawed) == 0, said(thawed)
    weights = [load(last(run))["model_state_dict"] for run in (first, frozen, thawed)]
    moved = [
        {n for n in weights[0] if not torch.equal(one[n], other[n])}
        for one, other in ((weights[0], weights[1]), (weights[1], weights[2]))
    ]
    assert moved == [{"net.3.weight", "net.3.bias"}, set(weights[0])]
    assert "2 parameters are not trained: net.0.weight, net.0.bias" in said(frozen)


BY_CLASSES = TINY.replace(
    "def __init__(self, hidden: int = 8, dropout: float = 0.25):",
    "def __init__(self, dataset, hidden: int = 8, dropout: float = 0.25):",
).replace("nn.Linear(hidden, 3)", "nn.Linear(hidden, dataset.classes)")


def test_another_data_set_is_fine_tuned_onto(workspace: Workspace, store: Store) -> None:
    noise = (workspace.root / "datasets" / "noise.py").read_text()
    (workspace.root / "models" / "tiny.py").write_text(BY_CLASSES)
    for name, classes in (("noise", 3), ("other", 5)):
        text = noise.replace("count =", f"self.classes = {classes}\n        count =", 1)
        (workspace.root / "datasets" / f"{name}.py").write_text(text)
    first = straight(workspace, store, "num_epochs=2")
    plan = plan_resume(workspace, store, first.run_id, ["num_epochs=1"], dataset_name="other")
    said_before = preview(plan, store)
    assert (said_before.mode, said_before.fine_tuning) == ("branch", True)
    assert {c.name: c.verdict for c in said_before.components}["data set"] == "lost"
    tuned = launch.prepare(workspace, store, plan).run
    assert attempt(workspace, tuned) == 0, said(tuned)
    log = said(tuned)
    assert "Fine-tuning from the weights of" in log
    assert "Made anew, since the shape is another one: net.3.weight, net.3.bias" in log
    record = store.run(tuned.run_id)
    assert record is not None
    assert (record.dataset_name, record.epoch, record.parent) == (
        "other",
        1,
        f"{first.run_id}/{last(first).name}",
    )
    own = store.raw_points(tuned.run_id, "loss")
    assert own[0][0] == 1
    joined = lineage.curve(store, lineage.segments(store, tuned.run_id), "loss", 1000)
    assert list(zip(joined.step, joined.value, strict=True)) == own, "its parent's steps are others"
    # going on with it is no fine-tuning again
    again = resume(workspace, store, tuned.run_id, "num_epochs=2")
    assert again.run_id == tuned.run_id
    assert attempt(workspace, again) == 0, said(again)
    branch = plan_resume(workspace, store, tuned.run_id, ["num_epochs=3", "learning_rate=0.5"])
    assert (branch.mode, branch.fine_tuning) == ("branch", False)


def test_a_schedule_that_is_extended_stays_at_its_end(workspace: Workspace, store: Store) -> None:
    for scheduler in ("cosine", "onecycle"):
        words = (f"scheduler={scheduler}", "num_epochs=2", "scheduler_options.schedule_epochs=2")
        whole = straight(workspace, store, *words, "num_epochs=4")
        short = straight(workspace, store, *words[:2])
        longer = resume(
            workspace, store, short.run_id, "num_epochs=4", "scheduler_options.schedule_epochs=2"
        )
        assert longer.run_id == short.run_id, "it goes on: nothing of its result changes"
        assert attempt(workspace, longer) == 0, said(longer)
        rates = [
            [value for _, value in store.raw_points(run.run_id, "learning_rate")]
            for run in (whole, longer)
        ]
        assert rates[0] == rates[1]
        assert len(set(rates[0][-4:])) == 1
        one, other = (load(last(run))["model_state_dict"] for run in (whole, longer))
        assert all(torch.equal(one[name], other[name]) for name in one)
        words = ("num_epochs=6", "scheduler_options.schedule_epochs=null")
        stretched = resume(workspace, store, short.run_id, *words)
        assert stretched.run_id != short.run_id
