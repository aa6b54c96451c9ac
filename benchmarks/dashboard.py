"""How soon the dashboard's page can be used, and what open pages cost a training.

The pages are in one Chromium on this very machine, where elsewhere they would be on their users'
machines: while steps are counted it has the lowest priority. What is left is what the server does
for them, and the caches and memory that browsers share with the training. Beside none means that
the browser is stopped as a whole: pages that are only cut off from the network are no measure,
since Chromium keeps a core busy with what it must not deliver to them.

python benchmarks/dashboard.py [--quick] [--pages 10]
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Browser, sync_playwright

from common import DATASET, MODEL, make_workspace, median_of, options, print_table, verdict
from server import serving

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run"]  # fmt: skip
USABLE = '[data-testid="stApp"][data-test-script-state="notRunning"] [data-testid="stSidebar"]'
SETTLED = 4
"""Seconds after which the pages have caught up with what they missed."""
MAX_SECONDS = 2.0
MAX_COST = 1.05
PLAIN = MODEL.replace("from turns import step\n", "").replace("        step()\n", "")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--pages", type=int, default=10)
    given = parser.parse_args()
    if not Path(CHROMIUM).exists():
        sys.exit(f"There is no {CHROMIUM}.")
    visits, rounds, seconds = (3, 4, 5) if given.quick else (7, 12, 8)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = make_workspace(Path(folder), PLAIN, DATASET)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with serving(workspace) as (url, _, _), httpx.Client(base_url=url, timeout=60) as api:
            api.get("/api/config")  # the plug-ins are known: reading them loads torch
            first, *later = [usable(browser, url) for _ in range(visits + 1)]
            start(api)
            try:
                ratios = costs(browser, api, given.pages, rounds, seconds)
            finally:  # a training outlives its server
                api.post("/api/train/stop", json={})
                while api.get("/api/status").json()["is_training"]:
                    time.sleep(0.1)
    rows = [
        ["page usable, first visit since the start", f"{first:.2f} s", ""],
        ["page usable, a new visitor", f"{median_of(later):.2f} s", f"{min(later):.2f} s"],
        [f"a step beside {given.pages} pages / beside none", f"{median_of(ratios):.3f}", ""],
    ]
    print_table("Dashboard", ["", "median", "fastest"], rows)
    print(f"Target: usable in at most {MAX_SECONDS:g} s: {verdict(later, MAX_SECONDS)}")
    print(f"Target: at most {MAX_COST:g}: {verdict(ratios, MAX_COST)}")


def usable(browser: Browser, url: str) -> float:
    """Seconds until a visitor with an empty cache can use the page."""
    context = browser.new_context(locale="ja-JP")
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(USABLE, state="attached")
    page.get_by_role("button", name="🆕").wait_for()
    taken = time.perf_counter() - began
    context.close()
    return taken


def start(api: httpx.Client) -> None:
    settings = {"dataset.count": 64_000, "model.width": 512, "training.num_workers": 0}
    body = {"model_name": "mlp", "dataset_name": "points", "epochs": 10_000, "batch_size": 64}
    answer = api.post("/api/train/start", json={**body, "overrides": settings})
    answer.raise_for_status()
    while not steps(api):
        time.sleep(0.1)


def steps(api: httpx.Client) -> int:
    return int(api.get("/api/progress").json()["global_step"])


def costs(
    browser: Browser, api: httpx.Client, count: int, rounds: int, seconds: float
) -> list[float]:
    """The time of a step beside open pages through that beside a stopped browser, in turns."""
    contexts = [browser.new_context() for _ in range(count)]
    for context in contexts:
        page = context.new_page()
        page.goto(str(api.base_url))
        page.locator('[data-chart="loss"] .main-svg').first.wait_for(timeout=120_000)
    yield_to_others()
    ratios: list[float] = []
    for _ in range(rounds):
        with stopped():
            time.sleep(1)
            alone = pace(api, seconds)
        time.sleep(SETTLED)
        ratios.append(alone / pace(api, seconds))
    return ratios


def pace(api: httpx.Client, seconds: float) -> float:
    """Steps a second."""
    began, before = time.perf_counter(), steps(api)
    time.sleep(seconds)
    after = steps(api)
    return (after - before) / (time.perf_counter() - began)


def of_chromium() -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["exe", "pid"]):
        if process.info["pid"] != os.getpid() and "chrom" in (process.info["exe"] or ""):
            yield process


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Nothing of the browser runs."""
    everything = list(of_chromium())
    try:
        for process in everything:
            process.suspend()
        yield
    finally:
        for process in everything:
            process.resume()


def yield_to_others() -> None:
    """All of the browser has the lowest priority from here on.

    Linux may share the processor between sessions first, and nice counts within one only: then
    the session has to yield, too.
    """
    for process in of_chromium():
        process.nice(19)
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text("19")


if __name__ == "__main__":
    main()
