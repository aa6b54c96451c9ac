"""The two procedures of the guide to resuming, from start to end, in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from browsing import Complaints, api, settled, show, visit
from servers import Served, kill_workers, serving
from trainings import epochs, make_slow_workspace, start, stop, until


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slow_workspace(tmp_path_factory.mktemp("procedures") / "workspace")


@pytest.fixture(autouse=True)
def _quiet(served: Served) -> Iterator[None]:
    yield
    stop(served)


def sidebar(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar")


def choose(page: Page, label: str, value: str) -> None:
    sidebar(page).get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=value, exact=True).click()
    settled(page)


def enter(page: Page, label: str, value: str) -> None:
    field = sidebar(page).get_by_role("spinbutton", name=label)
    field.fill(value)
    field.press("Enter")
    settled(page)


def number(page: Page, name: str) -> Locator:
    """One of the live part's numbers."""
    return page.locator(f'[data-number="{name}"]')


def test_resume_from_the_newest_checkpoint(page: Page, served: Served) -> None:
    """基本的な学習再開"""
    run_id = start(served)
    epochs(served, 2)
    stop(served)
    before = api(served.url, f"/api/runs/{run_id}/metrics?keys=loss")["curves"]["loss"]["step"]

    # 1. サイドバーで学習設定
    show(page, served.url)
    choose(page, "モデル", "tiny")
    expect(sidebar(page).get_by_role("combobox", name="データセット")).to_have_value("slow")
    enter(page, "エポック数", "4000")
    enter(page, "バッチサイズ", "8")
    sidebar(page).get_by_text("チェックポイントから再開").check()
    settled(page)

    # 2. 学習再開の実行: from the newest checkpoint, by itself
    newest = api(served.url, "/api/checkpoints")["checkpoints"][0]
    sidebar(page).get_by_role("button", name="🔄 学習再開").click()
    message = f"{newest['name']} から学習を再開しました（{run_id}）"
    expect(sidebar(page).get_by_text(message)).to_be_visible()

    # 3. 進捗の確認: the same run, with what was before and where it went on
    expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/4,000$"))
    expect(number(page, "origin")).to_contain_text(re.compile(rf"Epoch {newest['epoch']}\b"))
    expect(page.locator('[data-chart="loss"]')).to_contain_text("学習ロスグラフ")
    expect(page.locator('[data-chart="learning_rate"]')).to_contain_text("学習率グラフ")
    expect(page.get_by_text("から再開します").first).to_be_visible()
    after = api(served.url, f"/api/runs/{run_id}/metrics?keys=loss")
    assert after["curves"]["loss"]["step"][: len(before)] == before
    assert [one["attempt"] for one in after["resumes"]] == [2]


def test_resume_from_a_chosen_checkpoint(page: Page, served: Served) -> None:
    """特定のチェックポイントから再開"""
    run_id = start(served)
    epochs(served, 3)
    stop(served)
    listed = api(served.url, f"/api/checkpoints?run_id={run_id}")["checkpoints"]
    chosen = next(one for one in listed if one["epoch"] == 2 and "step" not in one["name"])

    # 1. チェックポイント管理ページに移動
    show(page, served.url)
    page.get_by_role("link", name="📂 チェックポイント").click()
    expect(page.get_by_role("heading", name="📂 チェックポイント管理")).to_be_visible()
    settled(page)

    # 2. チェックポイントの選択
    main = page.get_by_test_id("stMain")
    expect(main.get_by_test_id("stDataFrame").first).to_be_visible()
    settled(page)
    box = main.get_by_role("combobox", name="チェックポイント選択")
    option = page.get_by_role("option", name=f"{chosen['name']} · {run_id}", exact=True)
    for _ in range(5):  # a list that is open closes when what is beside it is still being drawn
        box.click()
        box.fill(f"{chosen['name']} · {run_id}")
        with suppress(PlaywrightTimeout):
            option.click(timeout=5_000)
            break
    settled(page)

    # 3. 学習再開パラメータの設定
    field = main.get_by_role("spinbutton", name="追加エポック数")
    field.fill("3000")
    field.press("Enter")
    settled(page)

    # 4. 学習再開の実行: back to the main page by itself
    main.get_by_role("button", name="🔄 このチェックポイントから学習を再開").click()
    expect(page.get_by_role("heading", name="学習ダッシュボード")).to_be_visible()
    expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/3,002$"))
    expect(number(page, "origin")).to_contain_text("Epoch 2")
    status = api(served.url, "/api/status")
    assert status["run_id"] != run_id  # a branch: the old run has gone further
    assert status["resumed_from"] == f"{run_id}/{chosen['name']}"


def test_a_crash_is_resumed_with_one_button(page: Page, served: Served) -> None:
    run_id = start(served)
    epochs(served, 1)
    show(page, served.url)
    expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/5,000$"))
    kill_workers(served.root)
    trouble = page.locator(".tz-trouble")
    trouble.get_by_role("button", name="🔄 学習再開").click()
    expect(sidebar(page).get_by_text("から学習を再開しました")).to_be_visible()
    expect(trouble).to_be_hidden()
    until("attempt 2", lambda: api(served.url, f"/api/runs/{run_id}")["attempt"] == 2)


def test_a_reload_and_a_second_browser_show_the_same_run(
    page: Page, browser: Browser, complaints: Complaints, served: Served
) -> None:
    start(served)
    epochs(served, 1)
    show(page, served.url)
    with visit(browser, complaints) as other:
        show(other, served.url)
        for one in (page, other):
            expect(number(one, "epoch")).to_have_text(re.compile(r"^\d+/5,000$"))
        page.reload()
        settled(page)
        expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/5,000$"))
        # what one visitor does, the other sees
        sidebar(page).get_by_role("button", name="🛑 学習停止").click()
        stop_button = sidebar(other).get_by_role("button", name="🛑 学習停止")
        expect(stop_button).to_be_disabled()
        expect(sidebar(other).get_by_role("button", name="🆕 新規学習開始")).to_be_enabled()
    epoch = number(page, "epoch").inner_text()
    page.reload()
    expect(number(page, "epoch")).to_have_text(epoch)


def test_a_server_that_restarts_under_an_open_page(browser: Browser, tmp_path: Path) -> None:
    """The page comes back by itself, with the training that went on meanwhile."""
    complaints = Complaints()  # the browser says that the server is away; so it should
    root = make_slow_workspace(tmp_path / "workspace")
    with serving(root) as first, visit(browser, complaints) as page:
        start(first)
        epochs(first, 1)
        show(page, first.url)
        expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/5,000$"))
        first.kill()  # its worker lives on
        expect(page.get_by_text("サーバー").first).to_be_visible()
        with serving(root, port=first.port) as second:
            reached = int(number(page, "epoch").inner_text().split("/")[0])
            expect(number(page, "epoch")).not_to_have_text(re.compile(rf"^{reached}/"))
            button = sidebar(page).get_by_role("button", name="🛑 学習停止")
            expect(button).to_be_enabled()
            button.click()
            expect(sidebar(page).get_by_text("停止しています")).to_be_visible()
            stop(second)
            expect(sidebar(page).get_by_role("button", name="🆕 新規学習開始")).to_be_enabled()


def test_a_visitor_in_a_hurry(page: Page, served: Served) -> None:
    """Whoever goes from page to page, while each is being drawn and a training is followed,
    arrives at the last one."""
    start(served)
    epochs(served, 1)
    show(page, served.url)
    for pause in (0, 300):
        for link in ("🏠 メイン", "📈 学習履歴", "🤖 モデル"):
            page.get_by_role("link", name=link).first.click()
            page.wait_for_timeout(pause)
        expect(page.get_by_role("heading", name="🤖 モデル", level=1)).to_be_visible()
    settled(page)
    expect(page.get_by_role("heading", name="🤖 モデル", level=1)).to_be_visible()
