"""The pictures in the documentation, and that nothing on them is cut off.

`make screenshots` takes them of the demo's workspace; the tests take the same of a small one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browsing import api, overflowing, picture, settled, show
from servers import Served, serving
from trainings import epochs, make_slow_workspace, start, stop

DOCS = Path(__file__).parent.parent.parent / "docs"
REAL = os.environ.get("TSUZUKU_SCREENSHOTS_OF")
"""A workspace to take the documentation's pictures of."""
PATHS = {"main": "/", "models": "/models", "checkpoints": "/checkpoints", "runs": "/runs",
         "datasets": "/datasets"}  # fmt: skip
CUT_OFF = """() => [...document.querySelectorAll('h1, h2, h3, button p, label p, dd, dt')]
    .filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX !== 'visible' && getComputedStyle(e).display !== 'inline')
    .map((e) => e.textContent)"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if REAL:
        with serving(Path(REAL), log=tmp_path_factory.mktemp("real") / "server.log") as one:
            yield one
        return
    with serving(make_slow_workspace(tmp_path_factory.mktemp("screens") / "workspace")) as one:
        start(one)
        epochs(one, 4)
        stop(one)
        yield one


@pytest.mark.parametrize("language", ["ja", "en"] if REAL else ["en"])
def test_a_picture_of_each_page(page: Page, served: Served, tmp_path: Path, language: str) -> None:
    folder = DOCS / "images" if REAL else tmp_path
    page.set_viewport_size({"width": 1440, "height": 1300})
    for name, path in PATHS.items():
        show(page, f"{served.url}{path}?lang={language}")
        _look(page, name)
        target = folder / f"{name}.{language}.png"
        picture(page, target)
        assert overflowing(page) == 0
        assert page.evaluate(CUT_OFF) == []
        assert target.stat().st_size > 10_000


@pytest.mark.parametrize("language", ["ja", "en"] if REAL else ["ja"])
def test_a_picture_of_a_preview(page: Page, served: Served, tmp_path: Path, language: str) -> None:
    """The form that resumes, with a learning rate of its own and a longer training."""
    words = {"ja": ("学習率", "追加エポック数"), "en": ("Learning rate", "More epochs")}[language]
    page.set_viewport_size({"width": 1440, "height": 2400})
    newest = api(served.url, "/api/checkpoints")["checkpoints"][0]
    name = f"{newest['run_id']}/{newest['name']}"
    show(page, f"{served.url}/checkpoints?lang={language}&checkpoint={name}")
    main = page.get_by_test_id("stMain")
    for label, value in zip(words, ("0.0005", "3"), strict=True):
        field = main.get_by_role("spinbutton", name=label)
        field.fill(value)
        field.press("Enter")
    expect(main.get_by_role("cell", name="training.learning_rate")).to_be_visible()
    expect(main.get_by_role("cell", name="training.num_epochs")).to_be_visible()
    settled(page)
    top = main.get_by_role("spinbutton", name=words[1]).bounding_box()
    bottom = page.locator(".st-key-resume_here").bounding_box()
    assert top is not None
    assert bottom is not None
    target = (DOCS / "images" if REAL else tmp_path) / f"preview.{language}.png"
    height = bottom["y"] + bottom["height"] - top["y"] + 60
    clip = {"x": top["x"] - 24, "y": top["y"] - 44, "width": 1440 - top["x"], "height": height}
    page.screenshot(path=target, clip=clip)
    assert page.evaluate(CUT_OFF) == []


if REAL:  # the tests of the page look at such a family themselves

    @pytest.mark.parametrize("language", ["ja", "en"])
    def test_a_picture_of_a_family(page: Page, served: Served, language: str) -> None:
        """Two branches compared, where the workspace has them; else the old picture stays."""
        branches = [run for run in api(served.url, "/api/lineage")["runs"] if run["depth"]]
        if len(branches) < 2:
            pytest.skip("There are no two branches.")
        page.set_viewport_size({"width": 1440, "height": 2000})
        chosen = f"{branches[0]['run_id']},{branches[-1]['run_id']}"
        show(page, f"{served.url}/runs?lang={language}&run={chosen}")
        expect(page.locator(".st-key-compare_chart .main-svg").first).to_be_visible()
        settled(page)
        top = page.locator(".st-key-family_1").bounding_box()
        bottom = page.locator(".st-key-compare_chart").bounding_box()
        assert top is not None
        assert bottom is not None
        page.screenshot(
            path=DOCS / "images" / f"family.{language}.png",
            clip={
                "x": top["x"] - 8,
                "y": top["y"] - 40,
                "width": top["width"] + 16,
                "height": bottom["y"] + bottom["height"] - top["y"] + 48,
            },
        )


def _look(page: Page, name: str) -> None:
    """Until what is to be seen is there."""
    if name == "main":
        expect(page.locator('[data-chart="loss"] .main-svg').first).to_be_visible()
        expect(page.locator(".tz-row").first).to_be_visible()
    elif name in ("checkpoints", "models", "runs"):
        expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
        page.wait_for_timeout(500)  # a grid is a canvas, which says nothing of being drawn
    settled(page)


def test_the_documentation_shows_what_there_is() -> None:
    """Both languages, and no picture that no page uses."""
    used = "".join(path.read_text("utf-8") for path in DOCS.rglob("*.md"))
    kept = {path.name for path in (DOCS / "images").glob("*.png")}
    assert kept
    assert {name for name in kept if name not in used} == set()
    for name in kept:
        other = name.replace(".ja.", ".en.") if ".ja." in name else name.replace(".en.", ".ja.")
        assert other in kept
