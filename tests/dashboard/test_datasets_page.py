"""📚 データ in a browser: there at once, what is wrong, samples, downloads and makings."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browsing import api, overflowing, settled, show, unreachable
from mirrors import Server, mirrors
from plain_plugins import make_workspace
from servers import Served, held, serving

GRUMBLING = '''\
"""Numbers, of which some are bad."""

import time
from pathlib import Path


class Grumbling:
    report = [
        {"row": 3, "id": "c", "problem": "is no number", "used": False},
        {"row": 5, "id": "e", "problem": "is very large", "used": True},
        "and all of it is old",
    ]

    def __init__(self, config, split):
        with Path("opened").open("a") as log:
            log.write(f"{split}\\n")
        while Path("hold").exists():
            time.sleep(0.02)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 1:
            raise ValueError("nobody can read this")
        return {"size": float(index), "word": f"number{index}"}
'''
FAR = '''\
"""Something that has to be fetched."""

from pathlib import Path

DOWNLOADS = {{
    "far": {{
        "path": "data/far",
        "mirrors": ["http://127.0.0.1:9/"],
        "files": [{{"name": "far.bin", "size": {size}, "sha256": "{sha256}"}}],
    }},
}}


class Far:
    path = "data/far"

    def __init__(self, config, split):
        self.content = Path("data/far/far.bin").read_bytes()

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index
'''
CONTENT = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def mirror() -> Iterator[Server]:
    """Sends half of what it is asked for, and the rest when it may."""
    with mirrors() as start:
        server = start(stall_after=len(CONTENT) // 2)
        server.files["/far/far.bin"] = CONTENT
        yield server


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("data") / "workspace")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    (folder / "datasets" / "grumbling.py").write_text(GRUMBLING, encoding="utf-8")
    (folder / "datasets" / "far.py").write_text(
        FAR.format(size=len(CONTENT), sha256=sha256), encoding="utf-8"
    )
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(config.replace("language: en", "language: ja"))
    return folder


@pytest.fixture(scope="module")
def served(root: Path, mirror: Server) -> Iterator[Served]:
    with serving(root, env={"TSUZUKU_MIRROR": mirror.url}) as one:
        yield one


def card(page: Page, name: str) -> Locator:
    return page.locator(f".st-key-dataset-{name}")


def test_it_is_there_before_any_data_is_opened(page: Page, served: Served, root: Path) -> None:
    (root / "hold").touch()
    page.goto(f"{served.url}/datasets")
    for name in ("far", "grumbling", "ljspeech", "mnist", "noise"):
        expect(card(page, name).get_by_role("heading", name=name)).to_be_visible()
    expect(card(page, "grumbling").get_by_text("grumbling を調べています…").first).to_be_visible()
    (root / "hold").unlink()
    expect(card(page, "grumbling").get_by_text("⚠️ 3 件")).to_be_visible()
    settled(page)
    # nothing is opened a second time for the same data: neither by a rerun nor by a reload
    opened = (root / "opened").read_text()
    card(page, "noise").get_by_text("サンプルを見る・聴く").click()
    settled(page)
    show(page, f"{served.url}/datasets")
    expect(card(page, "grumbling").get_by_text("⚠️ 3 件")).to_be_visible()
    assert (root / "opened").read_text() == opened


def test_what_is_wrong_with_it(page: Page, served: Served) -> None:
    show(page, f"{served.url}/datasets")
    found = card(page, "grumbling")
    expect(found.get_by_text("⚠️ 3 件")).to_be_visible()
    # Streamlit draws its grid on a canvas, in which there is a table for those who cannot see it
    grid = found.get_by_test_id("stDataFrame")
    expect(grid.locator("thead th")).to_have_text(["行", "ID", "問題", "学習に使用"])
    cells = grid.locator("tbody td").all_text_contents()
    assert cells[:4] == ["3", "c", "is no number", "いいえ"]
    assert cells[7] == "はい"
    assert "and all of it is old" in cells
    expect(card(page, "noise").get_by_text("✅ 報告された問題はありません")).to_be_visible()


def test_samples_of_any_data_set_are_shown_page_by_page(page: Page, served: Served) -> None:
    show(page, f"{served.url}/datasets")
    found = card(page, "grumbling")
    found.get_by_text("サンプルを見る・聴く").click()
    expect(found.get_by_text("サンプル 0", exact=True)).to_be_visible()
    expect(found.get_by_text("nobody can read this")).to_be_visible()
    expect(found.get_by_text("number", exact=False).first).to_be_visible()
    found.get_by_role("spinbutton").fill("2")
    found.get_by_role("spinbutton").press("Enter")
    expect(found.get_by_text("サンプル 5", exact=True)).to_be_visible()
    expect(found.get_by_text("サンプル 0", exact=True)).to_have_count(0)
    settled(page)


def test_speech_is_made_and_listened_to(page: Page, served: Served, root: Path) -> None:
    shutil.rmtree(root / "data" / "speech", ignore_errors=True)  # of an attempt that failed
    show(page, f"{served.url}/datasets")
    found = card(page, "ljspeech")
    found.get_by_role("button", name="もう一度調べる").click()
    expect(found.get_by_text("まだ使えません。")).to_be_visible()
    settled(page)
    found.get_by_role("spinbutton", name="文の数").fill("60")
    found.get_by_role("button", name="speech を作成").click()
    with held(root, "make", "speech"):
        expect(page.get_by_role("progressbar", name="speech")).to_be_visible()
        page.reload()  # it goes on without this page, and is shown again
        expect(page.get_by_role("progressbar", name="speech")).to_be_visible()
    expect(found.get_by_text("⚠️")).to_have_count(0)
    expect(found.get_by_text("サンプルを見る・聴く")).to_be_visible()
    expect(page.get_by_role("progressbar", name="speech")).to_have_count(0)
    settled(page)
    found.get_by_text("サンプルを見る・聴く").click()
    expect(found.locator("audio[controls]")).to_have_count(5)
    expect(found.locator(".js-plotly-plot")).to_have_count(5)
    settled(page)
    assert not unreachable(page)


def test_what_cannot_be_made_says_why(page: Page, served: Served) -> None:
    show(page, f"{served.url}/datasets")
    found = card(page, "ljspeech")
    if found.get_by_text("別のデータを用意する").count():
        found.get_by_text("別のデータを用意する").click()
    found.get_by_role("textbox", name="読み上げる文").fill("漢字は読めません")
    found.get_by_role("button", name="speech を作成").click()
    expect(page.get_by_text("speech を用意できませんでした")).to_be_visible()
    settled(page)


def test_digits_are_made_and_seen(page: Page, served: Served, root: Path) -> None:
    show(page, f"{served.url}/datasets")
    found = card(page, "mnist")
    more = found.get_by_text("別のデータを用意する")
    expect(found.get_by_role("button", name="digits を作成").or_(more).first).to_be_visible()
    settled(page)
    if more.count():
        more.click()
    found.get_by_role("button", name="digits を作成").click()
    expect(page.get_by_text("digits の用意ができました。")).to_be_visible()
    expect(found.get_by_text("data/digits")).to_be_visible()
    found.get_by_text("サンプルを見る・聴く").click()
    expect(found.locator('img[alt*="28×28"]')).to_have_count(5)
    settled(page)


def test_a_download_is_followed_and_outlives_a_reload(
    page: Page, served: Served, mirror: Server
) -> None:
    show(page, f"{served.url}/datasets")
    found = card(page, "far")
    expect(found.get_by_text("まだ使えません。")).to_be_visible()
    found.get_by_role("button", name="far をダウンロード").click()
    bar = page.get_by_role("progressbar", name="far")
    expect(bar).to_be_visible()
    expect(page.get_by_text("far.bin をダウンロードしています")).to_be_visible()
    expect(found.get_by_role("button", name="far をダウンロードしています")).to_be_disabled()
    page.reload()
    expect(bar).to_be_visible()
    expect(page.get_by_text("/ 1.0 MB")).to_be_visible()
    mirror.go_on.set()
    expect(found.get_by_text("train: 4 件").or_(found.get_by_text("train: 3 件"))).to_be_visible()
    expect(bar).to_have_count(0)
    settled(page)
    assert api(served.url, "/api/datasets?details=false")["downloading"] == []


def test_a_narrow_screen(page: Page, served: Served) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    show(page, f"{served.url}/datasets?lang=en")
    expect(page.get_by_role("heading", level=1)).to_have_text("📚 Data")
    expect(card(page, "noise").get_by_text("train: 56")).to_be_visible()
    settled(page)
    assert not unreachable(page)
    assert overflowing(page) == 0
