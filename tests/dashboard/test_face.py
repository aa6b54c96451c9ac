"""A face on the page, in a browser: it moves with the sound that was uploaded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import Locator, Page, expect

import faces
from browsing import api, settled, show, unreachable, wait_until_completed
from plain_plugins import make_workspace
from servers import Served, serving

TRAINING = {
    "model_name": "koemorph",
    "dataset_name": "arkit",
    "epochs": 6,
    "batch_size": 2,
    "lightweight": True,
    "overrides": {"training.warmup_steps": 2, "training.learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("face") / "workspace")
    faces.corpus(folder / "data" / "face")
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("language: en", "language: ja")
    config.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Served]:
    """With a model that has been trained a little."""
    with serving(root) as one:
        started = api(one.url, "/api/train/start", TRAINING)
        wait_until_completed(one.url, started["run_id"])
        yield one


def a_sound() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, faces.sound(3.0, seed=2), 16_000, format="WAV")
    return out.getvalue()


def shape(found: Locator) -> str:
    """What the mouth looks like now."""
    return found.locator("svg .lips").get_attribute("d") or ""


def jaw(found: Locator) -> float:
    """How far down the lower lip is."""
    return float(shape(found).rpartition("Q")[2].split()[1])


def test_the_face_moves_with_the_sound_and_with_its_slider(page: Page, served: Served) -> None:
    show(page, served.url)
    page.get_by_text("推論テスト", exact=True).click()
    section = page.locator(".st-key-trying")
    expect(section.get_by_role("button", name="推論を実行")).to_be_visible()
    chosen = section.get_by_role("combobox", name="モデル", exact=True)
    if chosen.input_value() != "koemorph":
        chosen.click()
        page.get_by_role("option", name="koemorph", exact=True).click()
    settled(page)
    page.locator('.st-key-trying-file-sound input[type="file"]').set_input_files(
        [{"name": "voice.wav", "mimeType": "audio/wav", "buffer": a_sound()}]
    )
    expect(section.get_by_text("voice.wav").first).to_be_visible()
    settled(page)
    button = section.get_by_role("button", name="推論を実行")
    expect(button).to_be_enabled()
    button.click()
    expect(section.get_by_text("合計時間")).to_have_count(1)
    settled(page)
    face = section.get_by_role("img", name="ブレンドシェイプ の顔")
    expect(face).to_be_visible()
    expect(section.locator("output")).to_have_text("0.00 / 3.00")
    # with the slider: the mouth is open where it is loud, and the sound goes along
    slider = section.get_by_role("slider", name="時刻（秒）")
    heard = faces.loudness(faces.np.arange(180) / 60, 2)
    seen = {}
    for frame in (int(heard.argmin()), int(heard.argmax())):
        slider.fill(str(frame / 60))
        expect(section.locator("output")).to_have_text(f"{frame / 60:.2f} / 3.00")
        seen[frame] = jaw(section)
        at = section.locator("audio").last.evaluate("sound => sound.currentTime")
        assert at == pytest.approx(frame / 60, abs=0.02)
    quiet, loud = seen.values()
    assert loud > quiet
    # with the sound: it goes on by itself, and stays where the sound was paused
    before = shape(section)
    section.locator("audio").last.evaluate("sound => { sound.currentTime = 0; sound.play(); }")
    page.wait_for_function(
        "() => document.querySelector('.st-key-trying audio:last-of-type').currentTime > 0.3"
    )
    section.locator("audio").last.evaluate("sound => sound.pause()")
    at = section.locator("audio").last.evaluate("sound => sound.currentTime")
    expect(section.locator("output")).to_have_text(f"{at:.2f} / 3.00")
    assert shape(section) != before
    assert unreachable(page) == []


def test_samples_of_the_data_set_have_their_face(page: Page, served: Served) -> None:
    show(page, f"{served.url}/datasets")
    page.get_by_text("arkit").first.wait_for()
    settled(page)
    found = page.locator(".st-key-samples-arkit")
    found.get_by_text("サンプルを見る・聴く").click()
    settled(page)
    expect(found.get_by_role("img", name="ブレンドシェイプ の顔").first).to_be_visible()
    expect(found.locator("audio").first).to_be_attached()
