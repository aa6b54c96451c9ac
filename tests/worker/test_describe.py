"""What plug-ins say of themselves, asked of a real process that imports them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tsuzuku
from plain_plugins import NOISE, TINY
from tsuzuku.core.launch import worker_environment
from worker_process import command, worker

BUILT_IN = Path(tsuzuku.__file__).parent

LOUD = """\
import os, subprocess
print('{"kind": "models", "name": "forged", "ok": true}')
os.write(1, b'{"kind": "forged"}\\n')
subprocess.run(["echo", '{"kind": "forged"}'])
import torch
class Loud(torch.nn.Module):
    "Prints."
"""

ANNOTATED = '''\
"""A model with
a long first line.

And more."""
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
import torch
if TYPE_CHECKING:
    from nowhere import Odd

class Annotated(torch.nn.Module):
    def __init__(
        self, dataset, width: int, kind: Literal["a", "b"] = "a", odd: Odd = 3, rate=float("nan"),
        sizes=(1, 2), made=torch.nn.ReLU, maybe: float | None = None,
    ):
        super().__init__()
    def inference(self, sample): ...
'''

CONFIGURED = """\
from enum import Enum
from pydantic import BaseModel, Field, ConfigDict
import torch
TRAINING = {"learning_rate": 0.5}
class Colour(Enum):
    red = "red"
class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: Colour = Colour.red
    width: int = Field(default=3, gt=0, description="How wide.")
    limit: float = float("inf")
class Configured(torch.nn.Module):
    @classmethod
    def from_config(cls, config, dataset): ...
    def validate(self, batch): ...
"""

UNSAYABLE = """\
from pydantic import BaseModel, ConfigDict, Field
import torch
class Config(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    layer: torch.nn.Module
    width: int = Field(default=3, description="How wide.")
class Unsayable(torch.nn.Module): ...
"""

PLUGINS = {
    "models/loud": LOUD,
    "models/exits": "raise SystemExit(0)",
    "models/interrupts": "\n\n1 / 0",
    "models/typo": "def f(:\n",
    "models/empty": "",
    "models/two": "import torch\nclass A(torch.nn.Module): ...\nclass B(torch.nn.Module): ...\n",
    "models/annotated": ANNOTATED,
    "models/configured": CONFIGURED,
    "models/unsayable": UNSAYABLE,
    "models/tiny": TINY,
    "datasets/noise": NOISE,
    "datasets/split": NOISE.replace("class Noise:", "class Noise:\n    splits = ('train', 'dev')"),
    "datasets/badsplits": NOISE.replace("class Noise:", "class Noise:\n    splits = 'train'"),
}


def items(root: Path, *labels: str) -> list[dict[str, str]]:
    return [
        {"kind": kind, "name": name, "path": str(root / kind / f"{name}.py")}
        for kind, name in (label.split("/") for label in labels)
    ]


def write(root: Path, plugins: dict[str, str]) -> list[dict[str, str]]:
    for label, source in plugins.items():
        path = root / f"{label}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return items(root, *plugins)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of `PLUGINS`, the built-in ones, and one that is not there."""
    root = tmp_path_factory.mktemp("described")
    asked = write(root, PLUGINS)
    asked += items(BUILT_IN, "models/vae", "datasets/mnist") + items(root, "models/gone")
    answers = worker(root, "plugins", "--items", json.dumps(asked))
    # in their order, one each, and none that a plug-in forged
    assert [(a["kind"], a["name"]) for a in answers] == [(i["kind"], i["name"]) for i in asked]
    return {f"{a['kind']}/{a['name']}": a for a in answers}


def test_what_a_plug_in_prints_is_not_taken_for_an_answer(described: dict[str, Any]) -> None:
    answer = described["models/loud"]
    assert (answer["ok"], answer["class_name"], answer["doc"]) == (True, "Loud", "Prints.")
    assert answer["sha256"] == hashlib.sha256(LOUD.encode()).hexdigest()


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("models/exits", "models/exits.py, line 1 raised SystemExit: 0 when it was imported."),
        ("models/interrupts", "models/interrupts.py, line 3 raised ZeroDivisionError"),
        ("models/typo", "models/typo.py, line 1: invalid syntax"),
        ("models/empty", "models/empty.py has no model (torch.nn.Module) class."),
        ("models/two", "models/two.py has several model (torch.nn.Module) classes (A, B)."),
        ("models/gone", "gone.py cannot be read: No such file or directory."),
        ("datasets/badsplits", "datasets/badsplits.py: splits has to be a list of names"),
    ],
)
def test_what_is_wrong_is_one_sentence(described: dict[str, Any], label: str, said: str) -> None:
    answer = described[label]
    assert answer["ok"] is False
    assert said in answer["error"]
    assert "\n" not in answer["error"]
    assert set(answer) == {"kind", "name", "sha256", "ok", "error", "hint"}


def test_a_constructor_is_a_schema(described: dict[str, Any]) -> None:
    answer = described["models/annotated"]
    assert answer["doc"] == "A model with a long first line."
    schema = answer["schema"]
    assert schema["required"] == ["width"]
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "width": {"type": "integer"},
        "kind": {"enum": ["a", "b"], "type": "string", "default": "a"},
        "odd": {"default": 3},
        "rate": {"type": "number"},
        "sizes": {"items": {}, "type": "array", "default": [1, 2]},
        "made": {},
        "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
    }
    assert answer["has"] == {
        "validate": False, "inference": True, "export_inputs": False, "lengths": False,
    }  # fmt: skip
    assert described["models/tiny"]["schema"]["properties"]["hidden"]["default"] == 8


def test_a_config_is_its_own_schema(described: dict[str, Any]) -> None:
    answer = described["models/configured"]
    schema = answer["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["width"]["description"] == "How wide."
    assert schema["properties"]["colour"]["$ref"] == "#/$defs/Colour"
    assert schema["$defs"]["Colour"]["enum"] == ["red"]
    assert answer["preset"] == {"learning_rate": 0.5}
    assert answer["has"]["validate"] is True
    odd = described["models/unsayable"]["schema"]
    assert odd["properties"]["width"] == {"type": "integer", "description": "How wide."}
    assert odd["required"] == ["layer"]


def test_data_sets_say_their_splits(described: dict[str, Any]) -> None:
    assert described["datasets/noise"]["splits"] == []
    assert described["datasets/noise"]["schema"]["additionalProperties"] is True
    assert described["datasets/split"]["splits"] == ["train", "dev"]
    assert described["datasets/mnist"]["splits"] == ["train", "validation"]
    assert described["datasets/mnist"]["schema"]["properties"]["path"]["default"] is None
    assert described["models/vae"]["preset"]["batch_size"] == 128


def test_a_plug_in_that_kills_the_process_or_hangs_takes_no_answer_back(tmp_path: Path) -> None:
    asked = write(
        tmp_path,
        {
            "models/tiny": TINY,
            # a thread that never ends must not keep the process once all is answered, either
            "models/threads": "import threading\n"
            "threading.Thread(target=threading.Event().wait).start()\n" + TINY,
            "models/kills": "import os\nos._exit(7)",
            "models/hangs": "import threading\nthreading.Event().wait()",
        },
    )
    answers = worker(tmp_path, "plugins", "--items", json.dumps(asked[:2]))
    assert [a["ok"] for a in answers] == [True, True]
    answers = worker(tmp_path, "plugins", "--items", json.dumps(asked[:1] + asked[2:3]), code=7)
    assert [a["name"] for a in answers] == ["tiny"]
    hanging = subprocess.Popen(
        command(tmp_path, "plugins", "--items", json.dumps([asked[0], asked[3]])),
        cwd=tmp_path, env=worker_environment(), stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert hanging.stdout is not None
        assert json.loads(hanging.stdout.readline())["name"] == "tiny"
        assert hanging.poll() is None
    finally:
        hanging.kill()
        hanging.communicate()
