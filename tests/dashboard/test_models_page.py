"""「🤖 モデル」: trained models, and the plug-ins with what is wrong with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import Theme, api, overflowing, settled, show, unreachable
from grid_rows import choose, chosen, has_rows
from plain_plugins import CONFIG, make_workspace
from servers import Served
from trainings import until

LONG = 120_000
"""Milliseconds in which a worker has loaded torch and done what it was asked."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CONFIG.replace("language: en", "language: ja").replace(
        "num_epochs: 3", "num_epochs: 1"
    )
    made = make_workspace(tmp_path_factory.mktemp("models") / "workspace", config)
    (made / "models" / "wrong.py").write_text("import no_such_package\n", encoding="utf-8")
    (made / "datasets" / "cut.py").write_text("def x(:\n", encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def run_id(served: Served) -> str:
    """A run that has completed."""
    body = {"model_name": "tiny", "dataset_name": "noise", "epochs": 1}
    run_id = str(api(served.url, "/api/train/start", body)["run_id"])
    until("the training's end", lambda: not api(served.url, "/api/status")["is_training"])
    return run_id


def opened(page: Page, served: Served, lang: str = "ja") -> Locator:
    show(page, f"{served.url}/models?lang={lang}")
    main = page.get_by_test_id("stMain")
    expect(main.get_by_text("mnist").first).to_be_visible()
    return main


def models(served: Served) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in api(served.url, "/api/models")["models"]}


def downloaded(page: Page, link: Locator) -> bytes:
    with page.expect_event("download") as found:
        link.evaluate("element => element.removeAttribute('target')")
        link.click()
    return found.value.path().read_bytes()


def test_plugins_say_what_they_are(page: Page, served: Served) -> None:
    main = opened(page, served)
    expect(main.get_by_text("No module named 'no_such_package'")).to_be_visible()
    expect(main.get_by_text("datasets/cut.py, line 1: invalid syntax.")).to_be_visible()
    main.get_by_text("tiny · ワークスペース").click()
    expect(main.get_by_text("A small network with dropout")).to_be_visible()
    row = main.get_by_role("row").filter(has_text="dropout")
    expect(row).to_contain_text("0.25")


def test_trained_models_are_used_and_deleted(page: Page, served: Served, run_id: str) -> None:
    main = opened(page, served)
    has_rows(page, 2)
    expect(chosen(page)).to_contain_text("🏁 最終の重み")
    loss = main.get_by_test_id("stMetric").filter(has_text="val_loss")
    measured = models(served)[f"{run_id}-final"]["metrics"]
    expect(loss).to_contain_text(f"{measured['val_loss']:.4g}")
    file = Path(str(models(served)[f"{run_id}-final"]["path"]))
    content = downloaded(page, main.get_by_role("link", name="⬇️ ダウンロード").first)
    assert hashlib.sha256(content).digest() == hashlib.sha256(file.read_bytes()).digest()

    choose(page, 1)
    expect(chosen(page)).to_contain_text("🏆 最良の重み")
    main.get_by_text("エクスポート", exact=True).first.click()
    main.get_by_role("button", name="📤 エクスポート").click()
    exported = main.get_by_text(".safetensors を書き出しました")
    expect(exported).to_be_visible(timeout=LONG)

    main.get_by_role("button", name="🗑️ 削除").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(run_id)
    dialog.get_by_role("button", name="やめる").click()
    expect(dialog).to_have_count(0)
    assert len(models(served)) == 2
    main.get_by_role("button", name="🗑️ 削除").click()
    dialog.get_by_role("button", name="削除する").click()
    expect(main.get_by_text(f"{run_id}-best を削除しました。")).to_be_visible()
    assert list(models(served)) == [f"{run_id}-final"]
    has_rows(page, 1)


@pytest.mark.parametrize(("theme", "lang"), [("light", "ja"), ("dark", "en")])
def test_everybody_can_read_it(
    page: Page, served: Served, run_id: str, lang: str, theme: Theme
) -> None:
    page.emulate_media(color_scheme=theme)
    opened(page, served, lang)
    has_rows(page, len(models(served)))
    assert unreachable(page) == []
    assert overflowing(page) == 0
    page.set_viewport_size({"width": 400, "height": 800})
    settled(page)
    assert overflowing(page) == 0
