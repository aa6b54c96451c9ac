"""「📂 チェックポイント管理」, every button of it, against a real server and real trainings."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from browsing import Complaints, Theme, api, overflowing, settled, show, unreachable, visit
from grid_rows import choose, chosen, grid, has_rows
from in_parts import take_apart
from made_runs import checkpoint
from plain_plugins import CONFIG, NOISE, make_workspace
from servers import Served, serving
from trainings import until
from tsuzuku.core import data_files, foreign_preview, preview, resume
from tsuzuku.core.pruning import index_record
from tsuzuku.core.schemas import Checkpoint
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace
from tsuzuku.dashboard import exporting, preview_words, reasons
from tsuzuku.server.routes import checkpoints as routes

SETTINGS = CONFIG.replace("language: en", "language: ja").replace(
    "training:\n", "training:\n  checkpoint: {keep_last_n: 2}\n"
)

LONG = 120_000
"""Milliseconds in which a worker has loaded torch and done what it was asked."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_workspace(tmp_path_factory.mktemp("checkpoints") / "workspace", SETTINGS)
    (made / "datasets" / "other.py").write_text(NOISE, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def run_id(served: Served, root: Path) -> str:
    """Four epochs on `noise`, of which 3 and 4 are kept, and 1, which is pinned; one on `other`."""
    first = trained(served, "noise", epochs=4)
    run = Workspace(root).run_dir(first)
    with Store(Workspace(root).db) as store:
        pinned = index_record(checkpoint(run, 1), pinned=True, kept_because=["pinned"])
        store.put_checkpoint(pinned)
    trained(served, "other", epochs=1)
    return first


def trained(served: Served, dataset: str, **options: object) -> str:
    """The run of a training that has been started and has ended."""
    body = {"model_name": "tiny", "dataset_name": dataset, "resume_from_checkpoint": False}
    run_id = str(api(served.url, "/api/train/start", body | options)["run_id"])
    until("the training's end", lambda: not api(served.url, "/api/status")["is_training"])
    return run_id


def known(served: Served, run_id: str) -> dict[str, dict[str, object]]:
    listed = api(served.url, f"/api/checkpoints?run_id={run_id}")["checkpoints"]
    return {one["name"]: one for one in listed}


def opened(page: Page, served: Served, name: str = "", lang: str = "ja") -> Locator:
    """The page, at that checkpoint; its part beside the sidebar."""
    show(page, f"{served.url}/checkpoints?lang={lang}&checkpoint={name}")
    main = page.get_by_test_id("stMain")
    expect(main.get_by_role("heading", level=1)).to_be_visible()
    if name:
        expect(choice(main)).to_have_value(re.compile(name.rpartition("/")[2]))
    return main


def choice(main: Locator) -> Locator:
    return main.get_by_role("combobox", name=re.compile("チェックポイント選択|^Checkpoint"))


def button(main: Locator, name: str) -> Locator:
    return main.get_by_role("button", name=name, exact=True)


def fill(page: Page, label: str, value: str) -> None:
    field = page.get_by_test_id("stMain").get_by_role("spinbutton", name=label)
    field.fill(value)
    field.press("Enter")
    settled(page)


def test_filters_table_and_select_box_agree(page: Page, served: Served, run_id: str) -> None:
    main = opened(page, served)
    has_rows(page, 4)
    expect(chosen(page)).to_contain_text("tiny-other-epoch-1.pt")  # the newest
    main.get_by_role("combobox", name="データセット名でフィルタ").click()
    page.get_by_role("option", name="noise").click()
    has_rows(page, 3)
    expect(choice(main)).to_have_value(f"tiny-noise-epoch-4.pt · {run_id}")
    choose(page, 2)
    expect(chosen(page)).to_contain_text("tiny-noise-epoch-1.pt")
    expect(choice(main)).to_have_value(f"tiny-noise-epoch-1.pt · {run_id}")
    choice(main).click()
    page.get_by_role("option", name="tiny-noise-epoch-3.pt").click()
    expect(chosen(page)).to_contain_text("tiny-noise-epoch-3.pt")
    search = main.get_by_role("textbox", name="名前で検索")
    search.fill(f"epoch-4 {run_id}")
    search.press("Enter")
    has_rows(page, 1)
    search.fill("no such name")
    search.press("Enter")
    expect(main.get_by_text("条件に合うチェックポイントがありません")).to_be_visible()
    page.reload()  # the choice is in the address
    settled(page)
    has_rows(page, 4)


def test_details_are_the_servers(page: Page, served: Served, run_id: str) -> None:
    name = "tiny-noise-epoch-4.pt"
    main = opened(page, served, f"{run_id}/{name}")
    details = api(served.url, f"/api/checkpoints/{run_id}/{name}")
    expect(main.get_by_text(details["sha256"])).to_be_visible()
    loss = main.get_by_test_id("stMetric").filter(has_text="val_loss")
    expect(loss).to_contain_text(f"{details['metrics']['val_loss']:.4g}")
    main.get_by_role("tab", name="メタデータ").click()
    expect(main.get_by_text(details["metadata"]["hostname"], exact=True).first).to_be_visible()
    main.get_by_role("tab", name="設定").click()
    expect(main.get_by_text("training.learning_rate")).to_be_visible()
    main.get_by_role("tab", name="重み").click()
    expect(main.get_by_text(f"{len(details['tensors'])} 個のテンソル")).to_be_visible()


def test_verify_and_pin(page: Page, served: Served, run_id: str) -> None:
    name = "tiny-noise-epoch-3.pt"
    main = opened(page, served, f"{run_id}/{name}")
    button(main, "🔍 検証").click()
    expect(main.get_by_text(f"{name} は正常です")).to_be_visible(timeout=LONG)
    assert known(served, run_id)[name]["verified"]
    button(main, "📌 ピン留め").click()
    expect(main.get_by_text(f"{name} をピン留めしました。")).to_be_visible()
    assert known(served, run_id)[name]["pinned"]
    button(main, "🗑️ 削除").click()  # what is pinned is refused, in the server's words
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="削除する").click()
    expect(dialog.get_by_text(f"{name} is pinned.")).to_be_visible()
    expect(dialog.get_by_text("Take the pin off first.")).to_be_visible()
    dialog.get_by_role("button", name="やめる").click()
    expect(dialog).to_have_count(0)
    button(main, "📌 ピンを外す").click()
    expect(main.get_by_text(f"{name} のピンを外しました。")).to_be_visible()
    assert not known(served, run_id)[name]["pinned"]


def test_what_is_in_parts_is_gathered(page: Page, served: Served, run_id: str) -> None:
    name = "tiny-noise-epoch-3.pt"
    main = opened(page, served, f"{run_id}/{name}")
    expect(button(main, "🔍 検証")).to_be_visible()
    expect(button(main, "🧩 1 つのファイルにまとめる")).to_have_count(0)
    take_apart(Path(known(served, run_id)[name]["path"]))
    main = opened(page, served, f"{run_id}/{name}")
    button(main, "🧩 1 つのファイルにまとめる").click()
    expect(main.get_by_text(f"{name} を 1 つのファイルにまとめました")).to_be_visible(timeout=LONG)
    expect(button(main, "🧩 1 つのファイルにまとめる")).to_have_count(0)
    assert api(served.url, f"/api/checkpoints/{run_id}/{name}")["parts"] == 0


def downloaded(page: Page, link: Locator) -> bytes:
    """What the link fetches, in a tab of its own or in this one."""
    with page.expect_event("download") as found:
        link.evaluate("element => element.removeAttribute('target')")
        link.click()
    return found.value.path().read_bytes()


def test_download_and_export(page: Page, served: Served, run_id: str) -> None:
    name = "tiny-noise-epoch-4.pt"
    main = opened(page, served, f"{run_id}/{name}")
    link = main.get_by_role("link", name=re.compile("⬇️ ダウンロード.* kB"))
    content = downloaded(page, link)
    assert hashlib.sha256(content).hexdigest() == known(served, run_id)[name]["sha256"]
    main.get_by_role("tab", name="エクスポート").click()
    main.get_by_text("半精度（16 ビット）").click()
    settled(page)
    button(main, "📤 エクスポート").click()
    exported = main.get_by_text("tiny-noise-epoch-4-half.safetensors")
    expect(exported).to_be_visible(timeout=LONG)
    link = main.get_by_role("link", name=re.compile(r"⬇️ ダウンロード.*\d B"))
    href = str(link.get_attribute("href"))
    weights = page.request.get(href if href.startswith("http") else served.url + href).body()
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    assert header["net.0.weight"]["dtype"] == "F16"


def test_formats_are_those_of_the_server() -> None:
    schema = routes.Export.model_json_schema()
    assert list(exporting.FORMATS) == schema["properties"]["format"]["enum"]


def test_prune_shows_first_and_deletes_then(page: Page, served: Served, run_id: str) -> None:
    main = opened(page, served)
    main.get_by_text("🧹 チェックポイントの整理").click()
    button(main, "🔎 何が消えるか確かめる").click()
    expect(main.get_by_text("消えるものはありません。")).to_be_visible()
    name = "tiny-noise-epoch-1.pt"
    api(served.url, f"/api/checkpoints/{run_id}/{name}/pin", {"pinned": False})
    button(main, "🔎 何が消えるか確かめる").click()
    expect(main.get_by_text("1 個が消え、3 個が残ります。")).to_be_visible()
    expect(grid(page, 1)).to_contain_text(name)
    expect(grid(page, 2)).to_contain_text("最新, 直近 2")
    assert name in known(served, run_id)
    button(main, "🗑️ 1 個を削除").click()
    page.get_by_role("dialog").get_by_role("button", name="削除する").click()
    expect(main.get_by_text("1 個を削除しました。")).to_be_visible()
    assert name not in known(served, run_id)


def test_preview_then_resume(page: Page, served: Served, run_id: str) -> None:
    main = opened(page, served, f"{run_id}/tiny-noise-epoch-4.pt")
    expect(main.get_by_text(f"学習 {run_id} をそのまま続けます（エポック 4 → 5）")).to_be_visible()
    fill(page, "バッチサイズ", "4")
    expect(main.get_by_text("新しい学習に分岐します（エポック 4 → 5）")).to_be_visible()
    expect(main.get_by_text("サンプルの順序が変わるため")).to_be_visible()
    expect(main.get_by_text("training.batch_size").last).to_be_visible()
    fill(page, "サンプル数制限", "20")
    expect(main.get_by_text("training.limit_samples").last).to_be_visible()
    main.get_by_text("軽量モード").click()
    fill(page, "サンプル数制限", "16")
    fill(page, "学習率", "0.005")
    expect(main.get_by_role("cell", name="training.learning_rate")).to_be_visible()
    fill(page, "追加エポック数", "2")
    expect(main.get_by_text("新しい学習に分岐します（エポック 4 → 6）")).to_be_visible()
    button(main, "🔄 このチェックポイントから学習を再開").click()
    expect(page.get_by_role("heading", name="学習ダッシュボード")).to_be_visible()
    until("the training's end", lambda: not api(served.url, "/api/status")["is_training"])
    status = api(served.url, "/api/status")
    assert status["resumed_from"] == f"{run_id}/tiny-noise-epoch-4.pt"
    assert status["run_id"] != run_id
    newest = next(iter(known(served, status["run_id"])))
    details = api(served.url, f"/api/checkpoints/{status['run_id']}/{newest}")
    training = details["config"]["training"]
    assert (training["num_epochs"], training["batch_size"]) == (6, 4)
    assert training["limit_samples"] == 16
    assert training["learning_rate"] == 0.005
    curves = api(served.url, f"/api/runs/{status['run_id']}/metrics?keys=learning_rate")["curves"]
    assert set(curves["learning_rate"]["value"][-3:]) == {0.005}
    # both histories side by side
    show(page, f"{served.url}/runs?lang=ja&run={run_id},{status['run_id']}")
    chart = page.locator(".st-key-compare_chart .main-svg").first
    expect(chart).to_be_visible()
    for name in (run_id, status["run_id"]):
        expect(page.locator(".st-key-compare_chart .legendtext", has_text=name)).to_be_visible()
    expect(page.get_by_role("cell", name="training.learning_rate")).to_be_visible()
    # a limit that a run has can be taken off again
    main = opened(page, served, f"{status['run_id']}/{newest}")
    field = main.get_by_role("spinbutton", name="サンプル数制限")
    expect(field).to_have_value("16")
    fill(page, "サンプル数制限", "")
    expect(main.get_by_text("training.limit_samples").last).to_be_visible()
    expect(main.get_by_text("新しい学習に分岐します（エポック 6 → 7）")).to_be_visible()


def test_delete_asks_first(page: Page, served: Served, run_id: str) -> None:
    name = "tiny-noise-epoch-3.pt"
    main = opened(page, served, f"{run_id}/{name}")
    button(main, "🗑️ 削除").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(name)
    dialog.get_by_role("button", name="やめる").click()
    expect(dialog).to_have_count(0)
    assert name in known(served, run_id)
    button(main, "🗑️ 削除").click()
    dialog.get_by_role("button", name="削除する").click()
    expect(main.get_by_text(f"{name} を削除しました。")).to_be_visible()
    assert name not in known(served, run_id)
    button(main, "📈 学習履歴で見る").click()
    expect(page.get_by_role("heading", name="📈 学習履歴")).to_be_visible()


@pytest.mark.parametrize(("theme", "lang"), [("light", "ja"), ("dark", "en")])
def test_everybody_can_read_it(
    page: Page, served: Served, run_id: str, lang: str, theme: Theme
) -> None:
    page.emulate_media(color_scheme=theme)
    opened(page, served, lang=lang)
    assert unreachable(page) == []
    assert overflowing(page) == 0
    page.set_viewport_size({"width": 400, "height": 800})
    settled(page)
    assert overflowing(page) == 0


def test_an_empty_workspace_says_what_to_do(
    browser: Browser, complaints: Complaints, tmp_path: Path
) -> None:
    workspace = make_workspace(tmp_path / "empty", SETTINGS)
    with serving(workspace) as served, visit(browser, complaints) as page:
        for place in ("checkpoints", "runs", "models"):
            show(page, f"{served.url}/{place}")
            expect(page.get_by_test_id("stMain").get_by_text("まだ").first).to_be_visible()


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Ten thousand checkpoints in the index, of fifty runs."""
    root = make_workspace(tmp_path_factory.mktemp("crowded") / "workspace", SETTINGS)
    with Store(Workspace(root).db) as store:
        for number in range(10_000):
            store.put_checkpoint(made(number))
    with serving(root) as served:
        yield served


def made(number: int) -> Checkpoint:
    run, epoch = divmod(number, 200)
    return Checkpoint(
        name=f"tiny-noise-epoch-{epoch + 1}.pt",
        run_id=f"2026-11-20_10-00-{run:02}",
        model_name="tiny",
        dataset_name="noise",
        epoch=epoch + 1,
        global_step=epoch * 100,
        path=f"/nowhere/{run}/{epoch}.pt",
        size=37_812_345,
        sha256=f"{number:064}",
        created_at=1e9 + number,
        metrics={"val_loss": 1 / (number + 1), "train_loss": 0.5},
        kept_because=["last 3"] if epoch > 196 else [],
    )


def test_ten_thousand_rows(page: Page, crowded: Served) -> None:
    show(page, f"{crowded.url}/checkpoints")  # Streamlit itself is loaded
    before = time.perf_counter()
    show(page, f"{crowded.url}/checkpoints")
    has_rows(page, 10_000)
    drawn = time.perf_counter() - before
    main = page.get_by_test_id("stMain")
    search = main.get_by_role("textbox", name="名前で検索")
    before = time.perf_counter()
    search.fill("2026-11-20_10-00-07")
    search.press("Enter")
    has_rows(page, 200)
    filtered = time.perf_counter() - before
    before = time.perf_counter()
    search.fill("")
    search.press("Enter")
    has_rows(page, 10_000)
    again = time.perf_counter() - before
    print(f"10,000 rows: drawn {drawn:.2f} s, filtered {filtered:.2f} s, all again {again:.2f} s")
    assert max(drawn, filtered, again) < 10


def test_every_sentence_of_a_preview_is_translated() -> None:
    """Whatever `core.preview` may say is known to `preview_words`, by the same placeholders."""
    known = [re.sub(r"{.*?}", "{}", sentence) for sentence in preview_words.SENTENCES]
    said: list[str] = []
    modules = (preview, data_files, resume)
    for node in (n for one in modules for n in ast.walk(ast.parse(inspect.getsource(one)))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "why":
            said.append(_template(node.value))
        elif isinstance(node, ast.Call) and _called(node) in ("_exact", "_approximate", "_lost"):
            assert _template(node.args[0]) in preview_words.COMPONENTS
            said += _sentences(node.args[1])
        elif isinstance(node, ast.Call) and _called(node) == "Comparison":
            said += _sentences(node.args[1])
    for node in ast.walk(ast.parse(inspect.getsource(foreign_preview))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "why":
            said.append(_template(node.value))
        elif isinstance(node, ast.Tuple) and len(node.elts) > 1:
            last, verdict = node.elts[-1], getattr(node.elts[-2], "value", "")
            if verdict in ("exact", "lost", "approximate") and not isinstance(last, ast.Name):
                said += [_template(last)] if _template(last).endswith(".") else []
    assert len(said) > 35
    assert [sentence for sentence in said if sentence not in known] == []
    assert [sentence for sentence in known if sentence not in said] == []


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def _sentences(node: ast.expr) -> list[str]:
    """A sentence that stands right there; those in variables are found where they are made."""
    return [_template(node)] if isinstance(node, ast.Constant | ast.JoinedStr) else []


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        return "".join(map(str, parts))
    assert isinstance(node, ast.Constant)
    return str(node.value)


def test_every_reason_against_deleting_is_translated() -> None:
    known = [re.sub(r"{.*?}", "{}", sentence) for sentence in reasons.IN_USE]
    source = ast.parse(inspect.getsource(routes.in_use))
    returned = [node.value for node in ast.walk(source) if isinstance(node, ast.Return)]
    said = [_template(value) for value in returned if value is not None]
    assert sorted(sentence for sentence in said if sentence) == sorted(known)
