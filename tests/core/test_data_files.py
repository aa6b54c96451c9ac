"""Files below a data set's path: listed, kept with a run, and compared later."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_runs import begin, checkpoint
from tsuzuku.core import data_files
from tsuzuku.core.data_files import Survey, compared, kept, survey
from tsuzuku.core.resume import plan_resume
from tsuzuku.core.sidecars import write_sidecar
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "音声").mkdir(parents=True)
    (root / "list.csv").write_text("a|b\n")
    for name in ("1.wav", "2.wav"):
        (root / "音声" / name).write_bytes(name.encode() * 100)
    (root / ".cache").mkdir()
    (root / ".cache" / "x").write_text("hidden")
    (root / "again").symlink_to(".")
    return root


@pytest.fixture
def run(workspace: Workspace, store: Store, data: Path) -> RunDir:
    made = begin(workspace, store)
    data_files.keep(made, survey(data))
    return made


def summary(run: RunDir) -> object:
    found = kept(run)
    assert found is not None
    return found.summary()


def test_hidden_files_and_loops_do_not_count(run: RunDir, data: Path) -> None:
    found = kept(run)
    assert found == survey(data)
    assert [file.name for file in found.files] == ["list.csv", "音声/1.wav", "音声/2.wav"]
    assert (data / ".cache" / "y").write_text("new")
    assert compared(run, summary(run), data).same is True


def test_a_change_is_named(run: RunDir, data: Path) -> None:
    before = summary(run)
    (data / "音声" / "3.wav").write_bytes(b"new")
    (data / "音声" / "2.wav").unlink()
    (data / "list.csv").write_text("longer|than before\n")
    found = compared(run, before, data)
    assert found.same is False
    assert found.why == (
        "The files have changed: 1 new (音声/3.wav); 1 gone (音声/2.wav); "
        "1 of another size (list.csv)."
    )


def test_other_times_lead_to_the_contents(run: RunDir, data: Path, tmp_path: Path) -> None:
    before = summary(run)
    os.utime(data / "list.csv", (1, 1))
    assert compared(run, before, data).same is True
    copy = shutil.copytree(data, tmp_path / "copy", symlinks=True, copy_function=shutil.copyfile)
    assert compared(run, before, copy).same is True
    (copy / "音声" / "1.wav").write_bytes(b"2.wav" * 100)
    found = compared(run, before, copy)
    assert (found.same, "of other contents (" in found.why) == (False, True)


def test_an_older_checkpoint_is_compared_with_what_it_was_trained_on(
    run: RunDir, data: Path
) -> None:
    before = summary(run)
    (data / "new").write_text("x")
    data_files.keep(run, survey(data))  # the next attempt saw it
    assert compared(run, summary(run), data).same is True
    assert compared(run, before, data).same is False
    (data / "new").unlink()
    assert compared(run, before, data).same is True


@pytest.mark.parametrize("rubbish", [b"", b"\x1f\x8b\x08", b"no gzip at all"])
def test_what_is_not_known_is_said(run: RunDir, data: Path, rubbish: bytes) -> None:
    before = summary(run)
    run.data_files.write_bytes(rubbish)
    assert kept(run) is None
    assert compared(run, before, data).same is True  # by the checkpoint's own summary
    assert compared(run, None, data).same is None
    assert compared(run, before, data / "nowhere").same is False


def test_a_single_file_may_be_the_data(run: RunDir, data: Path) -> None:
    one = survey(data / "list.csv")
    assert [file.name for file in one.files] == ["list.csv"]
    (data / "list.csv").write_text("x|y\n")
    assert survey(data / "list.csv").contents != one.contents


@given(st.dictionaries(st.text("ab", min_size=1, max_size=3), st.binary(max_size=4), max_size=5))
def test_the_summary_is_a_function_of_names_and_contents(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    found: list[Survey] = []
    for order in (files, dict(reversed(files.items()))):
        root = tmp_path_factory.mktemp("data")
        for name, content in order.items():
            (root / name).write_bytes(content)
        found.append(survey(root))
    assert found[0].summary() == found[1].summary()
    if files:
        name = min(files)
        (root / name).write_bytes(files[name] + b"x")
        assert survey(root).contents != found[0].contents


def test_where_a_data_set_found_its_files_by_itself_is_known(
    workspace: Workspace, store: Store, run: RunDir, data: Path
) -> None:
    """Its settings name no path; the list that the run keeps does."""
    made = checkpoint(run, 1)
    metadata = {**made.info["metadata"], "data_files": summary(run)}
    write_sidecar(made.path, {**made.info, "metadata": metadata})
    plan = plan_resume(workspace, store, run.run_id, [])
    assert (plan.mode, plan.data and plan.data.same) == ("continue", True)
    (data / "list.csv").write_text("other and longer")
    plan = plan_resume(workspace, store, run.run_id, [])
    assert (plan.mode, plan.data and plan.data.same) == ("branch", False)
    run.data_files.unlink()
    plan = plan_resume(workspace, store, run.run_id, [])
    assert (plan.mode, plan.data and plan.data.same) == ("continue", None)


def test_what_an_earlier_attempt_has_read_is_not_read_again(data: Path) -> None:
    known = survey(data)
    same = survey(data, Survey(known.files, "as it was"))
    assert same.contents == "as it was"
    os.utime(data / "list.csv", (1, 1))
    assert survey(data, Survey(known.files, "as it was")) == survey(data)
    assert survey(data).contents == known.contents
