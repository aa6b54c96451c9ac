"""The documentation says what the code does: names, defaults, links, and examples that run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

sys.path.append(str(Path(__file__).parent / "server"))

from walk import table

from tsuzuku.cli.app import app
from tsuzuku.core.errors import TsuzukuError
from tsuzuku.core.restarts import POINTLESS
from tsuzuku.core.schemas import EventType, Status
from tsuzuku.core.settings import CheckpointSettings, ServerSettings, TrainingSettings
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.app import create_app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").glob("*.md")])
TRANSLATED = [
    ("README.md", "README.ja.md"),
    *(
        (f"docs/{name}.md", f"docs/ja/{name}.md")
        for name in (
            "resume",
            "plugins",
            "exports",
            "checkpoints",
            "security",
            "server",
            "ray",
            "events",
            "speech",
            "face",
            "dashboard",
        )
    ),
]
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page without its code blocks, in which a `#` begins no heading."""
    return BLOCK.sub("", text)


def code(text: str) -> list[tuple[str, str]]:
    """Language and contents of every code block, without comments and what stands before them."""
    return [
        (kind, re.sub(r"[ \t]*#.*$", "", body, flags=re.M)) for kind, body in BLOCK.findall(text)
    ]


def rows(text: str, heading: str) -> list[str]:
    """What the table cells in the first column below a heading name."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(DOCS) not in sys.path:  # for what the script imports from its own folder
        sys.path.insert(0, str(DOCS))
    spec.loader.exec_module(module)
    return module


def commands(group: Any, prefix: str = "tsuzuku") -> list[tuple[str, Any]]:
    found = [(prefix, group)]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, f"{prefix} {name}")
    return found


ALL_COMMANDS = commands(typer.main.get_command(app))


def test_generated_pages_are_up_to_date() -> None:
    module = generator()
    for name, text in module.pages().items():
        assert read(f"docs/{name}") == text, f"run docs/generate.py: {name}"


def test_check_says_which_page_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    monkeypatch.setattr(module, "DOCS", tmp_path)
    assert module.main(["--check"]) == 1
    assert "commands.md, settings.md, http.md" in capsys.readouterr().out
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0


@pytest.mark.parametrize(("name", "command"), ALL_COMMANDS)
def test_every_command_and_option_is_documented(name: str, command: Any) -> None:
    if hasattr(command, "commands") and name != "tsuzuku":
        return  # only a prefix of others
    section = read("docs/commands.md").split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            for spelling in (*parameter.opts, *parameter.secondary_opts):
                assert re.search(rf"`{re.escape(spelling)}[ `]", section), spelling
        if parameter.param_type_name == "argument":
            assert parameter.metavar in section
    assert name == "tsuzuku" or re.search(r"^Exit codes: (\d|as `)", section, re.MULTILINE)


def test_every_command_is_named_in_the_changelog() -> None:
    text = " ".join(read("CHANGELOG.md").split())
    for name, command in ALL_COMMANDS:
        if not hasattr(command, "commands"):
            assert f"`{name.removeprefix('tsuzuku ')}`" in text


def test_readmes_and_pages_name_only_commands_that_exist() -> None:
    known = {name for name, _ in ALL_COMMANDS}
    for page in PAGES:
        blocks = "\n".join(body for kind, body in BLOCK.findall(page.read_text("utf-8")) if kind)
        for line in re.findall(r"^(?:\.venv/bin/)?tsuzuku (.+)$", blocks, re.MULTILINE):
            words = re.sub(r"^-w \S+ ", "", line).split()
            assert f"tsuzuku {words[0]}" in known, line
            if words[0] == "data":
                assert f"tsuzuku data {words[1]}" in known, line


def test_every_setting_is_documented() -> None:
    text = read("docs/settings.md")

    def check(model: Any, prefix: str) -> None:
        for name, field in model.model_fields.items():
            row = re.search(rf"^\| `{re.escape(prefix + name)}` \|(.*)$", text, re.MULTILINE)
            assert row, prefix + name
            cells = row[1].split(" | ")
            assert len(cells) >= 3
            assert cells[2].strip(" |"), f"{prefix}{name} has no meaning"
            for candidate in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(candidate, "model_fields"):
                    check(candidate, f"{prefix}{name}.")

    check(TrainingSettings, "training.")
    check(ServerSettings, "server.")
    for part in ("models.vae.latent_dim", "datasets.mnist.path", "available_models"):
        assert f"| `{part}` |" in text


@pytest.mark.parametrize("page", ["docs/events.md", "docs/ja/events.md"])
def test_every_event_type_and_status_is_documented(page: str) -> None:
    text = read(page)
    headings = {title for _, title in HEADING.findall(prose(text))}
    assert set(get_args(EventType)) <= headings
    assert set(rows(text, "status")) == {"status", "message", *get_args(Status)}


def test_keys_that_downloads_tell_are_documented() -> None:
    source = (ROOT / "src/tsuzuku/worker/tell.py").read_text("utf-8")
    documented = set(rows(read("docs/events.md"), "log"))
    keys = set(re.findall(r"\b(file|done_bytes|total_bytes|done)=", source))
    keys |= set(re.findall(r'"(level|message|dataset)":', source))
    assert keys == {"level", "message", "dataset", "file", "done_bytes", "total_bytes", "done"}
    assert keys == documented


def test_every_route_is_documented(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    app = create_app(Workspace(tmp_path))
    app.state.context.store.close()
    text = read("docs/http.md")
    headings = {title for _, title in HEADING.findall(prose(text))}
    pairs, sockets = table(app.routes)
    assert "/ws" in sockets
    calls = {f"{m} {path}" for m, path in pairs if path.startswith("/api/") and m != "HEAD"}
    assert len(calls) > 30
    assert calls <= headings
    for path in ("/ws", "/docs", "/openapi.json", "/login"):
        assert f"`GET {path}`" in text, path


def test_every_answer_of_a_call_is_documented() -> None:
    text = read("docs/http.md")
    assert "http_reference" in sys.modules or generator()
    document = sys.modules["http_reference"].openapi()
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            title = f"\n### {method.upper()} {path}\n"
            section = text.split(title, 1)[1].split("\n### ", 1)[0]
            assert call["description"] in section
            errors = re.search(r"^\[Errors\]\(#errors\): (.*)$", section, re.MULTILINE)
            listed = errors[1].split(", ") if errors else []
            for status in call["responses"]:
                assert f"\n| {status} |" in section or status in listed
            for parameter in call.get("parameters", []):
                assert f"\n| `{parameter['name']}` |" in section


@pytest.mark.parametrize("page", ["docs/server.md", "docs/ja/server.md"])
def test_what_is_never_restarted_is_documented(page: str) -> None:
    section = next(p for p in read(page).split("\n\n") if "`out_of_memory`" in p)
    assert set(re.findall(r"`(\w+)`", section)) == POINTLESS


def test_payload_keys_that_the_trainer_reports_are_documented() -> None:
    text = read("docs/events.md")
    source = (ROOT / "src/tsuzuku/training/trainer.py").read_text("utf-8")
    payload = source.split("payload: dict[str, Any] = {", 1)[1].split("}", 1)[0]
    keys = re.findall(r'^\s+"(\w+)":', payload, re.MULTILINE)
    assert len(keys) > 5
    assert set(keys) <= set(rows(text, "progress"))
    assert {"epoch", "global_step", "train_loss", "val_loss"} == set(
        rows(text, "validation_result")
    )
    assert {"name", "epoch", "global_step", "is_best"} == set(rows(text, "checkpoint"))


def test_every_exit_code_is_documented() -> None:
    text = read("docs/commands.md")
    section = text.split("\n## Exit codes\n", 1)[1].split("\n## ", 1)[0]
    documented = set(re.findall(r"^\| (\d+) \|", section, re.MULTILINE))

    def codes(kind: type[TsuzukuError]) -> set[str]:
        return {str(kind.exit_code)}.union(*(codes(k) for k in kind.__subclasses__()))

    assert codes(TsuzukuError) | {"0", "130", "143"} <= documented


def test_every_error_code_of_a_class_is_documented() -> None:
    documented = set(rows(read("docs/events.md"), "error"))
    for path in (ROOT / "src/tsuzuku").rglob("*.py"):
        if path.parent.name in ("core", "training"):
            for word in re.findall(r'^    code = "(\w+)"', path.read_text("utf-8"), re.MULTILINE):
                assert word in documented, word


@pytest.mark.parametrize("page", ["docs/checkpoints.md", "docs/ja/checkpoints.md"])
def test_checkpoint_names_and_keys_are_documented(page: str) -> None:
    text = read(page)
    for name in ("filename", "filename_step", "latest", "best"):
        default = CheckpointSettings.model_fields[name].default
        assert f"| `checkpoint.{name}` | `{default}` |" in text
    state = (ROOT / "src/tsuzuku/training/state.py").read_text("utf-8")
    capture = state.split("state: dict[str, Any] = {", 1)[1].split("return state", 1)[0]
    metadata = state.split("def _metadata", 1)[1].split("def ", 1)[0]
    for key in re.findall(r'^\s+"(\w+)":', capture + metadata, re.MULTILINE):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize(("english", "japanese"), TRANSLATED)
def test_translations_have_the_same_shape(english: str, japanese: str) -> None:
    one, other = read(english), read(japanese)
    levels = [[len(marks) for marks, _ in HEADING.findall(prose(t))] for t in (one, other)]
    assert levels[0] == levels[1]
    for mark in (r"^\|", r"^- ", r"^\d+\. ", r"^<!-- "):
        counts = [len(re.findall(mark, prose(t), re.MULTILINE)) for t in (one, other)]
        assert counts[0] == counts[1], mark
    blocks, theirs = code(one), code(other)
    assert len(blocks) == len(theirs)
    for a, b in zip(blocks, theirs, strict=True):
        assert a == b


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            titles = [title for _, title in HEADING.findall(prose(target.read_text("utf-8")))]
            slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in slugs, link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_path_of_somebodys_machine(page: Path) -> None:
    assert not re.search(r"/(home|root|work|Users|tmp)/", page.read_text("utf-8"))


def test_the_readmes_example_trains(tmp_path: Path) -> None:
    def tsuzuku(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tsuzuku", "-w", str(tmp_path), *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tsuzuku("init")
    files = dict(FILE.findall(read("README.md")))
    assert sorted(files) == ["datasets/spiral.py", "models/classifier.py"]
    for name, source in files.items():
        assert len(source.splitlines()) <= 35
        assert "tsuzuku" not in re.sub(r"#.*", "", source)
        (tmp_path / name).write_text(source, encoding="utf-8")
    tiny = ["dataset.count=400", "learning_rate=0.005", "device=cpu"]
    said = tsuzuku("train", "classifier", "spiral", "num_epochs=2", "model.hidden=16", *tiny)
    assert "accuracy" in said
    assert "classifier-spiral-epoch-2.pt" in said
    said = tsuzuku("predict", "classifier-spiral-best.pt", "0", "1")
    assert said.count("arm:") == 2
