"""The token: when one is needed, and a file that nobody else may read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tsuzuku.core.settings import ServerSettings
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.tokens import FILE_NAME, TokenError, is_loopback, token_for

EVERYWHERE = "0.0.0.0"
SETTINGS = ServerSettings()


@pytest.fixture
def token_file(workspace: Workspace) -> Path:
    workspace.outputs.mkdir(exist_ok=True)
    return workspace.outputs / FILE_NAME


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", " ", "0.0.0.0", "::", "[::]", "192.168.1.5", "::ffff:10.0.0.1", "no such name", "é" * 90],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_loopback_needs_no_token(workspace: Workspace) -> None:
    assert token_for(workspace, SETTINGS, "127.0.0.1") == (None, False)
    assert not (workspace.outputs / FILE_NAME).exists()


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE])
def test_the_configured_token_is_taken(workspace: Workspace, host: str) -> None:
    settings = ServerSettings(token="a configured token")
    assert token_for(workspace, settings, host) == ("a configured token", False)
    assert not (workspace.outputs / FILE_NAME).exists()


def test_a_token_is_made_once_and_kept(workspace: Workspace) -> None:
    before = os.umask(0)
    try:
        token, made = token_for(workspace, SETTINGS, EVERYWHERE)
    finally:
        os.umask(before)
    assert made
    assert token
    assert len(token) >= 43
    path = workspace.outputs / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_for(workspace, SETTINGS, "::") == (token, False)
    assert [p.name for p in workspace.outputs.iterdir() if "token" in p.name] == [FILE_NAME]
    path.unlink()
    assert token_for(workspace, SETTINGS, EVERYWHERE)[0] != token


def test_servers_that_start_at_once_agree(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tsuzuku.core.settings import ServerSettings\n"
        "from tsuzuku.core.workspace import Workspace\n"
        "from tsuzuku.server.tokens import token_for\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(*token_for(Workspace(Path(sys.argv[1])), ServerSettings(), '0.0.0.0'))\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(workspace.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert len({token for token, _ in said}) == 1
    assert sorted(made for _, made in said) == ["False", "False", "False", "True"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(
    workspace: Workspace, token_file: Path, mode: int
) -> None:
    token_file.write_text("x" * 40)
    token_file.chmod(mode)
    with pytest.raises(TokenError, match="by others") as caught:
        token_for(workspace, SETTINGS, EVERYWHERE)
    assert "chmod 600" in caught.value.hint
    assert "x" * 40 not in str(caught.value)
    token_file.chmod(0o600)
    assert token_for(workspace, SETTINGS, EVERYWHERE) == ("x" * 40, False)


def test_a_link_is_refused(workspace: Workspace, token_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("x" * 40)
    target.chmod(0o600)
    token_file.symlink_to(target)
    with pytest.raises(TokenError, match="symbolic link"):
        token_for(workspace, SETTINGS, EVERYWHERE)
    target.unlink()  # nor is a token written through a dangling one
    with pytest.raises(TokenError, match="symbolic link"):
        token_for(workspace, SETTINGS, EVERYWHERE)
    assert not target.exists()


def test_a_folder_or_pipe_in_its_place_is_refused(workspace: Workspace, token_file: Path) -> None:
    token_file.mkdir()
    with pytest.raises(TokenError, match="not a regular file"):
        token_for(workspace, SETTINGS, EVERYWHERE)
    token_file.rmdir()
    os.mkfifo(token_file, 0o600)
    with pytest.raises(TokenError, match="not a regular file"):
        token_for(workspace, SETTINGS, EVERYWHERE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_file_is_refused(workspace: Workspace, token_file: Path) -> None:
    token_file.write_text("x" * 40)
    token_file.chmod(0o600)
    os.chown(token_file, 12345, 12345)
    with pytest.raises(TokenError, match="another user"):
        token_for(workspace, SETTINGS, EVERYWHERE)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", b"two words\nand lines of text", b"\xff" * 40, b"x" * 5000]
)
def test_a_file_without_a_token_is_refused(
    workspace: Workspace, token_file: Path, content: bytes
) -> None:
    token_file.write_bytes(content)
    token_file.chmod(0o600)
    with pytest.raises(TokenError, match="holds no token"):
        token_for(workspace, SETTINGS, EVERYWHERE)
    assert token_file.read_bytes() == content


def test_outputs_that_are_no_folder(workspace: Workspace) -> None:
    workspace.outputs.write_text("")
    with pytest.raises(TokenError, match="cannot be read"):
        token_for(workspace, SETTINGS, EVERYWHERE)


def test_a_folder_that_takes_no_file(workspace: Workspace, token_file: Path) -> None:
    token_file.parent.rmdir()
    token_file.parent.symlink_to(workspace.root / "nowhere" / "at" / "all")
    with pytest.raises(TokenError, match="cannot be written"):
        token_for(workspace, SETTINGS, EVERYWHERE)
