"""推論テスト in a browser: sounds, microphone, drawings, samples, two checkpoints, a model of one's
own."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from browsing import (
    Theme,
    api,
    overflowing,
    settled,
    show,
    unreachable,
    wait_until_completed,
)
from plain_plugins import make_workspace
from servers import Served, serving
from tsuzuku.client import Client

CURVY = '''\
"""Curves and a number, of a text or of a sample."""

import torch
from torch import nn


class Curvy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, batch):
        return self.net(batch["x"]).square().mean()

    def inference(self, sample):
        if "text" in sample:
            length = len(sample["text"])
        elif "item" in sample:
            length = 1 + len(sample["item"]["x"])
        else:
            raise ValueError("Curvy takes texts")
        face = torch.arange(2.0 * length).reshape(2, length)
        named = {"type": "curves", "value": face, "names": ["jaw", "smile"], "fps": 2}
        return {"length": length, "face": named}
'''
TRAININGS: list[dict[str, Any]] = [
    {"model_name": "curvy", "dataset_name": "noise", "epochs": 1},
    {"model_name": "conformer", "dataset_name": "ljspeech", "epochs": 1, "lightweight": True},
    {"model_name": "vae", "dataset_name": "mnist", "epochs": 2, "lightweight": True},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("trying") / "workspace")
    (folder / "models" / "curvy.py").write_text(CURVY, encoding="utf-8")
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    config = config.replace("language: en", "language: ja")
    config = config.replace("datasets:\n", "datasets:\n  mnist:\n    path: data/digits\n")
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Any:
    """With a trained checkpoint of each model, and two of the VAE."""
    with serving(root) as one:
        with Client(one.url) as client:
            client.make_dataset("digits")
            client.make_dataset("speech", count=16)
        for training in TRAININGS:
            started = api(one.url, "/api/train/start", training)
            wait_until_completed(one.url, started["run_id"])
        yield one


def section(page: Page) -> Locator:
    return page.locator(".st-key-trying")


def opened(page: Page, served: Served, model: str) -> Locator:
    """The section, opened, with a model chosen."""
    show(page, served.url)
    page.get_by_text("推論テスト", exact=True).click()
    found = section(page)
    expect(found.get_by_role("button", name="推論を実行")).to_be_visible()
    chosen = found.get_by_role("combobox", name="モデル", exact=True)
    if chosen.input_value() != model:
        chosen.click()
        page.get_by_role("option", name=model, exact=True).click()
    settled(page)
    return found


def source(page: Page, name: str) -> None:
    section(page).get_by_role("radio", name=name).or_(
        section(page).get_by_role("button", name=name)
    ).first.click()
    settled(page)


def run(page: Page, results: int = 1) -> None:
    """Press the button and wait for so many results."""
    button = section(page).get_by_role("button", name="推論を実行")
    expect(button).to_be_enabled()
    button.click()
    expect(section(page).get_by_text("合計時間")).to_have_count(results)
    settled(page)


def upload(page: Page, name: str, content: bytes) -> None:
    kinds = {"wav": "audio/wav", "png": "image/png", "txt": "text/plain"}
    file = {"name": name, "mimeType": kinds[name.rpartition(".")[2]], "buffer": content}
    # by its kind: what was drawn for another model may still be there
    kind = {"wav": "sound", "png": "picture"}.get(name.rpartition(".")[2], "anything")
    page.locator(f'.st-key-trying-file-{kind} input[type="file"]').set_input_files([file])
    expect(section(page).get_by_text(name).first).to_be_visible()
    settled(page)


def speech(root: Path) -> bytes:
    return sorted((root / "data" / "speech" / "wavs").iterdir())[0].read_bytes()


def timings(page: Page) -> list[str]:
    return (
        section(page).locator('[class*="-times"] [data-testid="stMetricValue"]').all_inner_texts()
    )


def test_nothing_is_asked_until_it_is_opened(page: Page, served: Served) -> None:
    show(page, served.url)
    expect(page.get_by_text("推論テスト", exact=True)).to_be_visible()
    expect(section(page).get_by_role("combobox")).to_have_count(0)
    page.get_by_text("推論テスト", exact=True).click()
    expect(section(page).get_by_role("combobox", name="モデル", exact=True)).to_be_visible()
    settled(page)


def test_a_sound_is_transcribed(page: Page, served: Served, root: Path) -> None:
    found = opened(page, served, "conformer")
    expect(found.get_by_role("button", name="推論を実行")).to_be_disabled()
    upload(page, "speech.wav", speech(root))
    expect(found.locator("audio")).to_have_count(1)
    run(page)
    expect(found.get_by_text("書き起こし")).to_be_visible()
    expect(found.locator("audio[controls]")).to_have_count(1)
    expect(found.locator(".js-plotly-plot")).to_have_count(1)  # waveform and spectrogram
    expect(found.get_by_text("16 kHz · ")).to_be_visible()
    values = timings(page)
    assert len(values) == 3
    assert all(value.endswith(" ms") for value in values)
    # what was found stays while something else is done
    found.get_by_text("2つのチェックポイントを並べて比べる").click()
    settled(page)
    expect(found.get_by_text("書き起こし")).to_be_visible()
    found.get_by_role("button", name="結果を消す").click()
    settled(page)
    expect(found.get_by_text("書き起こし")).to_have_count(0)


def test_what_is_no_sound_is_refused_in_a_sentence(page: Page, served: Served) -> None:
    found = opened(page, served, "conformer")
    upload(page, "rubbish.wav", b"this is no sound at all" * 100)
    found.get_by_role("button", name="推論を実行").click()
    expect(found.get_by_role("alert")).to_contain_text("推論できませんでした")
    expect(found.get_by_role("alert")).to_contain_text("upload.wav")
    settled(page)
    expect(found.get_by_role("button", name="推論を実行")).to_be_enabled()


def test_the_microphone(page: Page, served: Served) -> None:
    """The browser's own, which hears a tone."""
    found = opened(page, served, "conformer")
    source(page, "マイク")
    recorder = found.get_by_test_id("stAudioInput")
    recorder.get_by_role("button", name="Record").click()
    stop = recorder.get_by_role("button", name="Stop recording")
    expect(stop).to_be_visible()
    expect(recorder.get_by_test_id("stAudioInputWaveformTimeCode")).not_to_have_text("00:00")
    stop.click()
    run(page)
    expect(found.get_by_text("書き起こし")).to_be_visible()
    expect(found.locator("audio[controls]").first).to_be_visible()


def test_an_onnx_file_beside_its_checkpoint(page: Page, served: Served) -> None:
    with Client(served.url) as client:
        (newest, *_) = client.checkpoints(model_name="vae").checkpoints
        made = client.export(newest.run_id, newest.name, "onnx")
    found = opened(page, served, "vae")
    found.get_by_text("2つのチェックポイントを並べて比べる").click()
    settled(page)
    found.get_by_role("combobox", name="比べるチェックポイント").click()
    page.get_by_role("option", name=f"{newest.run_id}/{Path(made.path).name}").click()
    settled(page)
    source(page, "検証サンプル")
    run(page, results=2)
    pictures = found.get_by_alt_text("再構成、28×28 ピクセルの画像")
    expect(pictures).to_have_count(2)
    expect(found.get_by_role("heading", name=Path(made.path).name)).to_be_visible()


def test_a_drawing_in_two_checkpoints(page: Page, served: Served) -> None:
    found = opened(page, served, "vae")
    found.get_by_text("2つのチェックポイントを並べて比べる").click()
    settled(page)
    source(page, "手書き")
    board = found.get_by_role("img", name="絵を描く黒板")
    expect(found.get_by_role("button", name="推論を実行")).to_be_disabled()
    box = board.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 100, steps=5)
    page.mouse.move(x, y + 200, steps=5)
    page.mouse.up()
    run(page, results=2)
    expect(found.get_by_alt_text("再構成、28×28 ピクセルの画像")).to_have_count(2)
    expect(found.get_by_alt_text("潜在空間からのサンプル", exact=False)).to_have_count(2)
    seen = found.get_by_alt_text("モデルへの入力、28×28 ピクセルの画像").first
    assert _is_a_stroke(seen.get_attribute("src") or "")
    headings = found.get_by_role("heading").all_inner_texts()
    assert len(set(headings)) == 2, headings
    # cleared, there is nothing to run
    found.get_by_role("button", name="消す", exact=True).click()
    expect(found.get_by_role("button", name="推論を実行")).to_be_disabled()


def _is_a_stroke(source: str) -> bool:
    """Light in the middle, from top to bottom, and dark at both sides."""
    content = base64.b64decode(source.partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
        grey = picture.convert("L")
        middle = [grey.getpixel((14, y)) for y in (8, 14, 20)]
        sides = [grey.getpixel((x, 14)) for x in (3, 25)]
    return min(middle) > 200 and max(sides) < 50


def test_a_picture_from_a_file(page: Page, served: Served) -> None:
    found = opened(page, served, "vae")
    out = io.BytesIO()
    Image.linear_gradient("L").save(out, "PNG")
    upload(page, "ramp.png", out.getvalue())
    run(page)
    expect(found.get_by_alt_text("ramp.png、256×256 ピクセルの画像")).to_be_visible()
    expect(found.get_by_text("再構成誤差")).to_be_visible()


def test_a_validation_sample(page: Page, served: Served) -> None:
    found = opened(page, served, "vae")
    source(page, "検証サンプル")
    number = found.get_by_role("spinbutton", name="サンプル番号")
    number.fill("3")
    number.press("Enter")
    settled(page)
    run(page)
    expect(found.get_by_text("mnist の検証サンプル 3")).to_be_visible()
    expect(found.get_by_alt_text("再構成、28×28 ピクセルの画像")).to_be_visible()


def test_a_model_of_ones_own(page: Page, served: Served) -> None:
    """Nothing of the dashboard knows it: it takes a text, and its curves have a view."""
    found = opened(page, served, "curvy")
    source(page, "テキスト")
    field = found.get_by_role("textbox", name="入力するテキスト")
    field.fill("eleven char")
    field.blur()
    run(page)
    expect(found.get_by_text("2 曲線 · 11 フレーム · 5.50 秒")).to_be_visible()
    expect(found.locator(".js-plotly-plot .legendtext")).to_have_text(["jaw", "smile"])
    source(page, "検証サンプル")
    run(page)
    expect(found.get_by_text("2 曲線 · 7 フレーム")).to_be_visible()


def test_any_checkpoint_can_be_named(page: Page, served: Served) -> None:
    found = opened(page, served, "curvy")
    source(page, "テキスト")
    found.get_by_role("textbox", name="入力するテキスト").fill("x")
    chosen = found.get_by_role("combobox", name="チェックポイント")
    chosen.click()
    chosen.fill("2001-01-01_00-00-00/gone.pt")
    chosen.press("Enter")
    settled(page)
    found.get_by_role("button", name="推論を実行").click()
    expect(found.get_by_role("alert")).to_contain_text("2001-01-01_00-00-00")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 400)])
def test_no_serious_barriers(
    page: Page, served: Served, root: Path, theme: Theme, width: int
) -> None:
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    opened(page, served, "conformer")
    upload(page, "speech.wav", speech(root))
    run(page)
    assert not unreachable(page)
    assert overflowing(page) == 0
