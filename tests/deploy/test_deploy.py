"""What `deploy/` promises: workers outlive the service, nothing is open to the network, no root."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
UNIT = DEPLOY / "tsuzuku.service"


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    return parser


def service() -> dict[str, Any]:
    tree = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    assert set(tree["services"]) == {"tsuzuku"}
    return tree["services"]["tsuzuku"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [x for x in re.sub(r"\\\n", " ", text).splitlines() if x.strip()]
    return [(word, rest.strip()) for word, _, rest in (x.partition(" ") for x in lines)]


def test_the_unit_leaves_workers_alone() -> None:
    own = unit()["Service"]
    assert own["KillMode"] == "process"
    assert own["OOMPolicy"] == "continue"
    assert own["Restart"] == "on-failure"
    assert own["ExecStart"].endswith("/bin/tsuzuku -w %h/tsuzuku serve")
    assert own["NoNewPrivileges"] == "yes"


def test_every_line_of_the_unit_is_explained() -> None:
    paragraphs = UNIT.read_text("utf-8").split("\n\n")
    for paragraph in paragraphs:
        lines = [x for x in paragraph.splitlines() if x and not x.startswith("[")]
        assert not lines or any(x.startswith("#") for x in lines), paragraph


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NOT CHECKED: there is no systemd-analyze here")
    program = Path(sys.executable).parent / "tsuzuku"
    text = UNIT.read_text("utf-8").replace("%h/tsuzuku/.venv/bin/tsuzuku", str(program))
    text = text.replace("%h/tsuzuku", str(tmp_path))
    (tmp_path / "tsuzuku.service").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "tsuzuku.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "tsuzuku" in line]
    assert not ours, done.stderr
    assert done.returncode == 0, done.stderr


def test_compose_opens_nothing_to_the_network() -> None:
    own = service()
    assert own["ports"] == ["127.0.0.1:8000:8000"]
    assert own["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in own["security_opt"]
    assert "privileged" not in own


def test_compose_keeps_the_workspace_and_collects_orphans() -> None:
    own = service()
    assert own["init"] is True
    assert own["restart"] == "unless-stopped"
    assert own["stop_grace_period"] == "20s"
    assert [v.split(":")[1] for v in own["volumes"]] == ["/workspace"]
    assert (DEPLOY / own["build"]["context"] / own["build"]["dockerfile"]).is_file()


def test_the_image_runs_the_server_as_an_ordinary_user() -> None:
    found = instructions()
    words = [word for word, _ in found]
    assert dict(found)["FROM"] == "python:3.12-slim"
    assert ("USER", "tsuzuku") in found
    assert words.index("USER") < words.index("CMD")
    assert "RUN" not in words[words.index("USER") :]
    assert ("VOLUME", "/workspace") in found
    assert "/api/health" in dict(found)["HEALTHCHECK"]
    command = dict(found)["CMD"]
    assert "exec tsuzuku -w /workspace serve --host 0.0.0.0 --port 8000" in command
    assert ("ARG", "TORCH_INDEX=https://download.pytorch.org/whl/cpu") in found


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    root = DEPLOY.parent
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for word, rest in instructions():
        if word == "COPY":
            for name in rest.split()[:-1]:
                assert (root / name).exists(), name
                assert f"!{name}" in ignored, name
