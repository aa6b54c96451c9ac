"""KoeMorph: what a batch does to its members, correlations of a whole validation, that it learns a
face from sound, that it moves smoothly, its checkpoints' names, and what an export computes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attempts
import numpy as np
import pytest
import soundfile
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import faces
from tsuzuku.core import checkpoint_files, launch
from tsuzuku.core.blendshapes import NAMES
from tsuzuku.core.config_loader import parse_overrides
from tsuzuku.core.resume import plan_training
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import RunDir, Workspace
from tsuzuku.datasets.arkit import ARKit
from tsuzuku.models.koemorph import TRAINING, Config, KoeMorph
from tsuzuku.training.results import Averages
from tsuzuku.worker.use import evaluate, open_trained, predict

SMALL = {"width": 24, "layers": 3, "fps": 60, "blendshapes": list(NAMES)}


def make(seed: int = 0, **settings: Any) -> KoeMorph:
    torch.manual_seed(seed)
    model = KoeMorph.from_config(Config.model_validate(SMALL | settings), None)
    with torch.no_grad():  # as if it had learned where to look, and how loud counts
        model.places.normal_()
        model.level.normal_()
    return model


def batch_of(*seconds: float, fps: int = 60) -> dict[str, Any]:
    """Noise of those lengths, with faces at random."""
    generator = torch.Generator().manual_seed(1)
    items: list[dict[str, Any]] = []
    for length in seconds:
        samples = max(1, round(length * 16_000))
        face = torch.rand(-(-samples * fps // 16_000), 52, generator=generator)
        audio = torch.randn(samples, generator=generator) * 0.1
        items.append({"audio": audio, "blendshapes": face, "id": str(length)})
    return ARKit.collate(items)


def alone(batch: dict[str, Any], at: int) -> dict[str, Any]:
    """One of a batch, without padding."""
    samples, frames = (int(batch[key][at]) for key in ("audio_lengths", "frame_lengths"))
    return {
        "audio": batch["audio"][at : at + 1, :samples],
        "audio_lengths": batch["audio_lengths"][at : at + 1],
        "blendshapes": batch["blendshapes"][at : at + 1, :frames],
        "frame_lengths": batch["frame_lengths"][at : at + 1],
    }


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("settings", [{}, {"causal": True}, {"fps": 30}, {"fps": 25, "reach": 0}])
def test_a_padded_batch_gives_what_single_sounds_give(mode: str, settings: dict[str, Any]) -> None:
    model = make(dropout=0.0, gain_db=0.0, **settings).train(mode == "train")
    fps = settings.get("fps", 60)
    together = batch_of(1.3, 0.0001, 0.4567, 2.0, 0.01, 0.9999, fps=fps)
    found, mask = model.faces(together["audio"], together["audio_lengths"])
    assert mask.sum(1).tolist() == together["frame_lengths"].tolist()
    assert found.shape == together["blendshapes"].shape
    assert ((found > 0) & (found < 1)).all()
    for at, row in enumerate(found):
        part = alone(together, at)
        (expected,), _ = model.faces(part["audio"], part["audio_lengths"])
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_losses_and_metrics_of_a_batch_are_those_of_its_members() -> None:
    model = make().eval()
    together = batch_of(0.5, 1.7, 1.0)
    found = model.validate(together)
    total = found["mae"][1]
    for key in ("loss", "mse_loss", "l1_loss", "temporal_loss"):
        parts = [model.validate(alone(together, at)) for at in range(3)]
        mean = sum(float(p[key]) * p["mae"][1] for p in parts) / total
        assert float(found[key]) == pytest.approx(mean, rel=1e-5), key
    loss = found["mse_loss"] + 0.1 * found["l1_loss"] + 10 * found["temporal_loss"]
    assert float(found["loss"]) == pytest.approx(float(loss))
    assert float(found["mae"][0]) / total == pytest.approx(float(found["l1_loss"]), rel=1e-5)
    assert float(found["mse"][0]) / total == pytest.approx(float(found["mse_loss"]), rel=1e-5)


def test_correlations_are_of_the_whole_validation() -> None:
    """The mean of batches' correlations is another number."""
    model = make().eval()
    batches = [batch_of(0.5, 1.7), batch_of(1.0)]
    batches[1]["blendshapes"] = batches[1]["blendshapes"] * 0.2  # another mean: means mislead
    for batch in batches:
        batch["blendshapes"][..., 5:] = 0.3  # what does not move does not count
    total = Averages(model)
    for batch in batches:
        total.add(model.validate(batch), len(batch["id"]), "koemorph")
    found = total.means()
    predicted, wanted = [], []
    for batch in batches:
        made, mask = model.faces(batch["audio"], batch["audio_lengths"])
        predicted.append(made[mask].detach().double())
        wanted.append(batch["blendshapes"][mask].double())
    p, t = torch.cat(predicted).numpy(), torch.cat(wanted).numpy()
    each = {k: v for k, v in found.items() if k.startswith("correlation/")}
    assert list(each) == [f"correlation/{name}" for name in NAMES[:5]]
    expected = [np.corrcoef(p[:, i], t[:, i])[0, 1] for i in range(5)]
    np.testing.assert_allclose(list(each.values()), expected, atol=1e-6)
    assert found["correlation"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert found["mae"] == pytest.approx(np.abs(p - t).mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.square(p - t).mean(), rel=1e-5)
    assert "moments" not in found


def test_a_face_that_never_moves_has_no_correlation() -> None:
    model = make().eval()
    batch = batch_of(0.5)
    batch["blendshapes"][:] = 0.25
    sums = {"moments": model.validate(batch)["moments"]}
    assert math.isnan(model.summarize(sums)["correlation"])
    assert list(model.summarize(sums)) == ["correlation"]
    moving = torch.zeros(6, 52, dtype=torch.float64)
    # two frames of 0 and 1, predicted as the same
    moving[:, 3] = torch.tensor([2.0, 1.0, 1.0, 0.5, 1.0, 0.5])
    moving[0] = 2
    assert model.summarize({"moments": moving}) == {
        "correlation": 0.0,
        f"correlation/{NAMES[3]}": 0.0,
    }


def test_a_causal_model_does_not_hear_what_is_to_come() -> None:
    audio = batch_of(1.5)["audio"]
    later = audio.clone()
    later[:, 16_000:] = 0.5
    lengths = torch.tensor([24_000])
    for causal, same in ((True, 60 - 1), (False, 60 - 1 - make().context)):
        model = make(causal=causal).eval()
        (first,), _ = model.faces(audio, lengths)
        (second,), _ = model.faces(later, lengths)
        assert first[:same].equal(second[:same])
        assert not torch.allclose(first[60:70], second[60:70])
        assert first[:59].equal(second[:59]) == causal


def test_long_sound_is_heard_in_parts_without_seams() -> None:
    for fps in (60, 30, 25):
        model = make(fps=fps).eval()
        audio = torch.randn(int(47.3 * 16_000)) * 0.1
        parts = list(model.listen(audio))
        assert len(parts) == 3
        (whole,), _ = model.faces(audio[None], torch.tensor([len(audio)]))
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_loudness_is_changed_in_training_only_and_by_the_global_generator() -> None:
    model, batch = make(dropout=0.0), batch_of(0.5, 0.5)
    model.train()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(model(batch)["loss"]))
    assert losses[0] == losses[1] != losses[2]
    model.eval()
    assert float(model(batch)["loss"]) == float(model(batch)["loss"])


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"kernel": 4}, r"kernel \(4\) has to be odd"),
        ({"heads": 5}, r"width \(24\) has to be a multiple of heads \(5\)"),
        ({"fps": None}, r"The data set has no fps; set models\.koemorph\.fps"),
        ({"blendshapes": None}, r"The data set has no names; set models\.koemorph\.blendshapes"),
        ({"blendshapes": []}, r"needs fps and the names"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make(**wrong)
    with pytest.raises(ValidationError):
        Config.model_validate({"fps": 5})


def test_an_exported_model_takes_any_batch_and_time(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make().eval()

    class Exported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, audio: Tensor) -> Tensor:
            return self.model.export_forward(audio)

    shapes = {
        "audio": {0: torch.export.Dim("batch"), 1: torch.export.Dim("time", min=800, max=10**7)}
    }
    inputs, path = model.export_inputs(), tmp_path / "koemorph.onnx"
    program = torch.export.export(Exported().eval(), inputs, dynamic_shapes=shapes)
    names = {"input_names": ["audio"], "output_names": ["blendshapes"]}
    torch.onnx.export(program, inputs, path, dynamo=True, verbose=False, **names)
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_inputs()] == ["audio"]
    assert [one.name for one in session.get_outputs()] == ["blendshapes"]
    for count, samples in ((1, 16_000), (3, 961), (2, 37_123)):
        audio = torch.randn(count, samples) * 0.1
        (found,) = session.run(None, {"audio": audio.numpy()})
        expected, _ = model.faces(audio, torch.full((count,), samples))
        assert found.shape == (count, -(-samples * 60 // 16_000), 52)
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4, rtol=0)


# trained, as people do it

WORDS = ["model.width=24", "model.layers=2", "num_epochs=2", "batch_size=4"]


@pytest.fixture
def speaking(workspace: Workspace) -> Workspace:
    faces.corpus(workspace.root / "data" / "face")
    return workspace


def new_run(workspace: Workspace, store: Store, *words: str) -> RunDir:
    path = f"dataset.path={workspace.root / 'data' / 'face'}"
    overrides = parse_overrides([*WORDS, path, *words], "koemorph", "arkit")
    plan = plan_training(workspace, store, "koemorph", "arkit", overrides, fresh=True)
    return launch.prepare(workspace, store, plan).run


def test_a_training_that_was_stopped_ends_at_the_same_bits(
    speaking: Workspace, store: Store
) -> None:
    crops = "dataset.crop_seconds=0.5"  # so that something is drawn at random
    calm = new_run(speaking, store, crops)
    assert attempts.attempt(speaking, calm) == 0, attempts.said(calm)
    names = {path.name for path in calm.checkpoints.iterdir() if not path.name.endswith(".json")}
    assert names == {
        *("checkpoint_epoch_001.pth", "checkpoint_epoch_002.pth"),
        *("last_model.pth", "best_model.pth"),
    }
    torn = new_run(speaking, store, crops)
    for looks in (3, 5):
        assert attempts.attempt(speaking, torn, looks) == 143, attempts.said(torn)
    stopped = {path.name for path in torn.checkpoints.glob("*_step_*.pth")}
    assert stopped
    assert all(name.startswith("checkpoint_epoch_00") for name in stopped)
    assert attempts.attempt(speaking, torn) == 0, attempts.said(torn)
    assert attempts.difference(store, calm, torn) is None
    keys = set(store.keys(calm.run_id))
    assert {"mae", "mse", "correlation", "correlation/jawOpen", "temporal_loss"} <= keys
    assert not {"correlation/tongueOut", "correlation/mouthSmileLeft"} & keys


def test_it_learns_what_sound_says_of_the_face_and_moves_smoothly(
    speaking: Workspace, store: Store, tmp_path: Path
) -> None:
    run = new_run(speaking, store, "num_epochs=30", "learning_rate=0.01", "warmup_steps=5")
    assert attempts.attempt(speaking, run) == 0, attempts.said(run)
    checkpoint = checkpoint_files.read((run.checkpoints / "best_model.pth").resolve())
    trained = open_trained(speaking, run, checkpoint)
    measured = evaluate(trained)
    assert measured["correlation"] > 0.8
    assert measured["correlation"] == measured["correlation/jawOpen"]
    assert checkpoint.info["metrics"]["correlation"] == measured["correlation"]
    # a file at another rate, in stereo
    sound = faces.sound(1.5, 48_000, seed=3)
    soundfile.write(tmp_path / "a.wav", np.stack([sound, sound], axis=1), 48_000)
    outputs = predict(trained, str(tmp_path / "a.wav")).outputs
    assert list(outputs) == ["blendshapes"]
    made = outputs["blendshapes"]
    assert (made["names"], made["fps"]) == (list(NAMES), 60)
    curves = made["value"].numpy()
    assert curves.shape == (52, 90)
    wanted = faces.rows(1.5, seed=3)[:, faces.JAW]
    assert np.corrcoef(curves[faces.JAW], wanted)[0, 1] > 0.8
    # no jumps: from frame to frame at most a few times as far as the face itself moves
    assert np.abs(np.diff(curves)).max() < 4 * np.abs(np.diff(wanted)).max()
    with_item = predict(trained, "0").outputs
    assert list(with_item) == ["blendshapes", "reference"]
    assert with_item["reference"]["value"].shape == with_item["blendshapes"]["value"].shape


def test_its_checkpoints_have_the_names_of_the_contract() -> None:
    names = TRAINING["checkpoint"]
    assert names == {
        "filename": "checkpoint_epoch_{epoch:03d}.pth",
        "filename_step": "checkpoint_epoch_{epoch:03d}_step_{global_step}.pth",
        "latest": "last_model.pth",
        "best": "best_model.pth",
    }
