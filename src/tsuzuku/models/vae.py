"""A variational auto-encoder (Kingma & Welling 2013, arXiv:1312.6114) for 28 x 28 grey images.

A model plug-in in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `models/` folder works just as well.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

MODEL = "VAE"

TRAINING = {
    "optimizer": "Adam",
    "learning_rate": 2e-3,
    "weight_decay": 0.0,
    "batch_size": 128,
    "num_epochs": 10,
}
"""Training settings that suit this model; `config.yaml` and the command line go before them."""

LIGHTWEIGHT = {"hidden_sizes": [32], "latent_dim": 4}
"""Settings of the model for a quick trial."""

EXPORT_OUTPUTS = ["reconstruction"]
"""What an exported model calls its outputs."""

SIDE = 28
"""Height and width of an image, in pixels."""

PIXELS = SIDE * SIDE

GRID = 8
"""Rows and columns of the picture of samples from the prior."""

MAX_LOG_VARIANCE = 10.0
"""Bound of |log σ²|: keeps exp() finite when the first steps of a training are wild."""


class Config(BaseModel):
    """Settings of the model."""

    model_config = ConfigDict(extra="forbid")

    hidden_sizes: list[Annotated[int, Field(gt=0)]] = [400]
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    latent_dim: int = Field(default=24, gt=0)
    """Number of latent variables."""
    output_std: float = Field(default=0.15, gt=0)
    """σ of the Gaussian decoder, in the images' unit (0..1): the error that it deems normal.
    Smaller: sharper reconstructions; larger: a smoother latent space."""


class VAE(nn.Module):
    """Encoder q(z|x) = N(μ(x), σ²(x)), decoder p(x|z) = N(x̂(z), output_std²), prior N(0, I)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = [PIXELS, *config.hidden_sizes]
        self.latent_dim = config.latent_dim
        self.encoder = _layers(sizes)
        self.to_mean = nn.Linear(sizes[-1], config.latent_dim)
        self.to_log_variance = nn.Linear(sizes[-1], config.latent_dim)
        self.decoder = nn.Sequential(
            *_layers([config.latent_dim, *reversed(config.hidden_sizes)]),
            nn.Linear(sizes[1] if config.hidden_sizes else config.latent_dim, PIXELS),
        )
        self.kl_weight = 2 * config.output_std**2 / PIXELS

    @classmethod
    def from_config(cls, config: Config, dataset: object) -> Self:
        """The model for `config`. `dataset` is not asked: all of this family are 28 x 28."""
        del dataset
        return cls(config)

    def forward(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """The losses of a batch `(images [B, 28, 28] in 0..1, labels [B])`; labels play no part.

        Returns the scalars of `forward_loss`. Draws from torch's global generator.
        """
        return self.forward_loss(batch[0])

    def forward_loss(self, images: Tensor, *, sample: bool = True) -> dict[str, Tensor]:
        """`loss = recon_loss + kl_loss`, scalars, for `images` [B, 28, 28] in 0..1.

        recon_loss = mean over batch and pixels of (x - x̂)²
        kl_loss    = (2 s² / 784) · mean over batch of KL,  s = `output_std`
        KL         = -½ Σ_j (1 + log σ_j² - μ_j² - σ_j²)     over the latent variables j, in nats

        The sign is that of KL(q(z|x) || N(0, I)), which is never negative and is to become small.
        Kingma & Welling's eq. 10 has +½ Σ, being the term -KL of a bound that is *maximised*; in
        a loss that is minimised that sign would reward posteriors for leaving the prior.

        The factor makes the sum the negative ELBO: with a Gaussian decoder of deviation s it is
        Σ_pixels (x - x̂)² / 2s² + KL + const, and this is divided by 784 / 2s² to make the first
        term the mean squared error. Adding the unscaled KL (some 30 nats) to a *mean* of squares
        (0.01) would leave nothing but the KL to learn: every image would be decoded to the mean
        one.

        With `sample` False, z is the posterior's mean instead of a draw: the loss is then
        deterministic, and a little lower. Raises ValueError if the images are not 28 x 28.
        """
        mean, log_variance = self.encode(images)
        z = mean
        if sample:
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        # In float32 whatever the autocast: a mean over 100,000 squares is beyond half precision.
        recon_loss = F.mse_loss(self.decode(z).float(), images.float())
        mean, log_variance = mean.float(), log_variance.float()
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)
        kl_loss = self.kl_weight * kl.mean()
        return {"loss": recon_loss + kl_loss, "recon_loss": recon_loss, "kl_loss": kl_loss}

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ² of the posterior, each [B, latent_dim], of `images` [B, 28, 28]."""
        if images.shape[-2:] != (SIDE, SIDE):
            raise ValueError(f"The VAE takes images of [B, 28, 28], not {list(images.shape)}.")
        hidden = self.encoder(images.reshape(-1, PIXELS))
        log_variance = self.to_log_variance(hidden)
        return self.to_mean(hidden), log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's mean images [B, 28, 28] in 0..1 of latent variables `z` [B, latent_dim]."""
        return torch.sigmoid(self.decoder(z)).reshape(-1, SIDE, SIDE)

    def validate(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """The losses of a batch at the posterior's mean, without noise.

        So the same weights always get the same value, and which checkpoint is the best does not
        depend on luck. It is a little below the ELBO's loss, which `forward` estimates.
        """
        with torch.no_grad():
            return self.forward_loss(batch[0], sample=False)

    def export_forward(self, images: Tensor) -> Tensor:
        """What an exported model computes: the reconstructions [B, 28, 28] of `images`."""
        return self.decode(self.encode(images)[0])

    def export_inputs(self) -> tuple[Tensor]:
        """Example arguments of `export_forward`: images [2, 28, 28]; the first axis may vary."""
        return (torch.zeros(2, SIDE, SIDE),)

    def inference(self, sample: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Typed outputs for one picture, the same at every call.

        `sample` has `item`, an item of the data set (an image [28, 28] in 0..1, first of a
        tuple), or `image`, any uint8 picture [H, W] or [H, W, 1 to 4 channels], see
        `prepare_picture`. Returns, each as `{"type", "value"}`: `input` and `reconstruction`,
        uint8 [28, 28]; `samples`, uint8 [224, 224], 8 x 8 images decoded from draws of the
        prior; `recon_error`, the mean squared error as a text. Raises ValueError.
        """
        device = self.to_mean.weight.device
        if "item" in sample:
            picture: Tensor = sample["item"][0]
        elif "image" in sample:
            picture = prepare_picture(sample["image"])
        else:
            raise ValueError("The VAE needs a picture: the sample has neither image nor item.")
        image = picture.to(device=device, dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(GRID * GRID, self.latent_dim, generator=generator).to(device)
        with torch.no_grad():
            reconstruction = self.export_forward(image[None])[0]
            grid = self.decode(z).reshape(GRID, GRID, SIDE, SIDE).transpose(1, 2)
            error = F.mse_loss(reconstruction.float(), image).item()
        return {
            "input": {"type": "image", "value": _to_bytes(image)},
            "reconstruction": {"type": "image", "value": _to_bytes(reconstruction)},
            "samples": {"type": "image", "value": _to_bytes(grid.reshape(GRID * SIDE, -1))},
            "recon_error": {"type": "text", "value": f"{error:.5f}"},
        }


def prepare_picture(picture: NDArray[np.uint8]) -> Tensor:
    """Any picture as the data sets have them: float32 [28, 28] in 0..1, light on black.

    `picture`: uint8 [H, W] or [H, W, C] with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).
    Transparency becomes white paper. A picture whose corners are light (their median is above
    one half) is dark on light, like ink on paper, and is inverted. It is then padded with black
    to a square and resized with anti-aliasing. Raises ValueError for anything else.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or not picture.size:
        raise ValueError(
            f"A picture is uint8 [H, W] or [H, W, C], not {picture.dtype} {list(picture.shape)}."
        )
    channels = torch.tensor(picture).reshape(*picture.shape[:2], -1).float() / 255
    count = channels.shape[2]
    if count > 4:
        raise ValueError(f"A picture has 1 to 4 channels, not {count}.")
    if count < 3:
        grey = channels[..., 0]
    else:
        grey = channels[..., :3] @ torch.tensor([0.299, 0.587, 0.114])  # luma of ITU-R BT.601
    if count in (2, 4):
        alpha = channels[..., -1]
        grey = grey * alpha + (1 - alpha)
    corners = grey[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.median() > 0.5:
        grey = 1 - grey
    height, width = grey.shape
    wide, high = max(0, height - width), max(0, width - height)
    grey = F.pad(grey, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
    resized = F.interpolate(grey[None, None], (SIDE, SIDE), mode="bilinear", antialias=True)
    return resized[0, 0].clamp(0, 1)


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairs))


def _to_bytes(image: Tensor) -> NDArray[np.uint8]:
    return (image.float() * 255).round().to(torch.uint8).cpu().numpy()
