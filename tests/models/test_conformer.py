"""The Conformer: masks, gradients, decoding, that it learns, and that it hears what files say."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import attempts
import numpy as np
import pytest
import soundfile
import soxr
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

import tones
from tsuzuku.core import checkpoint_files, launch
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.errors import WrongInput
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.models import conformer
from tsuzuku.models.conformer import Config, Conformer, Words, beam_search, greedy, text_of
from tsuzuku.training.inheritance import inherit_weights
from tsuzuku.worker.use import evaluate, open_trained, predict

DATA = tones.Tones({"count": 2000}, "train")
SMALL = {"width": 32, "layers": 2, "heads": 2, "kernel": 7, "vocabulary": tones.VOCABULARY}


def make(seed: int = 0, **settings: Any) -> Conformer:
    torch.manual_seed(seed)
    return Conformer.from_config(Config.model_validate(SMALL | settings), None)


def batch_of(*seconds: float) -> dict[str, Any]:
    """Noise of those lengths, with two symbols each."""
    generator = torch.Generator().manual_seed(1)
    sounds = [torch.randn(int(s * 16_000), generator=generator) * 0.1 for s in seconds]
    tokens = [torch.tensor([2, 3])] * len(sounds)
    items = [{"audio": a, "tokens": t, "text": "ab"} for a, t in zip(sounds, tokens, strict=True)]
    return DATA.collate(items)


def outputs(model: Conformer, batch: dict[str, Any]) -> list[Tensor]:
    logits, lengths, _ = model.encode(*model.features(batch["audio"], batch["audio_lengths"]))
    return [row[:n] for row, n in zip(logits, lengths.tolist(), strict=True)]


# what a batch does to its members


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_padded_batch_gives_what_single_sounds_give(mode: str) -> None:
    model = make(dropout=0.0).train(mode == "train")
    seconds = (1.3, 0.001, 0.4567, 2.0, 0.01, 0.9999)
    together = batch_of(*seconds)
    found = outputs(model, together)
    for at, row in enumerate(found):
        size = int(together["audio_lengths"][at])
        (alone,) = outputs(
            model,
            {
                "audio": together["audio"][at : at + 1, :size],
                "audio_lengths": torch.tensor([size]),
            },
        )
        assert row.shape == alone.shape == (-(-(size // 160 + 1) // 4), 7)
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


def test_the_gradient_of_a_batch_is_that_of_its_members() -> None:
    model = make(dropout=0.0, frequency_masks=0, time_masks=0).train()
    together = batch_of(0.5, 1.7, 1.0)
    model(together)["loss"].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for at in range(3):
        size = int(together["audio_lengths"][at])
        part = {k: v[at : at + 1] for k, v in together.items()}
        part["audio"] = part["audio"][:, :size]
        (model(part)["loss"] / 3).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_a_depthwise_convolution_and_its_gradients_are_torchs() -> None:
    torch.manual_seed(0)
    x, taps = torch.randn(3, 11, 6, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    ours = conformer.depthwise(x, taps)
    theirs = F.conv1d(x.transpose(1, 2), taps[:, None], padding=2, groups=6).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    seed = torch.randn_like(ours)
    expected = torch.autograd.grad(theirs, (x, taps), seed)
    torch.testing.assert_close(torch.autograd.grad(ours, (x, taps), seed), expected)
    torch.testing.assert_close(conformer.depthwise(x.detach(), taps), theirs)


def test_positions_count_only_by_their_distance() -> None:
    block, x = conformer.Block(conformer.Shape(32, 1, 2, 7, 4), 0.0), torch.randn(1, 9, 32)
    mask = torch.ones(1, 9, dtype=torch.bool)
    frequencies = make().frequencies

    def attended(first: int) -> Tensor:
        turns = torch.outer(torch.arange(first, first + 9), frequencies)
        return block._attend(x, (turns.cos()[:, None], turns.sin()[:, None]), mask)

    torch.testing.assert_close(attended(0), attended(40), atol=1e-5, rtol=1e-4)
    turns = torch.outer(torch.zeros(9), frequencies)
    nowhere = block._attend(x, (turns.cos()[:, None], turns.sin()[:, None]), mask)
    assert (attended(0) - nowhere).abs().max() > 1e-3


# the spectrogram


def test_features_are_normalized_log_mels_whatever_the_transform() -> None:
    model, batch = make(), batch_of(1.0, 0.3)
    features, frames = model.features(batch["audio"], batch["audio_lengths"])
    assert frames.tolist() == [101, 31]
    assert features.shape == (2, 101, 80)
    assert not features[1, 31:].any()
    for row, n in zip(features, frames.tolist(), strict=True):
        torch.testing.assert_close(row[:n].mean(0), torch.zeros(80), atol=1e-4, rtol=0)
        torch.testing.assert_close(row[:n].std(0), torch.ones(80), atol=0.06, rtol=0)
    matrix, _ = model.features(batch["audio"], batch["audio_lengths"], by_matrix=True)
    torch.testing.assert_close(matrix, features, atol=1e-3, rtol=0)
    # frame 50 by hand
    padded = np.pad(batch["audio"][0].double().numpy(), 200)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    logs = [
        np.log(
            (np.abs(np.fft.rfft(padded[at * 160 : at * 160 + 400] * window, 512)) ** 2)
            @ conformer.mel_filters().double().numpy()
            + 1e-6
        )
        for at in range(101)
    ]
    by_hand = (np.stack(logs) - np.mean(logs, 0)) / np.sqrt(np.var(logs, 0) + 1e-2)
    np.testing.assert_allclose(features[0].numpy(), by_hand, atol=2e-3)


def test_mel_bands_cover_what_is_heard() -> None:
    filters = conformer.mel_filters()
    for hertz in (100, 440, 1000, 3000, 7000):
        band = int(filters[round(hertz / 31.25)].argmax())
        centre = 700 * (10 ** ((band + 1) * 2840.023 / 81 / 2595) - 1)
        assert abs(centre - hertz) < 0.06 * hertz + 31.25
    assert (filters.sum(0) > 0).all()


def test_another_vocabulary_keeps_the_rows_of_the_symbols_that_both_have() -> None:
    old = make(seed=1, vocabulary=["", " ", "a", "b", "c"])
    new = make(seed=2, vocabulary=["", "c", "ä", "a"])
    fresh = new.head.weight.detach().clone()
    found = inherit_weights(new, old.state_dict(), {"vocabulary": old.vocabulary}, "a.pt")
    assert (found.adapted, found.anew, found.left) == (["head.weight", "head.bias"], [], [])
    for row, before in ((0, 0), (1, 4), (3, 2)):
        assert torch.equal(new.head.weight[row], old.head.weight[before])
        assert torch.equal(new.head.bias[row], old.head.bias[before])
    assert torch.equal(new.head.weight[2], fresh[2]), "nobody knew this one"
    encoder = [{k: v for k, v in m.state_dict().items() if "head" not in k} for m in (old, new)]
    assert all(torch.equal(encoder[0][name], encoder[1][name]) for name in encoder[0])
    same = make(seed=3, vocabulary=old.vocabulary)
    found = inherit_weights(same, old.state_dict(), {"vocabulary": old.vocabulary}, "a.pt")
    assert found.adapted == []


def test_silence_and_the_shortest_sound_are_no_problem() -> None:
    model = make().eval()
    for sound in (torch.zeros(16_000), torch.zeros(1), torch.ones(1), torch.full((400,), 1e-8)):
        (found,) = outputs(
            model, {"audio": sound[None], "audio_lengths": torch.tensor([len(sound)])}
        )
        assert found.isfinite().all()


def test_augmentation_hides_what_it_may_follows_the_seed_and_is_for_training_only() -> None:
    model = make(frequency_masks=1, frequency_mask_width=20, time_masks=2, time_mask_share=0.1)
    features = torch.ones(64, 200, 80)
    frames = torch.full((64,), 150)
    torch.manual_seed(3)
    hidden = model.augment(features, frames) == 0
    bands, stretches = hidden.all(1).sum(1), hidden.all(2).sum(1)
    assert 0 < bands.max() <= 20
    assert 0 < stretches.max() <= 30
    assert not hidden[:, 150:].all(2).any()
    assert len(set(bands.tolist())) > 5  # not all alike
    assert torch.equal(hidden, hidden.all(1)[:, None] | hidden.all(2)[..., None])
    torch.manual_seed(3)
    assert torch.equal(model.augment(features, frames) == 0, hidden)
    off = make(frequency_masks=0, time_masks=0)
    assert torch.equal(off.augment(features, frames), features)
    model.eval()
    batch, before = batch_of(0.5), torch.get_rng_state()
    assert model.validate(batch)["loss"] == model(batch)["loss"]
    assert torch.equal(before, torch.get_rng_state())


# losses and gradients


def test_every_weight_gets_a_gradient_in_full_and_half_precision() -> None:
    for dtype, enabled in ((torch.float32, False), (torch.bfloat16, True), (torch.float16, True)):
        model = make(intermediate=0.3).train()
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            losses = model(batch_of(1.0, 0.6))
        assert set(losses) == {"loss", "ctc", "intermediate"}
        assert losses["loss"].dtype == torch.float32
        together = 0.7 * losses["ctc"] + 0.3 * losses["intermediate"]
        torch.testing.assert_close(losses["loss"], together)
        losses["loss"].backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name
            if weight.numel() > 1:
                assert weight.grad.any(), name


def test_what_is_too_short_for_its_text_does_not_count() -> None:
    model, batch = make().eval(), batch_of(1.0, 0.02)
    alone = {k: v[:1] for k, v in batch.items()}
    torch.testing.assert_close(model(batch)["loss"], model(alone)["loss"] / 2)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    block = conformer.Block(conformer.Shape(8, 1, 2, 3, 4), 0.25).train()
    x = torch.zeros(50, 40, 8)
    torch.manual_seed(0)
    made = block._add(x, torch.ones_like(x), 0.5)
    kept = made != 0
    assert 0.73 < kept.float().mean() < 0.77
    torch.testing.assert_close(made[kept], torch.full_like(made[kept], 0.5 / 0.75))
    for axis in range(3):  # neighbours have nothing to do with each other
        both = kept.narrow(axis, 1, x.shape[axis] - 1) & kept.narrow(axis, 0, x.shape[axis] - 1)
        assert 0.54 < both.float().mean() < 0.585
    assert torch.equal(block.eval()._add(x, torch.ones_like(x), 0.5), torch.full_like(x, 0.5))


def test_validation_counts_errors_over_all_words_and_characters(monkeypatch: Any) -> None:
    model = make().eval()
    batch = batch_of(0.5, 0.5) | {"text": ["ab cd", "e"]}
    heard = iter(["ab ce a", ""])
    monkeypatch.setattr(conformer, "text_of", lambda *_: next(heard))
    found = model.validate(batch)
    assert (found["wer"], found["cer"]) == ((3, 3), (4, 6))


# decoding


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)


def all_sums(log_probs: Tensor) -> dict[tuple[int, ...], float]:
    """The log-probability of everything that can be said, from every path there is."""
    time, size = log_probs.shape
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(size), repeat=time):
        score = sum(float(log_probs[t, s]) for t, s in enumerate(path))
        said = collapsed(path)
        sums[said] = float(np.logaddexp(sums.get(said, -math.inf), score))
    return sums


@st.composite
def scores(draw: st.DrawFn) -> Tensor:
    time, size = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    values = st.lists(st.floats(-4, 4, width=32), min_size=time * size, max_size=time * size)
    return torch.tensor(draw(values)).reshape(time, size).log_softmax(-1)


LETTERS = ["", " ", "a", "b"]


@given(scores())
@example(torch.tensor([[0.4, 0.6], [0.6, 0.4]]).log())
@example(torch.tensor([[0.0, -30.0], [0.0, -30.0], [0.0, -30.0]]))
def test_a_wide_beam_finds_what_is_likeliest_over_all_paths(log_probs: Tensor) -> None:
    sums = all_sums(log_probs)
    found = beam_search(log_probs, 10_000, LETTERS)
    assert sums[tuple(s.piece for s in found)] == pytest.approx(max(sums.values()), abs=1e-4)
    frames = [s.frame for s in found]
    assert all(log_probs[s.frame, s.piece] == pytest.approx(s.log_prob) for s in found)
    assert all(0 <= frame < len(log_probs) for frame in frames)


@given(scores(), st.sets(st.sampled_from(["a", "b", "ab", "ba", "aab"]), min_size=1))
def test_with_a_word_list_nothing_else_is_said(log_probs: Tensor, words: set[str]) -> None:
    def allowed(said: tuple[int, ...]) -> bool:
        return set("".join(LETTERS[s] for s in said).split()) <= words

    sums = {k: v for k, v in all_sums(log_probs).items() if allowed(k)}
    found = beam_search(log_probs, 10_000, LETTERS, Words(sorted(words)))
    assert sums[tuple(s.piece for s in found)] == pytest.approx(max(sums.values()), abs=1e-4)


@given(scores())
def test_greedy_collapses_the_likeliest_path(log_probs: Tensor) -> None:
    found = greedy(log_probs)
    best = log_probs.argmax(-1).tolist()
    assert tuple(s.piece for s in found) == collapsed(tuple(best))
    for symbol in found:
        assert best[symbol.frame] == symbol.piece
        assert symbol.log_prob == pytest.approx(
            float(log_probs[symbol.frame, symbol.piece]), abs=1e-5
        )


def symbols(*pieces: int) -> list[conformer.Symbol]:
    return [conformer.Symbol(p, 10 * n, math.log(0.5)) for n, p in enumerate(pieces)]


def test_pieces_become_words() -> None:
    subwords = ["", "▁he", "llo", "▁", "▁w", "orld"]
    found = symbols(1, 2, 4, 5, 3)
    assert text_of(found, subwords) == "hello world"
    words = conformer.spoken_words(found, subwords)
    assert [(w["word"], w["start"], w["end"]) for w in words] == [
        ("hello", 0.0, 0.44),
        ("world", 0.8, 1.24),
    ]
    assert {w["confidence"] for w in words} == {0.5}
    japanese = ["", "音", "声"]
    assert text_of(symbols(1, 2), japanese) == "音声"
    assert [w["word"] for w in conformer.spoken_words(symbols(1, 2), japanese)] == ["音", "声"]
    letters = ["", " ", "a", "b"]
    spaced = symbols(1, 2, 1, 1, 3, 2, 1)
    assert [w["word"] for w in conformer.spoken_words(spaced, letters)] == ["a", "ba"]
    assert text_of(spaced, letters).split() == ["a", "ba"]
    assert Words(["hello"]).after("he", "llo▁") == ""
    assert Words(["hello"]).after("hel", "▁w") is None


# it learns, and hears files


@pytest.fixture(scope="module")
def trained() -> Conformer:
    """200 steps of eight utterances each, of which none comes twice."""
    quiet = {"dropout": 0.0, "frequency_masks": 0, "time_masks": 0}
    model, rate, steps = make(seed=1, **quiet).train(), 8e-3, 200
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20, (steps - step) / 80)
        losses = model(DATA.collate([DATA[40 + 8 * step + i] for i in range(8)]))
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def test_understands_utterances_that_it_was_not_trained_on(trained: Conformer) -> None:
    found = trained.validate(DATA.collate([DATA[i] for i in range(40)]))
    letters = sum(len(text) for text in DATA.texts[:40])
    assert (found["cer"], found["wer"][0]) == ((0, letters), 0)


def heard(model: Conformer, **sample: Any) -> dict[str, Any]:
    *_, last = model.inference(sample)
    return last


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [("wav", 16_000, 1), ("flac", 44_100, 2), ("ogg", 48_000, 1), ("mp3", 22_050, 2)],
)
def test_hears_sound_files_of_any_kind(
    trained: Conformer, tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    text = max(DATA.texts[:40], key=len)
    sound = soxr.resample(tones.sound(text).numpy(), 16_000, rate)
    path = tmp_path / f"音.{suffix}"
    soundfile.write(path, np.stack([sound] * channels, axis=1), rate)
    found = heard(trained, path=str(path))["transcription"]
    assert (found["type"], found["value"]) == ("text", text)
    assert [w["word"] for w in found["words"]] == text.split()
    letter = tones.SECONDS
    begin = letter
    for word in found["words"]:
        end = begin + letter * len(word["word"])
        assert abs(word["start"] - begin) < 0.13
        assert abs(word["end"] - end) < 0.2
        assert 0.5 < word["confidence"] <= 1
        begin = end + letter


def test_an_item_is_heard_with_its_reference(trained: Conformer) -> None:
    found = heard(trained, item=DATA[3])
    assert found["transcription"]["value"] == found["reference"]["value"] == DATA.texts[3]


def test_long_sound_is_heard_part_by_part(trained: Conformer, monkeypatch: Any) -> None:
    """With parts of 4 s, of which the edges lie anywhere in words."""
    monkeypatch.setattr(conformer, "PART", 100 * conformer.STRIDE)
    monkeypatch.setattr(conformer, "OVERLAP", 50 * conformer.STRIDE)
    text = " ".join(DATA.texts[:16])
    audio = tones.sound(text)
    assert len(audio) > 3 * conformer.PART
    parts = list(trained.listen(audio))
    (whole,) = outputs(trained, {"audio": audio[None], "audio_lengths": torch.tensor([len(audio)])})
    assert sum(map(len, parts)) == len(whole)
    yielded = [p["transcription"]["value"] for p in trained.inference({"item": {"audio": audio}})]
    assert yielded[-1].split() == text.split()
    assert len(yielded) == len(parts) + 1
    assert all(text.startswith(part[:-6]) for part in yielded)
    for size in (1, conformer.PART, conformer.PART + 1, 2 * conformer.PART - conformer.OVERLAP + 1):
        total = sum(map(len, trained.listen(audio[:size])))
        assert total == -(-(size // 160 + 1) // 4)


def test_a_word_list_sets_doubtful_words_right(trained: Conformer, tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("\n".join([*" ".join(DATA.texts[:8]).split(), "bad"]), encoding="utf-8")
    model = Conformer.from_config(Config.model_validate(SMALL | {"word_list": str(listed)}), None)
    assert "bad" in (model.config.word_list or [])
    model.load_state_dict(trained.state_dict())
    model.eval()
    for index in range(8):
        assert heard(model, item=DATA[index])["transcription"]["value"] == DATA.texts[index]
    unknown = heard(model, item={"audio": tones.sound("bbb ebe")})["transcription"]["value"]
    assert set(unknown.split()) <= set(model.config.word_list or [])
    assert unknown  # something is


def test_what_is_no_sound_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = make().eval()
    (tmp_path / "text.wav").write_text("no sound", encoding="utf-8")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    for name, problem in (
        ("text.wav", "text.wav is not a sound file"),
        ("empty.wav", "empty.wav has no sound in it"),
        ("none.wav", "none.wav is not a sound file"),
    ):
        with pytest.raises(ValueError, match=problem):
            heard(model, path=str(tmp_path / name))
    with pytest.raises(ValueError, match="neither path nor item"):
        heard(model, image=np.zeros((2, 2)))


# settings


def test_the_vocabulary_comes_from_the_data_set_unless_it_is_set() -> None:
    bare = {k: v for k, v in SMALL.items() if k != "vocabulary"}
    model = Conformer.from_config(Config.model_validate(bare), DATA)
    assert model.config.vocabulary == tones.VOCABULARY
    own = Conformer.from_config(Config.model_validate(bare | {"vocabulary": ["", "x"]}), DATA)
    assert (own.config.vocabulary, own.head.out_features) == (["", "x"], 2)
    with pytest.raises(ValueError, match="data set has no vocabulary"):
        Conformer.from_config(Config.model_validate(bare), None)


def test_sizes_are_the_papers() -> None:
    for size, millions in (("tiny", 2.0), ("S", 8.0), ("M", 25.0), ("L", 104.0)):
        with torch.device("meta"):
            shape = conformer.SIZES[size]
            count = sum(
                p.numel()
                for _ in range(shape.layers)
                for p in conformer.Block(shape, 0.1).parameters()
            )
        assert count / 1e6 == pytest.approx(millions, rel=0.1), size


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"size": "XL"}, {"dropout": 1}, {"beam": 0}, {"word_list": ""}, {"units": 3}):
        with pytest.raises(ValidationError):
            Config.model_validate(SMALL | wrong)
    for wrong, problem in (
        ({"heads": 3}, "multiple of 2 x heads"),
        ({"kernel": 4}, "has to be odd"),
        ({"vocabulary": ["a", "b"]}, "begin with ''"),
        ({"vocabulary": []}, "begin with ''"),
    ):
        with pytest.raises(ValueError, match=problem):
            make(**wrong)


# outside


def test_an_exported_model_takes_any_batch_and_time(tmp_path: Path) -> None:
    """By torch alone, as others would export it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make(layers=1).eval()

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            return self.model.export_forward(audio, lengths)

    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=800, max=10**7)
    shapes = {"audio": {0: batch, 1: time}, "lengths": {0: batch}}
    inputs, path = model.export_inputs(), tmp_path / "conformer.onnx"
    program = torch.export.export(Exported().eval(), inputs, dynamic_shapes=shapes)
    torch.onnx.export(program, inputs, path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    for seconds in ((1.0,), (0.06,), (2.3, 0.5, 1.1), (0.3, 0.31)):
        made = batch_of(*seconds)
        given_now = [made["audio"].numpy(), made["audio_lengths"].numpy()]
        found, counts = session.run(None, dict(zip(names, given_now, strict=True)))
        rows = outputs(model, made)
        assert counts.tolist() == [len(row) for row in rows]
        for got, row in zip(found, rows, strict=True):
            expected = row.log_softmax(-1).detach().numpy()
            np.testing.assert_allclose(got[: len(row)], expected, atol=1e-4, rtol=0)


WORDS = [
    *("width=16", "layers=2", "heads=2", "kernel=5", "intermediate=0.3"),
]


@pytest.fixture
def speaking(workspace: Workspace) -> Workspace:
    """A workspace whose data set says tones, of different lengths, in shuffled buckets."""
    text = Path(tones.__file__).read_text(encoding="utf-8")
    (workspace.root / "datasets" / "tones.py").write_text(text, encoding="utf-8")
    return workspace


def new_run(workspace: Workspace, store: Store, *words: str) -> RunDir:
    settings = [f"model.{word}" for word in WORDS]
    settings += ["dataset.count=40", "num_epochs=2", "batch_size=4", *words]
    overrides = parse_overrides(settings, "conformer", "tones")
    plan = plan_training(workspace, store, "conformer", "tones", overrides, fresh=True)
    return launch.prepare(workspace, store, plan).run


def test_a_training_that_was_stopped_ends_at_the_same_bits(
    speaking: Workspace, store: Store
) -> None:
    calm = new_run(speaking, store)
    assert attempts.attempt(speaking, calm) == 0, attempts.said(calm)
    torn = new_run(speaking, store)
    for looks in (3, 11, 4):
        assert attempts.attempt(speaking, torn, looks) == 143, attempts.said(torn)
    assert attempts.attempt(speaking, torn) == 0, attempts.said(torn)
    assert attempts.difference(store, calm, torn) is None
    other = new_run(speaking, store, "seed=1")
    assert attempts.attempt(speaking, other) == 0
    assert attempts.difference(store, calm, other) is not None
    assert {"wer", "cer", "metrics.intermediate", "intermediate"} & set(store.keys(calm.run_id))


def test_a_checkpoint_is_used_where_its_data_is_not(
    speaking: Workspace, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(speaking, store)
    assert attempts.attempt(speaking, run) == 0, attempts.said(run)
    checkpoint = checkpoint_files.read(attempts.last(run))
    assert checkpoint.info["config"]["model"]["vocabulary"] == tones.VOCABULARY
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, tones.sound("abc").numpy(), 16_000)
    before = predict(open_trained(speaking, run, checkpoint), str(sound)).outputs
    # the run's own copy of the data set finds its samples gone
    kept = run.source / "datasets" / "tones.py"
    text = kept.read_text(encoding="utf-8")
    gone = "    def __init__(self, config, split):\n        raise FileNotFoundError('no samples')\n"
    kept.write_text(
        text.replace("    def __init__(self, config, split):\n", gone), encoding="utf-8"
    )
    monkeypatch.delitem(sys.modules, "tsuzuku_plugins.datasets.tones")  # as in another process
    trained = open_trained(speaking, run, checkpoint)
    assert predict(trained, str(sound)).outputs == before
    for use in (lambda: evaluate(trained), lambda: predict(trained, "0")):
        with pytest.raises(WrongInput, match=r"datasets/tones\.py, line \d+: no samples"):
            use()
