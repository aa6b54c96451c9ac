"""Sidecars: read again when something has changed, and remembered when nothing has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsuzuku.core import sidecars
from tsuzuku.core.sidecars import REMEMBERED, read_sidecar, sidecar, write_sidecar

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def settled(path: Path) -> None:
    """As if it had been written a minute ago."""
    status = sidecar(path).stat()
    os.utime(sidecar(path), ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The sidecars that are read from the disk."""
    seen: list[Path] = []
    real = Path.read_bytes

    def counted(path: Path) -> bytes:
        seen.append(path)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    return seen


@given(info=st.dictionaries(st.text().filter(lambda k: k not in ("format", "checksum")), VALUES))
def test_what_is_written_is_read_a_line_for_each_key(
    tmp_path_factory: pytest.TempPathFactory, info: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("sidecar") / "c-1.pt"
    write_sidecar(path, info)
    found, altered = read_sidecar(path)
    assert not altered
    assert {k: v for k, v in found.items() if k not in ("format", "checksum")} == json.loads(
        json.dumps(sidecars.jsonable(info))
    )
    lines = sidecar(path).read_text(encoding="utf-8").split("\n")
    assert (lines[0], lines[-1]) == ("{", "}")
    assert len(lines) == 2 + len(found)


def test_every_bit_of_it_is_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "c-1.pt"
    write_sidecar(path, {"epoch": 1, "metrics": {"val_loss": 0.5}})
    whole = sidecar(path).read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            sidecar(path).write_bytes(damaged)
            try:
                _, altered = read_sidecar(path)
            except ValueError:
                continue
            assert altered, f"bit {bit} of byte {place}"


def test_what_nobody_has_changed_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "c-1.pt"
    write_sidecar(path, {"epoch": 1})
    settled(path)
    first = read_sidecar(path, remembered=True)
    assert read_sidecar(path, remembered=True) == first
    assert len(reads) == 1
    read_sidecar(path)
    assert len(reads) == 2, "who looks for damage reads what is on the disk"


def test_what_has_just_been_written_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "c-1.pt"
    write_sidecar(path, {"epoch": 1})
    for _ in range(2):
        read_sidecar(path, remembered=True)
    assert len(reads) == 2


def test_a_change_of_the_same_length_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "c-1.pt"
    write_sidecar(path, {"epoch": 1})
    settled(path)
    assert read_sidecar(path, remembered=True)[0]["epoch"] == 1
    write_sidecar(path, {"epoch": 2})
    assert read_sidecar(path, remembered=True)[0]["epoch"] == 2
    text = sidecar(path).read_text(encoding="utf-8").replace('"epoch": 2', '"epoch": 3')
    sidecar(path).write_text(text, encoding="utf-8")
    assert read_sidecar(path, remembered=True)[1], "altered in its place"


def test_a_sidecar_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "c-1.pt"
    write_sidecar(path, {"epoch": 1})
    settled(path)
    read_sidecar(path, remembered=True)
    sidecar(path).unlink()
    with pytest.raises(FileNotFoundError):
        read_sidecar(path, remembered=True)


def test_only_so_many_are_remembered(tmp_path: Path, reads: list[Path]) -> None:
    paths = [tmp_path / f"c-{number}.pt" for number in range(REMEMBERED + 1)]
    for path in paths:
        write_sidecar(path, {"epoch": 1})
        settled(path)
        read_sidecar(path, remembered=True)
    reads.clear()
    read_sidecar(paths[-1], remembered=True)
    assert reads == []
    read_sidecar(paths[0], remembered=True)
    assert reads == [sidecar(paths[0])]
