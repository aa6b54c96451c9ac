"""「📈 学習履歴」: runs listed, looked into, followed, stopped, resumed and compared."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import Theme, api, overflowing, settled, show, unreachable
from grid_rows import choose, chosen, has_rows
from plain_plugins import CONFIG, make_workspace
from servers import Served, serving
from trainings import epochs, make_slow_workspace, start, stop, until
from tsuzuku.core.answers import Progress, RunInfo
from tsuzuku.core.schemas import Attempt, Run
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.dashboard import epoch_axis


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slow_workspace(tmp_path_factory.mktemp("runs") / "workspace")


@pytest.fixture(scope="module")
def pair(served: Served) -> tuple[str, str]:
    """A run of two epochs, and one that branched off its first with another batch size."""
    first = start(served, epochs=2)
    ended(served)
    body = {"model_name": "tiny", "dataset_name": "slow", "additional_epochs": 2, "batch_size": 4}
    body["specific_checkpoint"] = f"{first}/tiny-slow-epoch-1.pt"
    second = str(api(served.url, "/api/train/resume", body)["run_id"])
    ended(served)
    return first, second


def ended(served: Served) -> None:
    until("the training's end", lambda: not api(served.url, "/api/status")["is_training"])


def opened(page: Page, served: Served, *runs: str, lang: str = "ja") -> Locator:
    """The page with those runs chosen; its part beside the sidebar."""
    show(page, f"{served.url}/runs?lang={lang}&run={','.join(runs)}")
    main = page.get_by_test_id("stMain")
    expect(chosen(page)).to_have_count(len(runs))
    return main


def button(main: Locator, name: str) -> Locator:
    return main.get_by_role("button", name=name, exact=True)


def curves(main: Locator) -> Locator:
    """The chart of the comparison; above it is the family's."""
    return main.locator(".st-key-compare_chart").get_by_test_id("stPlotlyChart")


def test_one_run_is_looked_into(page: Page, served: Served, pair: tuple[str, str]) -> None:
    first, second = pair
    main = opened(page, served)
    has_rows(page, 2)
    choose(page, 0)
    expect(main.get_by_role("heading", name=f"🔎 {second}")).to_be_visible()
    epoch = main.get_by_test_id("stMetric").filter(has_text="エポック")
    expect(epoch).to_contain_text("3 / 3")
    expect(main.get_by_test_id("stMetric").filter(has_text="状態")).to_contain_text("🔵 完了")
    origin = main.get_by_text(
        f"{first}/tiny-slow-epoch-1.pt"
    )  # also in the grid, for those who hear
    expect(origin.filter(visible=True).first).to_be_visible()
    main.get_by_text("グラフとログを表示").click()
    expect(main.locator('[data-chart="loss"]')).to_contain_text("学習ロスグラフ")
    button(main, "🌿 分岐元を見る").click()
    choice = page.get_by_role("combobox", name="チェックポイント選択")
    expect(choice).to_have_value(f"tiny-slow-epoch-1.pt · {first}")


def test_runs_are_filtered(page: Page, served: Served, pair: tuple[str, str]) -> None:
    first, _ = pair
    main = opened(page, served)
    search = main.get_by_role("textbox", name="実行を検索")
    search.fill(first)
    search.press("Enter")
    has_rows(page, 2)  # the branch's parent is searched, too
    search.fill("2001-01-01")
    search.press("Enter")
    expect(main.get_by_text("条件に合う学習がありません")).to_be_visible()
    search.fill("")
    search.press("Enter")
    main.get_by_role("combobox", name="状態でフィルタ").click()
    page.get_by_role("option", name="🔵 完了").click()
    has_rows(page, 2)


def test_runs_are_compared(page: Page, served: Served, pair: tuple[str, str]) -> None:
    first, second = pair
    main = opened(page, served)
    choose(page, 0)
    choose(page, 1)
    expect(main.get_by_role("heading", name="📊 2 件の比較")).to_be_visible()
    chart = curves(main)
    expect(chart).to_contain_text(first)
    expect(chart).to_contain_text(second)
    expect(main.get_by_text("training.batch_size")).to_be_visible()
    expect(main.get_by_text("training.learning_rate")).to_have_count(0)
    main.get_by_role("combobox", name="指標").click()
    page.get_by_role("option", name="learning_rate").click()
    expect(chart.filter(has_text="learning_rate")).to_have_count(1)  # the old one goes first
    expect(chart).to_have_count(1)
    settled(page)
    axis = main.get_by_role("combobox", name="横軸")
    axis.click()
    page.get_by_role("option", name="エポック", exact=True).click()
    expect(axis).to_have_value("エポック")
    expect(chart.locator(".xtitle").filter(has_text="エポック")).to_have_count(1)
    expect(chart).to_have_count(1)
    main.get_by_text("対数目盛").click()
    settled(page)
    expect(chart).to_contain_text(second)


def test_follow_stop_and_resume(page: Page, served: Served, pair: tuple[str, str]) -> None:
    run_id = start(served)
    try:
        epochs(served, 1)
        main = opened(page, served, run_id)
        button(main, "👀 メインで見る").click()
        expect(page.get_by_role("heading", name="学習ダッシュボード")).to_be_visible()
        main = opened(page, served, run_id)
        button(main, "🛑 学習停止").click()
        ended(served)
        assert api(served.url, f"/api/runs/{run_id}")["status"] == "stopped"
        main = opened(page, served, run_id)
        expect(main.get_by_test_id("stMetric").filter(has_text="状態")).to_contain_text("⚪ 停止")
        button(main, "🔄 学習再開").click()
        expect(page.get_by_role("heading", name="学習ダッシュボード")).to_be_visible()
        status = api(served.url, "/api/status")
        assert (status["is_training"], status["run_id"]) == (True, run_id)
        main = opened(page, served, run_id)
        button(main, "📂 チェックポイント").click()
        expect(page.get_by_role("heading", name="📂 チェックポイント管理")).to_be_visible()
        expect(page.get_by_role("combobox", name="実行でフィルタ")).to_have_value(run_id)
    finally:
        stop(served)


@pytest.mark.parametrize(("theme", "lang"), [("light", "ja"), ("dark", "en")])
def test_everybody_can_read_it(
    page: Page, served: Served, pair: tuple[str, str], lang: str, theme: Theme
) -> None:
    page.emulate_media(color_scheme=theme)
    main = opened(page, served, *pair, lang=lang)
    expect(curves(main)).to_contain_text(pair[0])
    assert unreachable(page) == []
    assert overflowing(page) == 0
    page.set_viewport_size({"width": 400, "height": 800})
    settled(page)
    assert overflowing(page) == 0


PARENT = 9_997
FAMILY = {PARENT: 0, 9_998: 40, 9_999: 60}
"""Where each of them begins; all end at step 100."""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Ten thousand runs, each with an attempt; the newest two branched off the one before."""
    config = CONFIG.replace("language: en", "language: ja")
    root = make_workspace(tmp_path_factory.mktemp("crowded") / "workspace", config)
    with Store(Workspace(root).db) as store:
        for number in range(10_000):
            store.put_run(made(number))
            store.put_attempt(attempt(number))
        for number, at in FAMILY.items():
            if at:
                parent = f"{named(PARENT)}/<i>epoch-{at}.pt"
                store.put_attempt(attempt(number).model_copy(
                    update={"resumed_from": parent, "start_step": at}
                ))  # fmt: skip
                store.update_run(named(number), parent=parent)
            steps = range(at + 1, 101)
            store.add_points(named(number), "loss", steps, [number + 1 / s for s in steps])
            store.update_run(named(number), global_step=100)
    with serving(root) as served:
        yield served


def made(number: int) -> Run:
    return Run(
        run_id=named(number),
        model_name="tiny",
        dataset_name="noise",
        status="completed" if number % 3 else "failed",
        created_at=1e9 + number,
        updated_at=1e9 + number + 60,
        attempt=1,
        epoch=3,
        total_epochs=3,
        global_step=number,
        best_metric=1 / (number + 1),
    )


def attempt(number: int) -> Attempt:
    begun = 1e9 + number
    return Attempt(
        run_id=named(number), attempt=1, pid=1, hostname="here", status="completed",
        started_at=begun, ended_at=begun + 60,
    )  # fmt: skip


def named(number: int) -> str:
    hour, rest = divmod(number, 3600)
    return f"2026-11-20_{hour:02}-{rest // 60:02}-{rest % 60:02}"


def test_ten_thousand_rows(page: Page, crowded: Served) -> None:
    show(page, f"{crowded.url}/runs")  # Streamlit itself is loaded
    before = time.perf_counter()
    show(page, f"{crowded.url}/runs")
    has_rows(page, 10_000)
    drawn = time.perf_counter() - before
    main = page.get_by_test_id("stMain")
    before = time.perf_counter()
    main.get_by_role("combobox", name="状態でフィルタ").click()
    page.get_by_role("option", name=re.compile("失敗")).click()
    has_rows(page, 3_334)
    filtered = time.perf_counter() - before
    print(f"10,000 rows: drawn {drawn:.2f} s, filtered {filtered:.2f} s")
    assert max(drawn, filtered) < 10


def test_two_branches_with_what_their_parent_did_after_them(page: Page, crowded: Served) -> None:
    parent, one, other = map(named, FAMILY)
    main = opened(page, crowded, one, other)
    family = main.locator(".st-key-family_1").get_by_test_id("stPlotlyChart")
    for text in (parent, f"▶ {one}", f"▶ {other}"):
        expect(family).to_contain_text(text)
    expect(family).to_contain_text("<i>epoch-40.pt（ステップ 40）から分岐（削除済み）")
    left = f"分岐元のその後 {parent}"
    expect(curves(main)).to_contain_text(left)
    faint = (
        curves(main)
        .locator(".scatterlayer .trace")
        .evaluate_all(
            "traces => traces.filter((t) => t.style.opacity && t.style.opacity < 1).length"
        )
    )
    assert faint == 2, "the rest of the parent, as seen from each branch"
    assert unreachable(page) == []
    main.get_by_text("分岐元のその後", exact=True).click()
    expect(curves(main).filter(has_text=left)).to_have_count(0)
    main = opened(page, crowded, one, parent)
    expect(curves(main)).to_contain_text(one)
    expect(curves(main)).not_to_contain_text(left)  # what is compared is drawn as a whole


def test_steps_in_epochs_along_a_branch() -> None:
    """Ten steps an epoch up to step 20, where a branch goes on with five."""
    parent = RunInfo(**made(0).model_dump())
    child = parent.model_copy(update={"parent": "x/y.pt", "attempts": [attempt(1)]})
    child.attempts[0].start_step = 20
    known = [
        epoch_axis.stretch(parent, reached(epoch=4, step=10, of=10, total=40)),
        epoch_axis.stretch(child, reached(epoch=4, step=5, of=5, total=30)),
    ]
    found = [one for one in known if one is not None]
    assert epoch_axis.epochs([5, 10, 20, 25, 30], found) == [0.5, 1.0, 2.0, 3.0, 4.0]
    assert epoch_axis.stretch(parent, reached(epoch=0, step=0, of=0, total=0)) is None


def reached(epoch: int, step: int, of: int, total: int) -> Progress:
    return Progress(
        is_training=False, current_epoch=epoch, current_step=step, total_steps=of,
        global_step=total, server_time=0,
    )  # fmt: skip
