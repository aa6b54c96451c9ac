"""The copy of a training state: right, independent, compact, and made into the same buffers."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.training.snapshot import Snapshot, tensors_in


def take(snapshot: Snapshot, tree: Any) -> Any:
    copy, ready = snapshot.take(tree)
    assert ready is None, "there is no device here"
    return copy


def same(a: Any, b: Any) -> bool:
    """Equal trees, with equal types of containers and bitwise equal tensors."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


ODD_TENSORS = {
    "transposed": lambda: torch.arange(12.0).reshape(3, 4).T,
    "strided": lambda: torch.arange(20)[::3],
    "expanded": lambda: torch.ones(1, 3).expand(4, 3),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "scalar": lambda: torch.tensor(3.5),
    "empty": lambda: torch.empty(0, 3),
    "half": lambda: torch.randn(5).half(),
    "bfloat16": lambda: torch.randn(5).bfloat16(),
    "bool": lambda: torch.tensor([True, False]),
    "bytes": lambda: torch.arange(7, dtype=torch.uint8),
    "complex": lambda: torch.randn(4, dtype=torch.complex64),
    "parameter": lambda: torch.nn.Parameter(torch.randn(3)),
    "view": lambda: torch.arange(100.0)[10:20],
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_every_kind_of_tensor_is_copied_compactly(kind: str) -> None:
    source = ODD_TENSORS[kind]()
    snapshot = Snapshot()
    for _ in range(3):
        copy = take(snapshot, {"x": source})["x"]
        assert same(copy, source.detach())
        assert copy.is_contiguous()
        assert not copy.requires_grad
        assert copy.untyped_storage().nbytes() == copy.numel() * copy.element_size()


def test_tensors_of_all_kinds_are_copied_together() -> None:
    tree = {kind: make() for kind, make in ODD_TENSORS.items()}
    snapshot = Snapshot()
    for _ in range(2):
        assert same(take(snapshot, tree), {k: v.detach() for k, v in tree.items()})


def test_what_changes_after_the_copy_does_not_show_in_it() -> None:
    weights, number = torch.ones(3), {"epoch": 1, "list": [1, 2]}
    copy = take(Snapshot(), {"w": weights, "n": number})
    weights.fill_(7)
    number["epoch"] = 9
    number["list"].append(3)
    assert copy["w"].tolist() == [1, 1, 1]
    assert copy["n"] == {"epoch": 1, "list": [1, 2]}


def test_buffers_are_used_again_and_hold_the_newest_values() -> None:
    snapshot = Snapshot()
    tree = {"a": torch.zeros(1000), "b": [torch.zeros(5), {"c": torch.zeros(2, 2)}]}
    first = take(snapshot, tree)
    places = {k: t.data_ptr() for k, t in tensors_in(first).items()}
    for value in (1.0, 2.0):
        # as an optimizer does that replaces its tensors: other memory, the same place in the tree
        tree = {"a": torch.full((1000,), value), "b": [torch.ones(5), {"c": torch.ones(2, 2)}]}
        again = take(snapshot, tree)
        assert {k: t.data_ptr() for k, t in tensors_in(again).items()} == places
        assert same(again, tree)


def test_buffers_of_another_shape_or_type_are_replaced() -> None:
    snapshot = Snapshot()
    for tensor in (torch.ones(3), torch.ones(4), torch.ones(4).double(), torch.ones(2, 2)):
        assert same(take(snapshot, {"x": tensor}), {"x": tensor})


def test_what_is_gone_from_the_tree_is_let_go() -> None:
    snapshot = Snapshot()
    take(snapshot, {"a": torch.ones(5), "b": torch.ones(6)})
    take(snapshot, {"a": torch.ones(5)})
    held = {b.data_ptr() for b in snapshot._buffers.values()}
    assert len(held) == 1


def test_tied_weights_stay_tied_and_are_written_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    model[1].weight = model[0].weight
    snapshot = Snapshot()
    for _ in range(2):
        copy = take(snapshot, dict(model.state_dict()))
        assert copy["0.weight"] is copy["1.weight"]
        assert copy["0.bias"] is not copy["1.bias"]
        file = io.BytesIO()
        torch.save(copy, file)
        assert len(file.getvalue()) < 2 * 64 * 64 * 4
        assert same(copy, dict(model.state_dict()))


def test_weights_that_are_tied_or_untied_between_two_copies_are_copied_rightly() -> None:
    snapshot = Snapshot()
    a, b = torch.ones(3), torch.full((3,), 2.0)
    for tree in ({"a": a, "b": b}, {"a": a, "b": a}, {"a": a, "b": b}, {"a": b, "b": b}):
        assert same(take(snapshot, tree), tree)


def test_views_of_one_memory_that_differ_are_kept_apart() -> None:
    base = torch.arange(9.0).reshape(3, 3)
    tree = {"a": base, "t": base.T, "row": base[0], "column": base[:, 0], "again": base}
    copy = take(Snapshot(), tree)
    assert same(copy, tree)
    assert copy["a"] is copy["again"]


def test_empty_tensors_are_never_taken_for_one_another() -> None:
    tree = {"a": torch.empty(0), "b": torch.empty(0), "c": torch.empty(0, dtype=torch.int64)}
    copy = take(Snapshot(), tree)
    assert same(copy, tree)
    assert copy["a"] is not copy["b"]


def test_places_whose_names_look_alike_are_kept_apart() -> None:
    """`{"a/b": …}` and `{"a": {"b": …}}`, `1` and `"1"`: other places, other tensors."""
    snapshot = Snapshot()
    trees = [
        {"a/b": torch.full((2,), float(i)), "a": {"b": torch.full((2,), i + 0.5)}} for i in range(3)
    ] + [{1: torch.full((2,), float(i)), "1": torch.full((2,), i + 0.5)} for i in range(3)]
    for tree in trees:
        assert same(take(snapshot, tree), tree)


def test_nothing_to_copy_is_no_problem() -> None:
    snapshot = Snapshot()
    for tree in ({}, [], (), None, 5, "x", {"a": None, "b": [1, (2.0, "c")]}):
        assert take(snapshot, tree) == tree


trees = st.recursive(
    st.none()
    | st.integers()
    | st.builds(
        lambda shape, start: torch.arange(start, start + torch.Size(shape).numel()).reshape(shape),
        st.lists(st.integers(0, 3), max_size=3),
        st.integers(0, 99),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc/", max_size=3), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(st.lists(trees, min_size=1, max_size=4))
def test_any_trees_one_after_the_other_are_copied_rightly(found: list[Any]) -> None:
    snapshot = Snapshot()
    for tree in found:
        assert same(take(snapshot, tree), tree)


def test_a_real_training_state_is_copied_to_the_bit() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    snapshot = Snapshot()
    for _ in range(3):
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        tree = {"m": dict(model.state_dict()), "o": optimizer.state_dict()}
        copy = take(snapshot, tree)
        assert same(copy, tree)
        assert copy["m"]["0.weight"].data_ptr() != model[0].weight.data_ptr()


def test_tensors_are_listed_by_their_paths() -> None:
    x = torch.ones(1)
    assert list(tensors_in({"a": {"b": [x, 1, (x,)]}, "c": x, 0: {"d": x}})) == [
        *("a.b.0", "a.b.2.0", "c", "0.d")
    ]
    assert list(tensors_in(x)) == [""]
