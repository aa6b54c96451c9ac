"""「🎯 学習制御」 in a browser, against a real server and real trainings."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect
from safetensors.numpy import save_file

from browsing import api, settled, show
from servers import Served
from trainings import BROKEN, epochs, make_slow_workspace, start, stop, until

START, RESUME, STOP = "🆕 新規学習開始", "🔄 学習再開", "🛑 学習停止"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_slow_workspace(tmp_path_factory.mktemp("sidebar") / "workspace")
    (made / "models" / "broken.py").write_text(BROKEN, encoding="utf-8")
    return made


@pytest.fixture(autouse=True)
def _quiet(served: Served) -> Iterator[None]:
    stop(served)
    yield
    stop(served)


def sidebar(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar")


def button(page: Page, name: str) -> Locator:
    return sidebar(page).get_by_role("button", name=name)


def choose(page: Page, label: str, value: str) -> None:
    box = sidebar(page).get_by_role("combobox", name=label)
    box.click()
    box.fill(value)  # of many options only those that can be seen are there
    page.get_by_role("option", name=value, exact=True).click()
    settled(page)


def number(page: Page, label: str) -> Locator:
    return sidebar(page).get_by_role("spinbutton", name=label)


def enter(page: Page, label: str, value: str) -> None:
    number(page, label).fill(value)
    number(page, label).press("Enter")
    settled(page)


def opened(page: Page, served: Served) -> None:
    """The main page, with `tiny` and `slow` chosen: there is nothing else that works."""
    show(page, served.url)
    expect(number(page, "エポック数")).to_be_visible()
    # it says which run it shows when it knows, and the page is drawn anew
    page.wait_for_selector('.tz-live:is([data-state="ready"], [data-state="idle"])')
    settled(page)


def press(page: Page, name: str, answer: str) -> None:
    """Press a button of the sidebar when it can be; `answer` is what it says then."""
    expect(button(page, name)).to_be_enabled()
    button(page, name).click()
    expect(sidebar(page).get_by_text(answer)).to_be_visible()


def asked(served: Served) -> dict[str, Any]:
    """The settings of the run that was started last."""
    run = api(served.url, "/api/status")["run_id"]
    folder = served.root / "outputs" / run[:10] / run[11:]
    return json.loads((folder / "config.json").read_text())


def test_every_button_of_the_sidebar(page: Page, served: Served) -> None:
    """Each is enabled only when it makes sense, and answers at once."""
    opened(page, served)
    expect(button(page, START)).to_be_enabled()
    expect(button(page, STOP)).to_be_disabled()
    enter(page, "エポック数", "5000")

    press(page, START, "学習を開始しました")
    expect(button(page, STOP)).to_be_enabled()
    expect(button(page, START)).to_be_disabled()
    expect(button(page, RESUME)).to_be_disabled()
    epochs(served, 1)

    press(page, STOP, "停止しています")
    expect(button(page, START)).to_be_enabled()
    expect(button(page, STOP)).to_be_disabled()
    sidebar(page).get_by_text("チェックポイントから再開").check()
    expect(button(page, RESUME)).to_be_enabled()

    press(page, RESUME, "から学習を再開しました")
    expect(button(page, STOP)).to_be_enabled()
    run_id = api(served.url, "/api/status")["run_id"]
    until("attempt 2", lambda: api(served.url, f"/api/runs/{run_id}")["attempt"] == 2)


def test_what_the_server_refuses_is_shown_and_nothing_typed_is_lost(
    page: Page, served: Served
) -> None:
    opened(page, served)
    enter(page, "エポック数", "7")
    enter(page, "バッチサイズ", "3")
    sidebar(page).get_by_text("詳細設定").click()
    sidebar(page).get_by_role("tab", name="学習").click()
    enter(page, "learning_rate", "0")
    button(page, START).click()
    alert = sidebar(page).get_by_role("alert")
    expect(alert).to_contain_text("training.learning_rate")
    expect(alert).to_contain_text("greater than 0")
    expect(number(page, "エポック数")).to_have_value("7")
    expect(number(page, "バッチサイズ")).to_have_value("3")
    expect(number(page, "learning_rate")).to_have_value("0")
    expect(button(page, START)).to_be_enabled()


def test_a_plug_in_that_cannot_be_read_is_named_with_its_problem(
    page: Page, served: Served
) -> None:
    show(page, served.url)
    choose(page, "モデル", "⚠ broken")
    expect(sidebar(page).get_by_role("alert")).to_contain_text("broken")
    expect(sidebar(page).get_by_role("alert")).to_contain_text("nn")
    for name in (START, RESUME, STOP):
        expect(button(page, name)).to_be_disabled()


def test_settings_from_the_schemas(page: Page, served: Served) -> None:
    """Only what was changed is sent."""
    opened(page, served)
    resuming = sidebar(page).get_by_role("checkbox", name="チェックポイントから再開")
    if resuming.is_checked():  # else what a checkpoint was trained with would hold
        sidebar(page).get_by_text("チェックポイントから再開").uncheck()
        settled(page)
    sidebar(page).get_by_text("詳細設定").click()
    settled(page)
    enter(page, "hidden", "16")
    sidebar(page).get_by_role("tab", name="データ").click()
    enter(page, "count", "48")
    sidebar(page).get_by_role("tab", name="学習").click()
    enter(page, "learning_rate", "0.02")
    choose(page, "optimizer", "SGD")
    betas = sidebar(page).get_by_role("textbox", name="betas")
    betas.fill("0.8, 0.99")
    betas.press("Enter")
    settled(page)
    sidebar(page).get_by_text("early_stopping を使う").click()
    settled(page)
    sidebar(page).get_by_text("詳細設定").click()  # what is not on the page is kept
    settled(page)
    enter(page, "エポック数", "2")
    enter(page, "サンプル数制限", "24")
    button(page, START).click()
    expect(sidebar(page).get_by_text("学習を開始しました")).to_be_visible()
    made = asked(served)
    assert made["model"] == {"hidden": 16}
    assert made["dataset"] == {"count": 48}
    training = made["training"]
    assert (training["learning_rate"], training["optimizer"]) == (0.02, "SGD")
    assert training["betas"] == [0.8, 0.99]
    assert training["early_stopping"]["min_delta"] == 0
    assert (training["num_epochs"], training["limit_samples"]) == (2, 24)
    assert training["weight_decay"] == 0.01


def test_what_was_typed_is_taken_back(page: Page, served: Served) -> None:
    opened(page, served)
    before = number(page, "エポック数").input_value()
    enter(page, "エポック数", "77")
    sidebar(page).get_by_text("詳細設定").click()
    settled(page)
    held = number(page, "hidden").input_value()  # the model's own, or the newest checkpoint's
    enter(page, "hidden", str(int(held) + 8))
    button(page, "既定値に戻す").click()
    expect(number(page, "hidden")).to_have_value(held)
    expect(number(page, "エポック数")).to_have_value(before)


def test_inputs_survive_other_pages_and_a_newest_checkpoint_is_offered(
    page: Page, served: Served
) -> None:
    start(served)
    epochs(served, 2)
    opened(page, served)
    enter(page, "バッチサイズ", "5")
    sidebar(page).get_by_text("軽量モード").check()
    settled(page)
    page.get_by_role("link", name="🤖 モデル").click()
    expect(page).to_have_url(re.compile("/models"))
    settled(page)
    expect(number(page, "バッチサイズ")).to_have_value("5")
    expect(sidebar(page).get_by_role("checkbox", name="軽量モード")).to_be_checked()
    # pages without a live part hear of the end, too
    expect(button(page, STOP)).to_be_enabled()
    stop(served)
    expect(button(page, STOP)).to_be_disabled()
    expect(button(page, RESUME)).to_be_enabled()
    listed = api(served.url, "/api/checkpoints?model_name=tiny&dataset_name=slow")["checkpoints"]
    chosen = sidebar(page).get_by_role("combobox", name="再開するチェックポイントを選択")
    expect(chosen).to_have_value("最新のチェックポイント")
    expect(sidebar(page).get_by_text(listed[0]["name"])).to_be_visible()
    page.get_by_role("link", name="🏠 メイン").click()
    expect(number(page, "バッチサイズ")).to_have_value("5")


def test_a_trained_out_checkpoint_says_what_to_ask_for(page: Page, served: Served) -> None:
    start(served, epochs=1)
    until("its end", lambda: api(served.url, "/api/status")["status"] == "completed")
    opened(page, served)
    expect(sidebar(page).get_by_text("エポック 1 まで学習済みです")).to_be_visible()
    expect(button(page, RESUME)).to_be_disabled()
    enter(page, "エポック数", "2")
    expect(button(page, RESUME)).to_be_enabled()
    button(page, RESUME).click()
    expect(sidebar(page).get_by_text("から学習を再開しました")).to_be_visible()
    until("2 epochs", lambda: api(served.url, "/api/status")["status"] == "completed")
    assert asked(served)["training"]["num_epochs"] == 2


def test_a_file_of_another_program_is_chosen_and_begins_a_run(page: Page, served: Served) -> None:
    """Marked, with what is kept of it in Japanese; what cannot be used is said."""
    folder = served.root / "imports"
    folder.mkdir(exist_ok=True)
    shapes = {"0.weight": (8, 6), "0.bias": (8,), "3.weight": (3, 8), "3.bias": (3,)}
    weights = {f"model.net.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "theirs.safetensors")
    (folder / "broken.ckpt").write_bytes(b"nothing")
    opened(page, served)
    sidebar(page).get_by_text("使えないファイル").click()
    expect(sidebar(page).get_by_text("broken.ckpt was refused")).to_be_visible()
    sidebar(page).get_by_text("チェックポイントから再開").check()
    settled(page)
    choose(page, "再開するチェックポイントを選択", "📥 theirs.safetensors")
    sidebar(page).get_by_text("このファイルから引き継ぐもの").click()
    settled(page)
    expect(sidebar(page).get_by_text("新しい学習をエポック 0 から始めます")).to_be_visible()
    expect(sidebar(page).get_by_text("引き継げるものがファイルにありません。")).to_be_visible()
    expect(sidebar(page).get_by_text("✘ 失われる").first).to_be_visible()
    enter(page, "エポック数", "5000")
    press(page, RESUME, "theirs.safetensors から学習を再開しました")
    run_id = api(served.url, "/api/status")["run_id"]
    assert api(served.url, f"/api/runs/{run_id}")["parent"] == "imports/theirs.safetensors"
    stop(served)
    shutil.rmtree(folder)
