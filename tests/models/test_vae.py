"""The VAE: its loss, its gradients, that it learns, and what it makes of any picture."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tsuzuku.datasets.mnist import MNIST
from tsuzuku.datasets.mnist import Config as DataConfig
from tsuzuku.models.vae import VAE, Config, prepare_picture

FASHION = Path("/usr/share/datasets/fashion-mnist")
SMALL = Config(hidden_sizes=[32], latent_dim=4)


def make(config: Config = SMALL, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE.from_config(config, None)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 28, 28, generator=torch.Generator().manual_seed(1))


def test_loss_is_the_negative_elbo_per_pixel_up_to_scale_and_constant() -> None:
    model, x, std = make(), images(), 0.15
    losses = model.forward_loss(x, sample=False)
    mean, log_variance = model.encode(x)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    kl = torch.distributions.kl_divergence(posterior, prior).sum(1)
    decoded = torch.distributions.Normal(model.decode(mean), std)
    constant = 784 * (0.5 * math.log(2 * math.pi) + math.log(std))
    elbo = decoded.log_prob(x).sum((1, 2)) + constant - kl
    torch.testing.assert_close(losses["loss"], -elbo.mean() * 2 * std**2 / 784)
    torch.testing.assert_close(losses["kl_loss"], kl.mean() * 2 * std**2 / 784)
    torch.testing.assert_close(losses["recon_loss"], (model.decode(mean) - x).square().mean())
    torch.testing.assert_close(losses["loss"], losses["recon_loss"] + losses["kl_loss"])


def test_kl_is_zero_at_the_prior_and_positive_elsewhere() -> None:
    model = make()
    for layer in (model.to_mean, model.to_log_variance):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    assert model.forward_loss(images())["kl_loss"].item() == 0.0
    for layer in (model.to_mean, model.to_log_variance):
        for value in (-2.0, 0.5, 3.0):
            torch.nn.init.constant_(layer.bias, value)
            assert model.forward_loss(images())["kl_loss"].item() > 0
        torch.nn.init.zeros_(layer.bias)


def test_forward_takes_a_collated_batch_and_every_weight_gets_a_gradient() -> None:
    model = make()
    batch = torch.utils.data.default_collate([(image, 3) for image in images()])
    losses = model(batch)
    assert set(losses) == {"loss", "recon_loss", "kl_loss"}
    assert all(value.shape == () for value in losses.values())
    losses["loss"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_training_noise_follows_the_global_seed_and_validation_has_none() -> None:
    model, batch = make(), (images(), torch.zeros(6))
    torch.manual_seed(5)
    first, second = model(batch)["loss"].item(), model(batch)["loss"].item()
    torch.manual_seed(5)
    assert model(batch)["loss"].item() == first != second
    before = torch.get_rng_state()
    values = model.validate(batch)
    assert torch.equal(before, torch.get_rng_state())
    assert {k: v.item() for k, v in values.items()} == {
        k: v.item() for k, v in model.validate(batch).items()
    }
    assert not values["loss"].requires_grad


def test_loss_stays_finite_with_wild_weights_and_in_half_precision() -> None:
    model = make()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1000)
    losses = model((images(), torch.zeros(6)))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = make()((images(), torch.zeros(6)))
    assert half["loss"].dtype == torch.float32
    assert half["loss"].isfinite()


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, 28, 28\], not \[2, 32, 32\]"):
        make()((torch.zeros(2, 32, 32), torch.zeros(2)))
    for wrong in ({"latent": 3}, {"latent_dim": 0}, {"hidden_sizes": [0]}, {"output_std": 0}):
        with pytest.raises(ValidationError):
            Config.model_validate(wrong)
    assert make(Config(hidden_sizes=[], latent_dim=2)).decode(torch.zeros(3, 2)).shape == (
        3,
        28,
        28,
    )


@pytest.fixture(scope="module")
def fashion() -> MNIST:
    if not FASHION.is_dir():
        message = f"REAL DATA MISSING: {FASHION} (Debian's package dataset-fashion-mnist)"
        assert os.environ.get("CI") != "true", message
        pytest.skip(message)
    return MNIST(DataConfig(path=str(FASHION)), "train")


@pytest.fixture(scope="module")
def trained(fashion: MNIST) -> VAE:
    """A fifth of an epoch of Fashion-MNIST: 100 steps of 128 images."""
    model = make(Config())
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train = fashion.images[:12_800].float() / 255
    for batch in train.split(128):
        optimizer.zero_grad()
        model((batch, torch.zeros(128)))["loss"].backward()
        optimizer.step()
    return model


def test_learns_far_more_than_the_mean_image(trained: VAE, fashion: MNIST) -> None:
    held_out = fashion.images[50_000:51_000].float() / 255
    mean_image = fashion.images[:12_800].float().mean(0) / 255
    baseline = (held_out - mean_image).square().mean().item()
    values = trained.validate((held_out, torch.zeros(1000)))
    assert values["recon_loss"].item() < baseline / 2
    assert values["loss"].item() < baseline / 2
    nats = values["kl_loss"].item() / trained.kl_weight
    assert nats > 5  # the latent variables carry something: no collapse to the prior
    shuffled = trained.export_forward(held_out.roll(1, 0))
    assert (shuffled - held_out).square().mean().item() > 1.5 * values["recon_loss"].item()


def test_inference_gives_typed_outputs_the_same_each_time(trained: VAE, fashion: MNIST) -> None:
    outputs = trained.inference({"item": fashion[7]})
    assert {k: v["type"] for k, v in outputs.items()} == {
        "input": "image",
        "reconstruction": "image",
        "samples": "image",
        "recon_error": "text",
    }
    picture = fashion.images[7].numpy()
    np.testing.assert_array_equal(outputs["input"]["value"], picture)
    assert outputs["reconstruction"]["value"].shape == (28, 28)
    assert outputs["samples"]["value"].shape == (224, 224)
    assert all(outputs[k]["value"].dtype == np.uint8 for k in ("reconstruction", "samples"))
    error = ((outputs["reconstruction"]["value"] / 255.0 - picture / 255.0) ** 2).mean()
    assert float(outputs["recon_error"]["value"]) == pytest.approx(error, abs=1e-3)
    torch.rand(3)  # the global generator plays no part
    again = trained.inference({"path": "x.png", "image": picture})
    for key in outputs:
        np.testing.assert_array_equal(outputs[key]["value"], again[key]["value"])
    tiles = outputs["samples"]["value"].reshape(8, 28, 8, 28).transpose(0, 2, 1, 3)
    assert len({tile.tobytes() for tile in tiles.reshape(64, -1)}) == 64


def test_inference_without_a_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="neither image nor item"):
        make().inference({"path": "x.wav"})


def test_data_set_pictures_pass_through_unchanged(fashion: MNIST) -> None:
    for index in range(0, 2000):
        picture = fashion.images[index].numpy()
        torch.testing.assert_close(prepare_picture(picture), fashion[index][0])


def test_any_picture_becomes_light_on_black() -> None:
    ink = np.full((60, 40), 250, np.uint8)
    ink[20:40, 18:22] = 10  # a dark stroke on white paper
    expected = prepare_picture(ink)
    assert expected.shape == (28, 28)
    assert expected[0].max() < 0.1
    assert expected[13:15, 13:15].mean() > 0.8
    assert expected[:, 0].max() == 0  # padded to a square, not stretched
    versions = {
        "grey with an axis": ink[..., None],
        "RGB": np.stack([ink] * 3, 2),
        "RGBA": np.dstack([ink, ink, ink, np.full_like(ink, 255)]),
        "negative": 255 - ink,
        "strided": np.repeat(ink, 2, axis=1)[:, ::2],
    }
    for name, picture in versions.items():
        torch.testing.assert_close(prepare_picture(picture), expected, msg=name, atol=1e-5, rtol=0)
    drawn = np.zeros((60, 40, 4), np.uint8)  # black on transparent, as a drawing program saves it
    drawn[20:40, 18:22, 3] = 255
    torch.testing.assert_close(prepare_picture(drawn), expected, atol=0.08, rtol=0)
    for shape in ((1, 1), (3, 500), (1000, 7, 3)):
        assert prepare_picture(np.full(shape, 90, np.uint8)).shape == (28, 28)


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (np.zeros((28, 28), np.float32), "not float32 "),
        (np.zeros((0, 5), np.uint8), r"not uint8 \[0, 5\]"),
        (np.zeros(784, np.uint8), r"\[784\]"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels, not 5"),
    ],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        prepare_picture(picture)


def test_export_inputs_trace_with_any_batch_size() -> None:
    model = make()
    (example,) = model.export_inputs()

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model.export_forward(x)

    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(Exported(), (example,), dynamic_shapes=({0: batch},))
    for count in (1, 2, 7):
        x = images(count)
        torch.testing.assert_close(program.module()(x), model.export_forward(x))
