"""「配置」: the processes of a training in the page, chosen there and watched there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import api, overflowing, settled, show, unreachable
from servers import Served
from trainings import stop, until
from uneven import make_uneven_workspace, placed, start


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven_workspace(tmp_path_factory.mktemp("placement") / "workspace")


def sidebar(page: Page) -> Locator:
    return page.get_by_test_id("stSidebar")


def choose(page: Page, label: str, value: str) -> None:
    box = sidebar(page).get_by_role("combobox", name=label)
    box.scroll_into_view_if_needed()
    box.fill(value)  # opens the list
    page.get_by_role("option", name=value, exact=True).click()
    settled(page)


def enter(page: Page, role: str, label: str, value: str) -> None:
    box = sidebar(page).get_by_role("textbox" if role == "text" else "spinbutton", name=label)
    box.fill(value)
    box.press("Enter")
    settled(page)


def placement(page: Page, name: str = "配置") -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def cell(page: Page, rank: int, name: str) -> Locator:
    return page.locator(f'.tz-table tr[data-rank="{rank}"] .tz-col-{name}')


def running(served: Served) -> str:
    """A training of two ranks that is under way; a new one only where there is none."""
    status = api(served.url, "/api/status")
    run_id = str(status["run_id"]) if status["is_training"] else start(served)
    placed(served, run_id)
    return run_id


def test_ranks_are_chosen_in_the_page_and_seen_there(page: Page, served: Served) -> None:
    stop(served)
    show(page, served.url)
    sidebar(page).get_by_text("詳細設定").click()
    settled(page)
    sidebar(page).get_by_role("tab", name="学習", exact=True).click()
    choose(page, "launcher", "torchrun")
    enter(page, "number", "devices", "2")
    enter(page, "text", "resources", "CPU: 1")
    enter(page, "number", "エポック数", "5000")
    sidebar(page).get_by_role("button", name="🆕 新規学習開始").click()
    alert = sidebar(page).get_by_role("alert")
    expect(alert).to_contain_text("address and resources are for ray, not for torchrun")
    enter(page, "text", "resources", "")
    sidebar(page).get_by_role("button", name="🆕 新規学習開始").click()
    expect(sidebar(page).get_by_text("学習を開始しました")).to_be_visible()

    expect(placement(page)).to_be_visible()
    expect(placement(page)).to_contain_text("torchrun・2 プロセス・1 台")
    run_id = str(api(served.url, "/api/status")["run_id"])
    folder = served.root / "outputs" / run_id[:10] / run_id[11:]
    asked = json.loads((folder / "config.json").read_text())["training"]["distributed"]
    assert (asked["launcher"], asked["devices"], asked["resources"]) == ("torchrun", 2, {})
    pids = [one["pid"] for one in placed(served, run_id)["ranks"]]
    for rank, pid in enumerate(pids):
        expect(cell(page, rank, "pid")).to_have_text(str(pid))
        expect(cell(page, rank, "memory")).to_have_text(re.compile(r"^\d+ MB$"))
    expect(cell(page, 0, "state")).to_have_text("🏃 実行中")
    expect(cell(page, 1, "state")).to_have_text("🏃 実行中 ⚠ 遅い")  # not by colour alone
    expect(placement(page).get_by_role("status").first).to_have_text(
        "⚠ ランク 1 が遅れ、ほかのプロセスが待っています。"
    )
    expect(page.locator(".tz-col-gpu").first).to_be_hidden()


def test_numbers_move_and_nothing_else(page: Page, served: Served) -> None:
    running(served)
    show(page, served.url)
    pace = cell(page, 1, "own")
    expect(pace).to_have_text(re.compile(r"^[\d.]+ ms$"))
    page.evaluate(
        """() => {
          window.rebuilt = 0;
          const seen = new MutationObserver((all) => {
            for (const one of all) for (const node of one.addedNodes) {
              if (node.nodeType === 1) window.rebuilt++;
            }
          });
          seen.observe(document.querySelector('.tz-placement'), { childList: true, subtree: true });
        }"""
    )
    for _ in range(2):
        was = pace.inner_text()
        expect(pace).not_to_have_text(was)
    assert page.evaluate("window.rebuilt") == 0


def test_the_log_of_a_rank_is_chosen_and_follows(page: Page, served: Served) -> None:
    running(served)
    show(page, served.url)
    placement(page).get_by_text("プロセスのログ").click()
    expect(placement(page)).to_contain_text("まだ何も出力していません。")
    placement(page).get_by_role("combobox", name="ログを表示するランク").select_option("ランク 1")
    log = page.locator(".tz-rank-log")
    expect(log).to_contain_text(re.compile(r"sample \d+ read"))
    newest = log.inner_text().splitlines()[-1]
    expect(log).not_to_have_text(re.compile(rf"{newest}\s*$"))
    left = "(e) => e.scrollHeight - e.scrollTop - e.clientHeight"
    assert log.evaluate(left) < 24
    log.evaluate("(e) => { e.scrollTop = 0 }")  # who reads is left where they are
    was = log.inner_text()
    expect(log).not_to_have_text(was, use_inner_text=True)
    assert log.evaluate("(e) => e.scrollTop") < 24


@pytest.mark.parametrize(
    ("width", "language", "name", "slow"),
    [(1280, "?lang=en", "Placement", "🏃 Working ⚠ Slow"), (390, "", "配置", "🏃 実行中 ⚠ 遅い")],
)
def test_both_languages_and_a_narrow_window(
    page: Page, served: Served, width: int, language: str, name: str, slow: str
) -> None:
    running(served)
    page.set_viewport_size({"width": width, "height": 900})
    show(page, f"{served.url}/{language}")
    expect(placement(page, name)).to_be_visible()
    expect(cell(page, 1, "state")).to_have_text(slow)
    page.locator(".tz-placement summary").click()
    assert overflowing(page) == 0
    assert unreachable(page) == []


def test_a_killed_rank_is_named_and_the_run_goes_on_by_a_button(page: Page, served: Served) -> None:
    run_id = running(served)
    show(page, served.url)
    expect(cell(page, 1, "state")).to_have_text("🏃 実行中 ⚠ 遅い")
    killed = placed(served, run_id)["ranks"][1]["pid"]
    psutil.Process(killed).kill()
    trouble = page.locator(".tz-trouble")
    expect(trouble).to_contain_text(f"Rank 1 (process {killed} on ")
    expect(cell(page, 0, "state")).to_have_text("⏹️ 終了")
    expect(placement(page).get_by_role("status").first).to_be_hidden()  # nobody waits any more
    trouble.get_by_role("button", name="🔄 学習再開").click()
    expect(cell(page, 0, "state")).to_have_text("🏃 実行中")
    expect(cell(page, 1, "pid")).not_to_have_text(str(killed))
    until("attempt 2", lambda: api(served.url, f"/api/runs/{run_id}")["attempt"] == 2)


def test_nothing_is_shown_of_a_training_of_one_process(page: Page, served: Served) -> None:
    stop(served)
    start(served, overrides={}, epochs=1, limit_samples=10)
    show(page, served.url)
    expect(page.locator('.tz-live[data-state="ready"][data-status="completed"]')).to_be_visible()
    expect(placement(page)).to_be_hidden()
