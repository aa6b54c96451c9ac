"""The live part of the main page, against a real server and a real training."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

import tsuzuku.dashboard
from browsing import PATIENCE, Complaints, api, overflowing, settled, show, unreachable, visit
from made_runs import begin
from plain_plugins import CONFIG, make_workspace
from servers import Served, free_port, serving, workers
from tsuzuku.core.schemas import Event, EventType
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace

DELAY = "datasets.noise.delay"
JAPANESE = CONFIG.replace("language: en", "language: ja")
TOKEN = "a-token-that-nobody-guesses"
MARKUP = "<b>bold</b> <img src=x onerror=alert(1)> & {name}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose data set can be told to take its time."""
    made = make_workspace(tmp_path_factory.mktemp("live") / "workspace", JAPANESE)
    noise = made / "datasets" / "noise.py"
    text = noise.read_text(encoding="utf-8")
    text = text.replace(
        "def __getitem__(self, index):\n",
        "def __getitem__(self, index):\n        time.sleep(self.delay)\n",
    )
    text = text.replace(
        "    def __len__", '        self.delay = float(config.get("delay", 0))\n\n    def __len__'
    )
    noise.write_text(text.replace("import random\n", "import random\nimport time\n"), "utf-8")
    return made


def start(served: Served, epochs: int = 2000, delay: float = 0.005) -> str:
    body = {"model_name": "tiny", "dataset_name": "noise", "epochs": epochs}
    body |= {"resume_from_checkpoint": False, "overrides": {DELAY: delay}}
    return str(api(served.url, "/api/train/start", body)["run_id"])


def stop(served: Served) -> None:
    if api(served.url, "/api/status")["is_training"]:
        api(served.url, "/api/train/stop", {})
    until = time.monotonic() + 60
    while api(served.url, "/api/status")["is_training"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def running(served: Served) -> str:
    """A training that is under way; a new one only where there is none: each costs seconds."""
    status = api(served.url, "/api/status")
    if not status["is_training"]:
        return start(served)
    return str(status["run_id"])


def wait_for_a_checkpoint(served: Served, run_id: str) -> None:
    until = time.monotonic() + 60
    while not api(served.url, f"/api/checkpoints?run_id={run_id}")["checkpoints"]:
        assert time.monotonic() < until
        time.sleep(0.05)


def finished(served: Served) -> str:
    """A training of 42 steps that is over, and the last that there was."""
    stop(served)
    status = api(served.url, "/api/status")
    if status["status"] == "completed":
        return str(status["run_id"])
    run_id = start(served, epochs=6, delay=0)
    until = time.monotonic() + 60
    while api(served.url, "/api/status")["status"] != "completed":
        assert time.monotonic() < until
        time.sleep(0.05)
    return run_id


def opened(page: Page, served: Served, status: str = "running", lang: str = "") -> Locator:
    """The live part, when it shows a run of that status with its charts."""
    show(page, f"{served.url}/{lang}")
    state = f'.tz-live[data-state="ready"][data-status="{status}"]'
    expect(page.locator(state)).to_be_visible()
    drawn(page)
    return page.locator(".tz-live")


def drawn(page: Page) -> None:
    wait(page, "() => document.querySelectorAll('.tz-plot .main-svg').length > 0")


def number(page: Page, name: str) -> Locator:
    return page.locator(f'[data-number="{name}"]')


def trace(page: Page, chart: str, name: str) -> dict[str, Any]:
    """The points of a chart's curve as they are drawn."""
    return page.evaluate(
        """([chart, name]) => {
          const plot = document.querySelector(`[data-chart="${chart}"] .tz-plot`);
          const one = plot.data.find((t) => t.name === name && t.line.width !== 0);
          return one && { x: [...one.x], y: [...one.y] };
        }""",
        [chart, name],
    )


def wait(page: Page, code: str, argument: Any = None) -> None:
    """Until a function in the page answers something true. Playwright's own way of doing that
    evaluates a text in the page, which the page's policy forbids."""
    until = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(code, argument):
        assert time.monotonic() < until, f"never true: {code}"
        page.wait_for_timeout(50)


COUNT = """() => {
  window.drawings = 0;
  const plot = document.querySelector('[data-chart="loss"] .tz-plot');
  plot.on('plotly_afterplot', () => window.drawings++);
}"""


def test_numbers_and_charts_move(page: Page, served: Served) -> None:
    frames: list[str] = []

    def listening(socket: WebSocket) -> None:
        if "/ws?" in socket.url:
            socket.on("framereceived", lambda text: frames.append(str(text)))

    page.on("websocket", listening)
    stop(served)
    start(served)
    opened(page, served)
    expect(number(page, "epoch")).to_have_text(re.compile(r"^\d+/2,000$"))
    expect(number(page, "step")).to_have_text(re.compile(r"^\d/7$"))
    expect(number(page, "origin")).to_have_text("-")
    expect(number(page, "loss")).to_have_text(re.compile(r"^[\d.]+(e-\d+)?$"))
    expect(number(page, "learning_rate")).to_have_text("1.00e-2")
    expect(number(page, "speed")).to_have_text(re.compile(r"^[\d.,]+ サンプル/秒$"))
    expect(number(page, "eta")).to_have_text(re.compile(r"^\d[\d:]+$"))
    expect(number(page, "status")).to_have_text("🏃 学習中")
    page.evaluate(COUNT)
    before = len(frames)
    wait(page, "() => window.drawings >= 8")
    arrived = len([text for text in frames[before:] if '"progress"' in text])
    assert page.evaluate("window.drawings") >= arrived / 2
    bar = page.get_by_role("progressbar", name="学習の進捗")
    was = bar.get_attribute("aria-valuenow")
    wait(
        page,
        "(was) => document.querySelector('.tz-bar').getAttribute('aria-valuenow') !== was",
        was,
    )
    times = [float(at) for at in re.findall(r'"progress".*?"time":([\d.]+)', "".join(frames))]
    batches = len(frames)
    assert batches / max(times[-1] - times[0], 1) >= 2  # by the clock of the training


def test_what_is_zoomed_to_stays_while_points_come(page: Page, served: Served) -> None:
    running(served)
    opened(page, served)
    wait(page, "() => document.querySelector('[data-chart=loss] .tz-plot').data[0]?.x.length > 30")
    plot = page.locator('[data-chart="loss"] .nsewdrag').first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle + 3, steps=6)
    page.mouse.up()
    ask = "() => document.querySelector('[data-chart=\"loss\"] .tz-plot').layout.xaxis.range"
    wait(page, "() => !document.querySelector('[data-chart=loss] .tz-plot').layout.xaxis.autorange")
    zoomed = page.evaluate(ask)
    assert zoomed[0] > 0
    page.evaluate(COUNT)
    wait(page, "() => window.drawings >= 4")
    assert page.evaluate(ask) == zoomed
    whole = page.evaluate(ask.replace("loss", "learning_rate"))
    assert whole[1] > zoomed[1]  # the other charts go on showing everything
    plot.dblclick()
    wait(page, "() => document.querySelector('[data-chart=loss] .tz-plot').layout.xaxis.autorange")


def test_a_resume_is_marked_and_the_curve_before_it_is_there(page: Page, served: Served) -> None:
    stop(served)
    start(served, delay=0.01)  # few enough steps that each is drawn
    opened(page, served)
    wait(page, "() => document.querySelector('[data-chart=loss] .tz-plot').data[0]?.x.length > 20")
    stop(served)
    expect(number(page, "status")).to_have_text("⏹️ 停止")
    at = api(served.url, "/api/progress")["global_step"]
    api(served.url, "/api/train/resume", {"model_name": "tiny", "dataset_name": "noise"})
    expect(number(page, "status")).to_have_text("🏃 学習中")
    expect(number(page, "origin")).to_have_text(re.compile(r"^Epoch \d+"))
    mark = page.locator('[data-chart="loss"] .annotation-text')
    expect(mark).to_have_text(re.compile(r"^再開 Epoch \d+"))
    line = "document.querySelector('[data-chart=\"loss\"] .tz-plot')"
    assert page.evaluate(f"{line}.layout.shapes.map((s) => s.x0)") == [at]
    wait(page, f"(at) => {line}.data[0]?.x.at(-1) > at + 5", at)
    steps = trace(page, "loss", "学習ロス")["x"]
    assert steps == list(range(1, steps[-1] + 1))  # neither a gap nor a step twice


def test_smoothing_and_log_scale(page: Page, served: Served) -> None:
    running(served)
    opened(page, served)
    slider = page.get_by_role("slider", name="平滑化")
    slider.fill("0.9")
    line = "document.querySelector('[data-chart=\"loss\"] .tz-plot')"
    wait(page, f"() => {line}.data.filter((t) => t.name === '学習ロス').length === 2")
    rough, smooth = page.evaluate(
        f"""() => {line}.data.filter((t) => t.name === '学習ロス').map((t) => {{
          let sum = 0;
          t.y.forEach((v, i) => (sum += i ? Math.abs(v - t.y[i - 1]) : 0));
          return sum;
        }})"""
    )
    assert smooth < rough / 2
    page.get_by_role("checkbox", name="対数目盛").check()
    wait(page, f"() => {line}.layout.yaxis.type === 'log'")
    page.reload()
    drawn(page)
    expect(slider).to_have_value("0.9")
    wait(page, f"() => {line}?.layout?.yaxis.type === 'log'")


def test_a_reload_and_a_second_browser_show_the_same(
    page: Page, browser: Browser, complaints: Complaints, served: Served
) -> None:
    finished(served)
    opened(page, served, "completed")
    names = ("epoch", "step", "origin", "loss", "learning_rate", "speed", "eta", "status")

    def seen(page: Page) -> tuple[Any, ...]:
        expect(page.locator(".tz-row").last).to_contain_text("完了")
        wait(
            page,
            "() => document.querySelector('[data-chart=loss] .tz-plot').data?.[0]?.x?.at(-1) == 42",
        )
        numbers = [number(page, name).inner_text() for name in names]
        rows = page.locator(".tz-row").all_inner_texts()
        return (
            numbers,
            rows,
            trace(page, "loss", "学習ロス"),
            trace(page, "accuracy", "accuracy（検証）"),
        )

    first = seen(page)
    assert first[0][0] == "6/6"
    page.reload()
    assert seen(page) == first
    with visit(browser, complaints) as other:
        opened(other, served, "completed")
        assert seen(other) == first


def test_the_log_can_be_searched_and_markup_stays_text(page: Page, served: Served) -> None:
    run_id = finished(served)
    live = opened(page, served, "completed")
    with Store(Workspace(served.root).db) as store:
        lines = [
            ("error", MARKUP),
            ("warning", "careful"),
            ("debug", "small"),
            ("info", "Näher 検証"),
        ]
        store.append(
            [
                Event(
                    type="log", payload={"level": level, "message": text}, run_id=run_id, time=1e9
                )
                for level, text in lines
            ]
        )
    rows = live.locator(".tz-row")
    expect(rows.filter(has_text="Näher")).to_have_count(1)
    expect(rows.filter(has_text=MARKUP)).to_have_count(1)
    assert live.locator(".tz-row img, .tz-row b").count() == 0
    expect(rows.filter(has_text="careful").locator("time")).to_have_text("2001-09-09 10:46:40")

    level = live.get_by_label("レベル")
    level.select_option("ERROR のみ")
    expect(rows).to_have_count(1)
    level.select_option("WARNING 以上")
    expect(rows).to_have_count(2)
    level.select_option("すべて")
    search = live.get_by_role("searchbox")
    search.fill("NÄHER")
    expect(rows).to_have_count(1)
    search.fill("no such line")
    expect(rows).to_have_count(0)
    search.fill("")
    expect(rows.filter(has_text="small")).to_have_count(1)


def test_the_log_follows_until_its_reader_scrolls_up(page: Page, served: Served) -> None:
    run_id = finished(served)
    live = opened(page, served, "completed")
    log = live.get_by_role("log")
    log.scroll_into_view_if_needed()

    def say(first: int, last: int) -> None:
        with Store(Workspace(served.root).db) as store:
            payloads = [{"level": "info", "message": f"line {n} ."} for n in range(first, last)]
            store.append([Event(type="log", payload=p, run_id=run_id, time=1e9) for p in payloads])

    say(0, 5000)
    expect(log.get_by_text("line 4999 .")).to_be_in_viewport()
    wait(page, "() => document.querySelectorAll('.tz-row').length === 3000")
    log.evaluate("(log) => (log.scrollTop = 200)")
    wait(page, "() => document.querySelector('.tz-rows').scrollTop === 200")
    say(5000, 5010)
    button = live.get_by_role("button", name="↓ 最新へ")
    expect(button).to_be_visible()
    button.click()
    expect(log.get_by_text("line 5009 .")).to_be_in_viewport()
    expect(button).to_be_hidden()
    live.get_by_role("button", name="以前のログを読み込む").click()
    wait(page, "() => document.querySelectorAll('.tz-row').length === 3500")
    texts = log.locator(".tz-text").all_inner_texts()
    assert texts == [f"line {n} ." for n in range(5010 - 3500, 5010)]


def test_a_server_that_dies_and_comes_back_loses_no_event(
    browser: Browser, tmp_path: Path, root: Path
) -> None:
    tolerant = Complaints()  # a browser says that it could not connect
    workspace = make_workspace(tmp_path / "workspace", JAPANESE)
    (workspace / "datasets" / "noise.py").write_bytes((root / "datasets" / "noise.py").read_bytes())
    with serving(workspace) as first:
        run_id = start(first, delay=0.01)  # few enough steps that each is drawn
        with visit(browser, tolerant) as page:
            live = opened(page, first)
            banner = page.get_by_role("alert").filter(has_text="サーバーに接続できません")
            expect(banner).to_have_count(0)
            first.kill()
            expect(banner).to_be_visible()
            with serving(workspace, port=first.port) as second:
                expect(banner).to_be_hidden()
                expect(live).to_have_attribute("data-connection", "here")
                stop(second)
                expect(number(page, "status")).to_have_text("⏹️ 停止")
                said = api(second.url, f"/api/runs/{run_id}/log?limit=10000")["events"]
                last = said[-1]["seq"]
                wait(page, "(seq) => document.querySelector(`.tz-row[data-seq='${seq}']`)", last)
                rows = page.locator(".tz-row")
                shown = rows.evaluate_all("(rows) => rows.map((row) => Number(row.dataset.seq))")
                assert shown == sorted(set(shown))
                # the status is not the last that a run says: what came since is no part of this
                shown = [seq for seq in shown if seq <= last]
                # events of no run are shown too, from when the page was opened
                every = api(second.url, "/api/events?limit=10000")["events"]
                loose = {event["seq"] for event in every if event["run_id"] is None}
                own = [seq for seq in shown if seq not in loose]
                kept = [event["seq"] for event in said]
                assert own == kept[-len(own) :]
                assert len(own) > 20
                done = api(second.url, "/api/progress")["global_step"]
                wait(page, "(at) => document.querySelector('[data-chart=loss] .tz-plot').data[0]?"
                           ".x.at(-1) === at", done)  # fmt: skip
                steps = trace(page, "loss", "学習ロス")["x"]
                assert steps == list(range(1, done + 1))


def test_a_crash_says_what_happened_and_has_one_button(page: Page, served: Served) -> None:
    run_id = running(served)
    live = opened(page, served)
    wait_for_a_checkpoint(served, run_id)
    for worker in workers(served.root):
        if "train" in worker.cmdline():
            worker.kill()
    panel = live.get_by_role("alert").filter(has_text="学習が異常終了しました")
    expect(panel).to_be_visible()
    expect(panel).to_contain_text("SIGKILL")
    expect(number(page, "status")).to_have_text("💥 異常終了")
    expect(number(page, "eta")).to_have_text("-")
    assert not unreachable(page)
    settled(page)
    panel.get_by_role("button", name="🔄 学習再開").click()
    expect(number(page, "status")).to_have_text("🏃 学習中")
    expect(panel).to_be_hidden()


@pytest.mark.parametrize(("lang", "there"), [("ja", True), ("en", False)])
def test_a_failure_is_told_in_the_visitors_language(
    page: Page, served: Served, lang: str, there: bool
) -> None:
    run_id = running(served)
    live = opened(page, served, lang=f"?lang={lang}")
    own = "The loss became nan in epoch 1 at step 3."
    with Store(Workspace(served.root).db) as store:

        def tell(kind: EventType, **payload: str) -> None:
            store.append([Event(type=kind, payload=payload, run_id=run_id, time=time.time())])

        tell("error", message=own, code="non_finite")
        tell("status", status="failed", message=own)
        panel = live.locator(".tz-trouble")
        expect(panel).to_contain_text(own)
        expect(panel.get_by_text("学習率を下げてください")).to_be_visible(visible=there)
        tell("status", status="running", message="")
        expect(panel).to_be_hidden()


def test_a_full_disk_is_told_until_there_is_room(page: Page, served: Served) -> None:
    run_id = running(served)
    live = opened(page, served)
    with Store(Workspace(served.root).db) as store:

        def turn(status: str, message: str) -> None:
            payload = {"status": status, "message": message}
            store.append([Event(type="status", payload=payload, run_id=run_id, time=time.time())])

        turn("paused", "No space left in outputs/")
        panel = live.get_by_role("alert").filter(has_text="一時停止")
        expect(panel).to_contain_text("No space left in outputs/")
        expect(panel).to_contain_text(re.compile(r"現在の空き: [\d.]+ [TG]B"))
        expect(panel.get_by_role("button")).to_have_count(0)
        expect(panel).to_contain_text("ディスクの空きがありません")
        turn("running", "")
        expect(panel).to_be_hidden()


def test_reruns_of_the_script_leave_it_in_place(page: Page, served: Served) -> None:
    """Status changes let the script run again; charts, scroll and socket stay what they were."""
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    running(served)
    opened(page, served)
    page.evaluate(
        """() => {
          document.querySelector('.tz-live').dataset.mine = 'yes';
          document.querySelector('[data-chart="loss"] .main-svg').dataset.mine = 'yes';
        }"""
    )
    stop(served)
    expect(page.locator('.tz-live[data-status="stopped"]')).to_be_visible()
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    assert page.locator('.tz-live[data-mine="yes"]').count() == 1
    assert page.locator('.main-svg[data-mine="yes"]').count() == 1
    assert len([url for url in sockets if "/ws?" in url]) == 1


def test_the_next_training_takes_the_page(page: Page, served: Served) -> None:
    first = finished(served)
    live = opened(page, served, "completed")
    expect(live).to_have_attribute("data-run", first)
    second = start(served)
    expect(page.locator(f'.tz-live[data-run="{second}"]')).to_be_visible()
    expect(number(page, "epoch")).to_have_text(re.compile(r"/2,000$"))
    expect(page.locator(".tz-text").filter(has_text=first)).to_have_count(0)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A server with a run of ten million steps, each hundredth of which was reported."""
    root = make_workspace(tmp_path_factory.mktemp("long") / "workspace", JAPANESE)
    with Store(Workspace(root).db) as store:
        run_id = begin(Workspace(root), store).run_id
        for first in range(0, 10_000_000, 1_000_000):
            steps = range(first, first + 1_000_000, 100)
            values = [math.exp(-step / 3e6) + 0.1 * math.sin(step * 1.7) for step in steps]
            store.add_points(run_id, "loss", steps, values)
    with serving(root) as served:
        yield served, run_id


def test_ten_million_steps_are_drawn_and_stay_bounded(page: Page, long: tuple[Served, str]) -> None:
    served, run_id = long
    live = opened(page, served, "stopped")
    line = "document.querySelector('[data-chart=\"loss\"] .tz-plot')"
    wait(page, f"() => {line}.data?.some((t) => t.x.length > 100)")
    whole = trace(page, "loss", "学習ロス")
    assert 500 <= len(whole["x"]) <= 1000
    assert whole["x"][0] == 0
    assert whole["x"][-1] > 9_900_000
    bands = page.evaluate(f"{line}.data.filter((t) => t.fill === 'tonexty').length")
    assert bands == 1
    # part of it in full
    ask = f"() => Plotly.relayout({line}, {{'xaxis.range': [5000000, 5020000]}})"
    page.evaluate(ask)
    wait(
        page,
        f"() => {line}.data.some((t) => t.x.filter((x) => x >= 5e6 && x <= 5.02e6).length > 190)",
    )
    # and a fast training that goes on behind it
    with Store(Workspace(served.root).db) as store:
        for first in range(10_000_000, 10_400_000, 4000):
            store.append(
                [
                    Event(
                        type="progress",
                        payload={
                            "epoch": 1, "total_epochs": 2, "step": step, "total_steps": 20_000_000,
                            "global_step": step, "loss": 0.5, "learning_rate": 0.001,
                            "grad_norm": None, "samples_per_second": 1.0,
                        },
                        run_id=run_id,
                        time=float(step) / 1000,
                    )
                    for step in range(first, first + 4000, 10)
                ]
            )  # fmt: skip
    expect(number(page, "step")).to_have_text("10,399,990/20,000,000")
    wait(page, f"() => {line}.data.some((t) => t.x.at(-1) > 10390000)")
    points = page.evaluate(
        "() => [...document.querySelectorAll('.tz-plot')]"
        ".flatMap((p) => (p.data ?? []).map((t) => t.x.length))"
    )
    assert max(points) <= 4001
    assert page.evaluate("document.querySelectorAll('.tz-live *').length") < 3000
    assert live.is_visible()


@pytest.mark.parametrize(("width", "lang"), [(1280, ""), (400, "?lang=en")])
def test_it_is_accessible_and_fits(page: Page, served: Served, width: int, lang: str) -> None:
    finished(served)
    page.set_viewport_size({"width": width, "height": 900})
    live = opened(page, served, "completed", lang)
    expect(live.locator(".tz-system .tz-tile")).not_to_have_count(0)
    assert unreachable(page) == []
    assert overflowing(page) == 0
    text = live.inner_text()
    assert "NaN" not in text
    assert "undefined" not in text
    assert "{" not in text
    title = "Training loss" if lang else "学習ロスグラフ"
    chart = live.get_by_role("group", name=title)
    expect(chart).to_have_accessible_description(re.compile(r"42|28|\d+"))
    assert not page.evaluate("[...document.querySelectorAll('.tz-value')].some((e) => "
                             "e.scrollWidth > e.clientWidth + 1)")  # fmt: skip


@contextmanager
def standing_alone(port: int, served: Served, folder: Path) -> Iterator[str]:
    """The dashboard as a process of its own, for a server elsewhere; yields its address."""
    script = Path(tsuzuku.dashboard.__file__).with_name("app.py")
    options = ["--server.port", str(port), "--server.headless", "true", "--server.address"]
    options += ["127.0.0.1", "--browser.gatherUsageStats", "false", "--server.fileWatcherType"]
    env = {**os.environ, "TSUZUKU_SERVER": served.url, "TSUZUKU_TOKEN": TOKEN}
    with (folder / "alone.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(script), *options, "none"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=folder,
        )
    try:
        until = time.monotonic() + 60
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            assert process.poll() is None, (folder / "alone.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def test_it_reads_a_server_elsewhere(
    browser: Browser, complaints: Complaints, tmp_path: Path
) -> None:
    """With `streamlit run`: another origin, and a token instead of a cookie."""
    port = free_port()
    origins = f"  token: {TOKEN}\n  allowed_origins: ['http://127.0.0.1:{port}']\n"
    workspace = Workspace(make_workspace(tmp_path / "workspace", JAPANESE + origins))
    with Store(workspace.db) as store:
        run_id = begin(workspace, store).run_id
        store.add_points(run_id, "loss", range(1, 101), [1 / step for step in range(1, 101)])
        with (
            serving(workspace.root) as served,
            standing_alone(port, served, tmp_path) as url,
            visit(browser, complaints) as page,
        ):
            show(page, url)
            expect(page.locator('.tz-live[data-status="stopped"]')).to_be_visible()
            expect(page.locator(".tz-live")).to_have_attribute("data-connection", "here")
            drawn(page)
            assert trace(page, "loss", "学習ロス")["x"] == list(range(1, 101))
            payload = {"level": "info", "message": "from elsewhere"}
            store.append([Event(type="log", payload=payload, run_id=run_id, time=time.time())])
            expect(page.locator(".tz-text").filter(has_text="from elsewhere")).to_have_count(1)
