"""Typed outputs on the page: every type, every shape, and what is none of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from streamlit.testing.v1 import AppTest

from tsuzuku.core.answers import Output
from tsuzuku.dashboard import curve_charts, sounds, transcripts
from tsuzuku.dashboard.sounds import Sound

RATE = 16_000


def shown(**outputs: Output) -> AppTest:
    """The page with these outputs; it must not have failed."""

    def script(outputs):  # its source runs alone, without imports
        from tsuzuku.dashboard import outputs as view

        view.show(outputs, "here")

    app = AppTest.from_function(script, kwargs={"outputs": outputs}, default_timeout=30).run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html"))


def charts(app: AppTest) -> list[Any]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def png(width: int, height: int) -> str:
    out = io.BytesIO()
    Image.new("L", (width, height)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def wav(samples: Any, rate: int = RATE, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind)
    return out.getvalue()


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> Any:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def typed(**fields: Any) -> Output:
    return Output.model_validate(fields)


def test_a_text_is_large_and_can_be_copied() -> None:
    app = shown(transcription=typed(type="text", value="the quick <b>brown</b> fox"))
    assert app.code[0].value == "the quick <b>brown</b> fox"
    assert "書き起こし" in app.markdown[0].value


def test_words_have_their_times_and_say_how_sure_the_model_is() -> None:
    words = [
        {"word": "one", "start": 0.1, "end": 0.25, "confidence": 0.99},
        {"word": "<two>", "start": 0.3, "end": 0.5, "confidence": 0.6},
        {"word": "three", "start": 0.6, "end": 0.9, "confidence": 0.1},
    ]
    app = shown(transcription=typed(type="text", value="one two three", words=words))
    drawn = html(app)
    assert '<span class="sure" title="0.10–0.25 s 99%">one</span>' in drawn
    assert '<span class="unsure" title="0.30–0.50 s 60%">&lt;two&gt;</span>' in drawn
    assert 'class="doubtful"' in drawn
    table = app.dataframe[0].value
    assert table["単語"].tolist() == ["one", "<two>", "three"]
    assert table["開始（秒）"].tolist() == [0.1, 0.3, 0.6]


def test_a_reference_stands_beside_what_was_said() -> None:
    app = shown(
        transcription=typed(type="text", value="a small cat sat"),
        reference=typed(type="text", value="a small hat sat down"),
    )
    assert "<mark>cat</mark>" in html(app)
    assert "<mark>hat</mark> sat <mark>down</mark>" in html(app)
    assert "5 語のうち 2 語" in app.caption[-1].value
    same = typed(type="text", value="it is right")
    assert "一致" in shown(transcription=same, reference=same).caption[-1].value


@given(st.text("ab 漢", max_size=30), st.text("ab 漢", max_size=30))
def test_differences_lose_nothing(said: str, right: str) -> None:
    spaced = " " in said.strip() or " " in right.strip()
    ours, theirs = transcripts.differences(said, right)
    for text, pieces in ((said, ours), (right, theirs)):
        between = " " if spaced else ""
        assert transcripts.units(between.join(p.text for p in pieces), spaced) == (
            transcripts.units(text, spaced)
        )
    assert [p.text for p in ours if p.same] == [p.text for p in theirs if p.same]


def test_a_small_picture_is_enlarged_with_sharp_edges() -> None:
    drawn = html(shown(reconstruction=typed(type="image", value=png(28, 28), width=28, height=28)))
    assert "width:224px" in drawn
    assert "image-rendering:pixelated" in drawn
    assert 'alt="再構成、28×28 ピクセルの画像"' in drawn
    drawn = html(shown(photo=typed(type="image", value=png(900, 600))))
    assert "width:900px;max-width:100%" in drawn
    assert "pixelated" not in drawn


def test_pictures_stand_side_by_side_in_their_order() -> None:
    picture = typed(type="image", value=png(8, 8))
    app = shown(a=picture, b=picture, note=typed(type="number", value=1.5), c=picture)
    blocks = [str(element.proto.body) for element in app.get("html")]
    assert [block.count("<img") for block in blocks] == [2, 1]
    assert app.metric[0].value == "1.5"


def test_a_sound_has_player_waveform_spectrogram_rate_and_length() -> None:
    value = base64.b64encode(wav(tone(440, 1.5))).decode()
    app = shown(audio=typed(type="audio", value=value, sample_rate=RATE, seconds=1.5))
    assert app.get("audio")
    assert app.get("plotly_chart")
    assert app.caption[-1].value == "16 kHz · 1.50 秒 · モノラル"


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_decoded(kind: str) -> None:
    found = sounds.decode(wav(tone(440), kind=kind))
    assert found is not None
    assert found.rate == RATE
    assert found.seconds == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all", bytes(1000)])
def test_what_is_no_sound_is_none(content: bytes) -> None:
    assert sounds.decode(content) is None


@pytest.mark.parametrize("hertz", [300, 1000, 3000, 6000])
def test_the_spectrogram_shows_a_tone_where_it_is(hertz: float) -> None:
    found = sounds.spectrogram(Sound(tone(hertz), RATE, 1, 1.0))
    assert found is not None
    loudest = found.hertz[found.decibels.mean(axis=1).argmax()]
    assert loudest == pytest.approx(hertz, rel=0.06)
    assert found.decibels.max() == pytest.approx(0, abs=0.01)


@given(
    arrays.arrays(np.float32, st.integers(0, 5000), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([8000, 16_000, 44_100, 192_000]),
)
@settings(max_examples=50, deadline=None)
def test_any_sound_can_be_drawn(samples: Any, rate: int) -> None:
    sound = Sound(samples, rate, 1, len(samples) / rate)
    times, low, high = sounds.envelope(sound)
    assert len(times) == len(low) == len(high) == min(len(samples), sounds.WIDTH)
    if len(samples):
        assert low.min() == samples.min()
        assert high.max() == samples.max()
    found = sounds.spectrogram(sound)
    if found is None:
        assert not len(samples)
    else:
        assert found.decibels.shape == (len(found.hertz), len(found.times))
        assert np.isfinite(found.decibels).all()
        assert found.decibels.min() >= -sounds.RANGE - 0.01
        assert found.decibels.shape[1] <= sounds.WIDTH + 1


def test_long_sound_is_drawn_in_part_and_says_so() -> None:
    value = base64.b64encode(wav(np.zeros(8000 * 130, "f4"), 8000)).decode()
    app = shown(audio=typed(type="audio", value=value))
    assert "130.00 秒" in app.caption[-1].value
    assert "最初の 120 秒" in app.caption[-1].value


def test_curves_have_names_and_seconds() -> None:
    names = ["jaw", "smile"]
    rows = [[0, 1, 2, None], [3, 2, 1, 0]]
    app = shown(face=typed(type="curves", value=rows, names=names, fps=30))
    (figure,) = charts(app)
    assert [line["name"] for line in figure["data"]] == names
    assert figure["layout"]["xaxis"]["title"]["text"] == "時間（秒）"
    assert app.caption[-1].value == "2 曲線 · 4 フレーム · 0.13 秒"


def test_fifty_two_curves_stay_legible() -> None:
    names = [f"shape{number}" for number in range(52)]
    rows = np.random.default_rng(0).random((52, 300)) * np.arange(52)[:, None]
    app = shown(face=typed(type="curves", value=rows.tolist(), names=names, fps=60))
    assert app.multiselect[0].value == list(range(46, 52))  # those that move most
    lines, everything = charts(app)
    assert [line["name"] for line in lines["data"]] == names[46:]
    assert everything["data"][0]["type"] == "heatmap"
    assert everything["layout"]["yaxis"]["ticktext"] == names


@given(
    arrays.arrays(
        np.float64,
        arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=50),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=32),
    )
)
def test_curves_of_any_shape_are_rows_with_names(values: Any) -> None:
    rows, names = curve_charts.checked(values.tolist(), ["a"])
    assert rows.ndim == 2
    assert len(names) == len(rows)
    assert curve_charts.spread(rows).shape == (len(rows),) if rows.size else True


@given(st.integers(1, 30_000))
@settings(max_examples=30, deadline=None)
def test_long_curves_are_shortened_without_losing_the_mean(length: int) -> None:
    rows = np.ones((2, length), np.float32)
    short, step = curve_charts.shortened(rows)
    assert short.shape[1] <= curve_charts.LONGEST
    assert (short.shape[1] - 1) * step < length <= short.shape[1] * step
    assert (short == 1).all()


@pytest.mark.parametrize(
    "output",
    [
        Output.model_construct(type="hologram", value={"a": [1]}, note="x"),
        typed(type="image", value="rubbish"),
        typed(type="image", value=base64.b64encode(b"no picture").decode()),
        typed(type="audio", value=None),
        typed(type="curves", value="none"),
        typed(type="curves", value=[[1], [1, 2]], names=["a", "b"]),
        typed(type="curves", value=[[[1]]]),
        typed(type="number", value="many"),
        typed(type="text", value={"no": "text"}),
    ],
)
def test_what_is_not_of_its_type_is_shown_as_json(output: Output) -> None:
    app = shown(strange=output)
    assert app.json
    assert output.type in app.json[0].value


@pytest.mark.parametrize(
    "output",
    [
        typed(type="audio", value=base64.b64encode(b"rubbish").decode()),
        typed(type="curves", value=[]),
        typed(type="curves", value=[[], []]),
        typed(type="curves", value=[[None, None], [1.0, None]]),
        typed(type="number", value=None),
        typed(type="text", value=""),
        typed(type="text", value="x", words=[1, {"no": "word"}, {"word": 3}]),
    ],
)
def test_odd_values_are_shown_all_the_same(output: Output) -> None:
    assert not shown(odd=output).exception


def test_names_are_text_and_never_markup() -> None:
    picture = typed(type="image", value=png(2, 2))
    text = typed(type="text", value="x" * 30)
    app = shown(**{"<img src=x>": picture, "*a* [b](c)": text})
    assert "<img src=x>" not in html(app)
    assert app.markdown[0].value == r"**\*a\* \[b\]\(c\)**"


def test_no_outputs_are_said_to_be_none() -> None:
    empty: Callable[[], AppTest] = shown
    assert empty().caption[0].value == "出力はありません。"
