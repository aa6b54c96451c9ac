"""The dashboard's frame: navigation, language, themes, widths, and its log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import Complaints, Theme, api, overflowing, settled, show, unreachable, visit
from made_runs import begin, checkpoint
from plain_plugins import CONFIG, make_workspace
from servers import Served, free_port, serving
from trainings import make_slow_workspace, until
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.server.dashboard import script

PAGES = ["/", "/models", "/checkpoints", "/runs", "/datasets"]
NAMES = {
    "ja": ["🏠 メイン", "🤖 モデル", "📂 チェックポイント", "📈 学習履歴", "📚 データ"],
    "en": ["🏠 Main", "🤖 Models", "📂 Checkpoints", "📈 Runs", "📚 Data"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run that has been, so that no page is empty."""
    config = CONFIG.replace("language: en", "language: ja")
    made = make_workspace(tmp_path_factory.mktemp("frame") / "workspace", config)
    workspace = Workspace(made)
    with Store(workspace.db) as store:
        run = begin(workspace, store)
        for epoch in (1, 2, 3):
            checkpoint(run, epoch, val_loss=1 / epoch)
    return made


def test_navigation_and_language(page: Page, served: Served) -> None:
    """A page's language is in its address; reload, other pages and the way back keep it."""
    show(page, served.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("tiny 学習ダッシュボード")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    for name in NAMES["ja"]:
        expect(page.get_by_role("link", name=name).first).to_be_visible()
    page.get_by_test_id("stSidebar").get_by_text("English").click()
    expect(page.get_by_role("heading", name="tiny training dashboard")).to_be_visible()
    expect(page).to_have_url(f"{served.url}/?lang=en")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    for path, name in zip(PAGES[1:], NAMES["en"][1:], strict=True):
        page.get_by_role("link", name=name).first.click()
        expect(page).to_have_url(f"{served.url}{path}?lang=en")
        expect(page.get_by_role("heading", name=re.compile(name[:1])).first).to_be_visible()
    page.reload()
    settled(page)
    expect(page.get_by_role("link", name="🏠 Main").first).to_be_visible()
    page.get_by_test_id("stSidebar").get_by_text("日本語").click()
    expect(page.get_by_role("link", name="🏠 メイン").first).to_be_visible()
    expect(page).to_have_url(f"{served.url}/datasets")


def test_the_title_follows_the_model(page: Page, served: Served) -> None:
    show(page, served.url)
    for model, word in (("conformer", "ASR"), ("vae", "VAE"), ("tiny", "tiny")):
        page.get_by_test_id("stSidebar").get_by_role("combobox", name="モデル").click()
        page.get_by_role("option", name=model, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{word} 学習ダッシュボード")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 400)])
def test_no_page_has_serious_barriers(page: Page, served: Served, theme: Theme, width: int) -> None:
    """axe-core, on a wide screen and on a narrow one, which no page is wider than."""
    faults: list[str] = []
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    for path in PAGES:
        show(page, served.url + path)
        faults += [f"{path} at {width}, {theme}: {one}" for one in unreachable(page)]
        if overflowing(page):
            faults.append(f"{path} is wider than {width} by {overflowing(page)}")
    assert not faults, "\n".join(faults)


def test_a_theme_is_kept(browser: Browser, complaints: Complaints, served: Served) -> None:
    """What the browser wants, and what is chosen in the menu instead."""
    dark = "rgb(23, 22, 20)"
    with visit(browser, complaints, color_scheme="dark") as page:
        show(page, served.url)
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", dark)
    with visit(browser, complaints) as page:
        show(page, served.url)
        expect(page.get_by_test_id("stApp")).not_to_have_css("background-color", dark)
        page.get_by_test_id("stMainMenu").click()
        page.get_by_test_id("stMainMenuItem-theme-Dark").click()
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", dark)
        page.reload()
        settled(page)
        expect(page.get_by_test_id("stApp")).to_have_css("background-color", dark)


def test_keys_reach_everything(page: Page, served: Served) -> None:
    """From the top of the page, Tab comes to the navigation, the switch and the buttons."""
    show(page, served.url)
    reached: set[str] = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 40)"))
    text = "\n".join(reached)
    for name in ("📂 チェックポイント", "日本語", "🆕 新規学習開始"):
        assert name in text, (name, reached)


def test_the_log_is_json_and_ends_with_the_server(browser: Browser, tmp_path: Path) -> None:
    """Streamlit writes no lines of its own, and open pages do not hold the server up."""
    complaints = Complaints()  # the browser says that the server has gone
    root = make_slow_workspace(tmp_path / "workspace")
    with serving(root) as served, visit(browser, complaints) as page:
        show(page, served.url)
        show(page, f"{served.url}/checkpoints")
        assert served.stop() == 0
        lines = served.log.read_text().splitlines()
    assert "serves" in lines[0]
    told = [json.loads(line) for line in lines[1:]]
    assert {one["level"] for one in told} == {"info"}, told
    asked = [one for one in told if one.get("path") == "/_stcore/stream"]
    assert len(asked) == 2
    assert "uvicorn.access" not in {one["logger"] for one in told}


def test_streamlit_by_itself_shows_another_server(
    browser: Browser, complaints: Complaints, tmp_path: Path
) -> None:
    """`streamlit run`, told by its environment where the server is, and with which token."""
    port = free_port()
    root = make_slow_workspace(tmp_path / "workspace")
    token = "a-token-that-nobody-guesses"
    text = (root / "config.yaml").read_text()
    text = text.replace(
        "server:\n",
        f"server:\n  token: {token}\n  allowed_origins: ['http://127.0.0.1:{port}']\n",
    )
    (root / "config.yaml").write_text(text)
    with serving(root, "--no-dashboard") as served:
        body = {"model_name": "tiny", "dataset_name": "slow", "epochs": 1}
        api(served.url, f"/api/train/start?token={token}", body)
        command = [sys.executable, "-m", "streamlit", "run", str(script())]
        command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
        command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
        env = {**os.environ, "TSUZUKU_SERVER": served.url, "TSUZUKU_TOKEN": token}
        with (tmp_path / "streamlit.log").open("wb") as log:
            alone = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            with visit(browser, complaints) as page:
                until("Streamlit", lambda: answers(f"http://127.0.0.1:{port}/_stcore/health"))
                show(page, f"http://127.0.0.1:{port}")
                expect(page.get_by_role("button", name="🆕 新規学習開始")).to_be_enabled()
                expect(page.locator(".tz-plot .main-svg").first).to_be_visible()
                expect(page.locator('[data-number="epoch"]')).to_have_text("1/1")
        finally:
            alone.terminate()
            alone.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
