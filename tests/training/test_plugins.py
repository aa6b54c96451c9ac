"""Plain files become models and data sets, and what is wrong in them is said with file and line."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from plain_plugins import NOISE, TINY, ran
from tsuzuku.core.errors import SettingsError, WrongInput
from tsuzuku.training.plugins import PlainConfig, Plugin, PluginError, make_data, make_model

HEAD = "import torch\nfrom torch import nn\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Any:
    def make(kind: str, code: str, name: str = "mine") -> Plugin:
        path = tmp_path / kind / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding="utf-8")
        return Plugin(f"{kind}/{name}.py", path)

    return make


def model_of(plugin: Any, code: str, settings: dict[str, Any] | None = None) -> Any:
    return make_model(plugin("models", HEAD + code), settings or {}, "the data set")


# Plain files


def test_plain_files_without_any_import_of_ours_work(plugin: Any) -> None:
    assert "tsuzuku" not in TINY + NOISE
    data = make_data(plugin("datasets", NOISE, "noise"), {"count": 10})
    model, settings = make_model(plugin("models", TINY, "tiny"), {"hidden": 4}, data.train)
    batch = data.collate([data.train[i] for i in range(4)])
    assert model(batch)["loss"].requires_grad
    assert model.net[0].out_features == 4
    assert settings == {"hidden": 4}
    assert (len(data.train), data.validation, data.settings) == (10, None, {"count": 10})


def test_the_file_is_loaded_once_and_leaves_no_byte_code(plugin: Any, tmp_path: Path) -> None:
    first = plugin("models", "import builtins\nX = object()\n")
    second = Plugin("models/mine.py", first.path)
    assert first.module.X is second.module.X
    assert sys.modules["tsuzuku_plugins.models.mine"] is first.module
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_of_the_same_name_elsewhere_is_another_plug_in(tmp_path: Path) -> None:
    for number in (1, 2):
        path = tmp_path / str(number) / "mine.py"
        path.parent.mkdir()
        path.write_text(f"X = {number}\n", encoding="utf-8")
        assert number == Plugin("models/mine.py", path).module.X


@pytest.mark.parametrize("name", ["my-model", "2layer", "json", "torch", "モデル"])
def test_file_names_that_are_no_identifiers_or_are_taken_work(plugin: Any, name: str) -> None:
    found = plugin("models", TINY, name)
    assert make_model(found, {}, None)[0].net
    assert __import__("json").dumps({}) == "{}"
    model, _ = make_model(found, {}, None)
    assert pickle.loads(pickle.dumps((found, model)))[1].net


def test_a_plug_in_arrives_in_another_process_by_its_file(plugin: Any, tmp_path: Path) -> None:
    data = make_data(plugin("datasets", NOISE, "noise"), {"count": 3})
    (tmp_path / "pickled").write_bytes(pickle.dumps((data.plugin, data.train)))
    code = """
import pickle, sys
from pathlib import Path
plugin, data = pickle.loads(Path(sys.argv[1]).read_bytes())
print(type(data).__module__, len(data), plugin.label)
"""
    assert ran(code, tmp_path / "pickled").split() == [
        *("tsuzuku_plugins.datasets.noise", "3", "datasets/noise.py")
    ]


# Which class


TWO = "class A(nn.Module):\n    pass\nclass B(nn.Module):\n    pass\n"


def test_of_several_classes_one_is_named_by_a_constant(plugin: Any) -> None:
    for constant in ('MODEL = "B"', "MODEL = B"):
        assert type(model_of(plugin, TWO + constant, {})[0]).__name__ == "B"
        for name in ("tsuzuku_plugins.models.mine",):
            sys.modules.pop(name)


def test_several_classes_without_a_constant_are_refused_with_the_line_to_write(plugin: Any) -> None:
    with pytest.raises(PluginError, match=r"several .* \(A, B\)") as caught:
        model_of(plugin, TWO)
    assert caught.value.hint == 'Say which one by MODEL = "B" in the file.'


@pytest.mark.parametrize("constant", ['"C"', '"torch"', "3", "None or 5", "dict"])
def test_a_constant_that_names_no_model_is_refused(plugin: Any, constant: str) -> None:
    with pytest.raises(PluginError, match=r"models/mine\.py: MODEL"):
        model_of(plugin, TWO + f"MODEL = {constant}\n")


def test_imported_classes_do_not_count(plugin: Any) -> None:
    init = "    def __init__(self):\n        super().__init__(1, 1)\n"
    code = f"from torch.nn import Linear\nclass A(Linear):\n{init}"
    assert type(model_of(plugin, code)[0]).__name__ == "A"
    with pytest.raises(PluginError, match="has no model"):
        make_model(plugin("models", "from torch.nn import Linear\n", "other"), {}, None)


def test_a_record_of_a_data_set_is_not_taken_for_the_data_set(plugin: Any) -> None:
    code = "from typing import NamedTuple\nclass Item(NamedTuple):\n    x: int\n" + NOISE
    assert type(make_data(plugin("datasets", code), {"count": 3}).train).__name__ == "Noise"


# Constructors


CONFIG = """
from pydantic import BaseModel
class Config(BaseModel):
    hidden: int = 3
    names: list[str] = ["a"]
"""


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("def __init__(self):\n        self._init()", {}),
        ("def __init__(self, hidden=3):\n        self._init(hidden=hidden)", {"hidden": 5}),
        ("def __init__(self, *, hidden):\n        self._init(hidden=hidden)", {"hidden": 5}),
        ("def __init__(self, **rest):\n        self._init(**rest)", {"hidden": 5}),
        (
            "def __init__(self, config):\n        self._init(hidden=config.hidden * 2)",
            {"hidden": 10},
        ),
        (
            "def __init__(self, dataset, hidden):\n        self._init(d=dataset, hidden=hidden)",
            {"d": "the data set", "hidden": 5},
        ),
        (
            "def __init__(self, config, dataset):\n        self._init(d=dataset, n=len(config))",
            {"d": "the data set", "n": 1},
        ),
    ],
)
def test_a_constructor_gets_what_it_asks_for_by_name(
    plugin: Any, code: str, seen: dict[str, Any]
) -> None:
    init = "    def _init(self, **kw):\n        super().__init__()\n        self.seen = kw\n"
    body = f"class A(nn.Module):\n    {code}\n{init}"
    settings = {} if seen == {} else {"hidden": 5}
    model, resolved = model_of(plugin, body, settings)
    assert model.seen == seen
    assert resolved == settings


@pytest.mark.parametrize("place", ["module", "class"])
def test_a_config_model_checks_the_settings_and_fills_in_defaults(plugin: Any, place: str) -> None:
    inner = "" if place == "module" else "    Config = Settings\n"
    config = CONFIG if place == "module" else CONFIG.replace("class Config", "class Settings")
    code = config + (
        f"class A(nn.Module):\n{inner}    def __init__(self, config):\n"
        "        super().__init__()\n        self.config = config\n"
    )
    found = plugin("models", HEAD + code)
    model, resolved = make_model(found, {"hidden": 4}, None)
    assert resolved == {"hidden": 4, "names": ["a"]}
    assert model.config.hidden == 4
    with pytest.raises(SettingsError) as caught:
        make_model(found, {"hidde": 4, "names": 3}, None)
    text = "\n".join(caught.value.problems)
    assert "models.mine.hidde is not a setting; did you mean hidden?" in text
    assert "models.mine.names: input should be a valid list (it is 3)" in text


def test_from_config_gets_settings_and_data_set(plugin: Any) -> None:
    code = """
class A(nn.Module):
    @classmethod
    def from_config(cls, config, dataset):
        model = cls()
        model.seen = (config.hidden, dataset)
        return model
"""
    assert model_of(plugin, code, {"hidden": 2})[0].seen == (2, "the data set")
    sys.modules.pop("tsuzuku_plugins.models.mine")
    with pytest.raises(PluginError, match="has to return the model"):
        model_of(plugin, code.replace("return model", "return None"), {"hidden": 2})


def test_unknown_settings_of_a_plain_constructor_are_refused_by_path(plugin: Any) -> None:
    init = "def __init__(self, hidden=3, depth=2):\n        super().__init__()\n"
    code = f"class A(nn.Module):\n    {init}"
    with pytest.raises(SettingsError) as caught:
        model_of(plugin, code, {"hiden": 1, "zzz": 2})
    assert caught.value.problems == [
        "models.mine.hiden is not a setting; did you mean hidden?",
        "models.mine.zzz is not a setting; there are: hidden, depth",
    ]


def test_a_plain_config_says_which_setting_is_missing() -> None:
    config = PlainConfig({"path": "x"})
    assert config.path == config["path"] == "x"
    assert not hasattr(config, "other")
    with pytest.raises(AttributeError, match="'other'"):
        config.other  # noqa: B018
    assert pickle.loads(pickle.dumps(config)) == config


# Data sets


def test_a_validation_split_of_any_usual_name_is_made(plugin: Any) -> None:
    for word in ("validation", "val", "valid", "dev"):
        code = NOISE.replace(
            "class Noise:", f"class Noise:\n    splits = ['train', 'test', {word!r}]"
        ).replace("count = int", "self.split = split\n        count = int")
        data = make_data(plugin("datasets", code, word), {"count": 3})
        assert (data.train.split, data.validation.split) == ("train", word)
    assert make_data(plugin("datasets", NOISE, "none"), {"count": 3}).validation is None


@pytest.mark.parametrize("splits", ["property(lambda self: ['train'])", "5", "lambda self: []"])
def test_splits_that_are_no_list_are_a_fault_of_the_file(plugin: Any, splits: str) -> None:
    code = NOISE.replace("class Noise:", f"class Noise:\n    splits = {splits}\n")
    with pytest.raises(PluginError, match="splits"):
        make_data(plugin("datasets", code), {})


def test_an_empty_split_is_refused(plugin: Any) -> None:
    with pytest.raises(WrongInput, match="training split is empty") as caught:
        make_data(plugin("datasets", NOISE), {"count": 0})
    assert caught.value.code == "empty_dataset"


def test_a_data_sets_constant_and_config_work_as_a_models(plugin: Any) -> None:
    code = CONFIG + NOISE.replace('config.get("count", 64)', "config.hidden").replace(
        "config.get(", "{}.get("
    )
    code += "class Base:\n    def __len__(self): ...\n    def __getitem__(self, i): ...\n"
    code += "DATASET = 'Noise'\n"
    data = make_data(plugin("datasets", code), {})
    assert len(data.train) == 3
    assert data.settings == {"hidden": 3, "names": ["a"]}


# What is wrong, with its line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ndef f(:\n", r"models/mine\.py, line 2: "),
        ("x = 1\n  y = 2\n", r"models/mine\.py, line 2: unexpected indent"),
        ("x = 1\n\n1 / 0\n", r"models/mine\.py, line 3 raised ZeroDivisionError: division by zero"),
        ("import nowhere_to_be_found\n", r"line 1 raised ModuleNotFoundError: .*nowhere_to_be"),
        ("def f():\n    raise OSError('two\\n lines')\nf()\n", r"line 2 raised OSError: two lines"),
        ("import sys\nsys.exit(3)\n", r"line 2 raised SystemExit: 3"),
        ("x = '\x00'\n", r"models/mine\.py"),
        ("# -*- coding: nonsense -*-\n", r"models/mine\.py"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(
    plugin: Any, code: str, said: str
) -> None:
    with pytest.raises(PluginError, match=said) as caught:
        plugin("models", code)
    assert caught.value.exit_code == 2
    assert "tsuzuku_plugins.models.mine" not in sys.modules


def test_a_file_that_was_mended_is_loaded_after_all(plugin: Any) -> None:
    with pytest.raises(PluginError):
        plugin("models", "1 / 0\n")
    assert plugin("models", "X = 1\n").module.X == 1


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(PluginError, match=r"models/mine\.py"):
        Plugin("models/mine.py", path)
    with pytest.raises(PluginError, match=r"models/gone\.py"):
        Plugin("models/gone.py", tmp_path / "gone.py")


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            "raise ValueError('hidden is odd')",
            WrongInput,
            r"models/mine\.py, line 6: hidden is odd",
        ),
        ("raise FileNotFoundError('no x')", WrongInput, r"models/mine\.py, line 6: no x"),
        ("1 / 0", PluginError, r"models/mine\.py, line 6: ZeroDivisionError"),
        ("config.hidden", PluginError, r"line 6: AttributeError: .*'hidden'.*config\.yaml"),
        ("config['hidden']", PluginError, r"line 6: KeyError"),
        ("torch.randn(2) @ torch.randn(3)", PluginError, r"line 6: RuntimeError"),
    ],
)
def test_what_a_constructor_raises_is_one_sentence_with_its_line(
    plugin: Any, body: str, kind: type, said: str
) -> None:
    init = "    def __init__(self, config):\n        super().__init__()\n"
    code = f"class A(nn.Module):\n{init}        {body}\n"
    with pytest.raises(kind, match=said):
        model_of(plugin, code, {"path": 1})


def test_what_a_data_set_raises_is_one_sentence_with_its_line(plugin: Any) -> None:
    code = NOISE.replace("return len(self.x)", "return 1 / 0")
    line = code.splitlines().index("        return 1 / 0") + 1
    with pytest.raises(PluginError, match=rf"datasets/mine\.py, line {line}: ZeroDivisionError"):
        make_data(plugin("datasets", code), {})


def test_a_model_that_is_made_twice_from_one_seed_is_the_same(plugin: Any) -> None:
    found = plugin("models", TINY, "tiny")
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(make_model(found, {}, None)[0].state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
