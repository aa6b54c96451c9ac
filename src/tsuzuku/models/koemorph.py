"""KoeMorph: a face from the sound of a voice, as ARKit's blendshapes.

Sound goes in at 16 kHz. Of a log-mel spectrogram with as many frames as the face has (60 a second),
residual convolutions make what is heard around each frame; there each blendshape has learned
queries, which look for what matters to it within a tenth of a second and mix what they find.

A model plug-in in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `models/` folder works just as well.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

MODEL = "KoeMorph"

TRAINING = {
    "optimizer": "AdamW",
    "learning_rate": 3e-3,
    "betas": [0.9, 0.98],
    "weight_decay": 0.01,
    "scheduler": "cosine",
    "warmup_steps": 50,
    "grad_clip_thresh": 1.0,
    "batch_size": 16,
    "num_epochs": 20,
    "checkpoint": {
        "filename": "checkpoint_epoch_{epoch:03d}.pth",
        "filename_step": "checkpoint_epoch_{epoch:03d}_step_{global_step}.pth",
        "latest": "last_model.pth",
        "best": "best_model.pth",
    },
}
"""Training settings that suit this model; `config.yaml` and the command line go before them."""

EXPORT_OUTPUTS = ["blendshapes"]
"""What an exported model's output is called."""

LIGHTWEIGHT = {"width": 48, "layers": 3}
"""Settings of the model for a quick trial."""

RATE = 16_000
"""Samples a second that the model hears."""
WINDOW, FFT, MELS = 400, 512, 80
"""Of the spectrogram: samples in a frame, bins of the transform, bands."""
PART = 20
"""Seconds of longer sound that are heard at once."""
CENTRE, SCALE = -4.0, 4.0
"""About the mean and the standard deviation of log-mel bands of speech."""
BOUND = 8.0
"""Scores of attention stay within this of 0."""
STILL = 0.005
"""Standard deviation up to which a blendshape does not move: no correlation can be told of it."""


class Config(BaseModel):
    """Settings of the model."""

    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=96, gt=0)
    """Of what is heard at each frame."""
    layers: int = Field(default=5, ge=1, le=8)
    """Residual convolutions; each looks twice as far as the one before, up to 16 frames a step."""
    kernel: int = Field(default=3, ge=1)
    """Frames that each of them combines, an odd number."""
    heads: int = Field(default=2, gt=0)
    """Queries of each blendshape."""
    reach: int = Field(default=6, ge=0)
    """Frames to each side in which a query looks."""
    causal: bool = False
    """Hears nothing that comes later than half a frame of the spectrogram: for use while somebody
    speaks."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of what is heard that is dropped in training."""
    gain_db: float = Field(default=6.0, ge=0)
    """Decibels by which training sounds are made louder or quieter, at most, at random."""
    l1: float = Field(default=0.1, ge=0)
    """Weight of the absolute error in the loss, beside the squared one. More of it makes the error
    smaller in the end, and learns later what moves but now and then."""
    temporal: float = Field(default=10.0, ge=0)
    """Weight of the squared error of the differences from frame to frame."""
    fps: int | None = Field(default=None, ge=10, le=120)
    """Frames a second; null for what the data set has."""
    blendshapes: list[str] | None = None
    """Names of the curves; null for what the data set has, ARKit's 52."""


class KoeMorph(nn.Module):
    """Batches are `{"audio": float32 [B, N], "audio_lengths": int64 [B], "blendshapes": float32
    [B, T, C], "frame_lengths": int64 [B]}`: sound at 16 kHz in -1..1, and T = ceil(N · fps /
    16,000) frames of C blendshapes in 0..1; frame i is at i / fps seconds.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.fps is None or not config.blendshapes:
            raise ValueError("KoeMorph needs fps and the names of the blendshapes.")
        if not config.kernel % 2:
            raise ValueError(f"kernel ({config.kernel}) has to be odd.")
        if config.width % config.heads:
            raise ValueError(
                f"width ({config.width}) has to be a multiple of heads ({config.heads})."
            )
        self.config, self.fps, self.names = config, config.fps, config.blendshapes
        shared = math.gcd(RATE, self.fps)
        self.step, self.frames = RATE // shared, self.fps // shared
        """Samples, and frames, until frames begin at a whole sample once again."""
        edge = (FFT - WINDOW) // 2
        window = F.pad(torch.hann_window(WINDOW), (edge, edge))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)
        width, heads, count = config.width, config.heads, len(self.names)
        self.hear = nn.Linear(MELS, width)
        dilations = [min(2**number, 16) for number in range(config.layers)]
        self.blocks = nn.ModuleList(Block(config, dilation) for dilation in dilations)
        self.norm = nn.LayerNorm(width)
        self.to_keys = nn.Linear(width, width)
        self.queries = nn.Parameter(torch.randn(heads, width // heads, count) / math.sqrt(width))
        self.to_values = nn.Linear(width, heads * count)
        seen = config.reach + (0 if config.causal else config.reach) + 1
        self.places = nn.Parameter(torch.zeros(seen, heads * count))
        self.level = nn.Parameter(torch.full((count,), -2.0))
        self.context: int = config.reach + sum(
            (config.kernel - 1) * dilation for dilation in dilations
        )
        """Frames to each side that can make a difference."""

    @classmethod
    def from_config(cls, config: Config, dataset: Any) -> Self:
        """The model for `config`; names and rate of the curves are the data set's unless `config`
        has them. `self.config` has them always. Raises ValueError."""
        known: dict[str, Any] = {}
        for key, source in (("fps", "fps"), ("blendshapes", "names")):
            if getattr(config, key) is None:
                found = getattr(dataset, source, None)
                if found is None:
                    raise ValueError(f"The data set has no {source}; set models.koemorph.{key}.")
                known[key] = list(found) if key == "blendshapes" else int(found)
        return cls(config.model_copy(update=known))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`loss` = squared error + `l1` · absolute error + `temporal` · squared error of the
        differences from frame to frame, each a mean over all frames and blendshapes."""
        found, mask = self.faces(batch["audio"], batch["audio_lengths"])
        return self._losses(found, batch["blendshapes"], mask)

    def validate(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The losses, `mae` and `mse` as pairs (sum, of how many), and the sums that `summarize`
        makes correlations of."""
        found, mask = self.faces(batch["audio"], batch["audio_lengths"])
        wanted: Tensor = batch["blendshapes"]
        count = float(mask.sum()) * wanted.shape[2]
        off = (found - wanted) * mask[..., None]
        pairs = {"mae": (off.abs().sum(), count), "mse": (off.square().sum(), count)}
        p, t = found[mask].double(), wanted[mask].double()
        moments = [torch.ones_like(p), p, t, p * p, t * t, p * t]
        sums = torch.stack([moment.sum(0) for moment in moments])
        return self._losses(found, wanted, mask) | pairs | {"moments": sums}

    def summarize(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Pearson's correlation over all frames of a validation: `correlation/<name>` of each
        blendshape that moves in the recordings, and `correlation`, their mean.

        `sums["moments"]` [6, C]: of ones, p, t, p², t² and p·t. Those that do not move (standard
        deviation up to 0.005) do not count; a prediction that does not move counts as 0.
        """
        count, p, t, pp, tt, pt = sums["moments"].double().cpu()
        both = pt / count - p * t / count**2
        own, theirs = (pp / count - (p / count) ** 2).clamp_min(0), tt / count - (t / count) ** 2
        moving = theirs > STILL**2
        r = torch.where(own > 1e-12, both / (own * theirs).clamp_min(1e-24).sqrt(), 0.0)
        names = [name for name, moves in zip(self.names, numbers(moving), strict=True) if moves]
        each = dict(zip(names, numbers(r[moving]), strict=True))
        mean = sum(each.values()) / len(each) if each else math.nan
        return {"correlation": mean} | {f"correlation/{k}": v for k, v in each.items()}

    def _losses(self, found: Tensor, wanted: Tensor, mask: Tensor) -> dict[str, Tensor]:
        off = (found.float() - wanted.float()) * mask[..., None]
        count = mask.sum() * off.shape[2]
        mse, l1 = off.square().sum() / count, off.abs().sum() / count
        pairs = (mask[:, 1:] & mask[:, :-1])[..., None]
        moved = (off[:, 1:] - off[:, :-1]) * pairs
        temporal = moved.square().sum() / count
        loss = mse + self.config.l1 * l1 + self.config.temporal * temporal
        return {"loss": loss, "mse_loss": mse, "l1_loss": l1, "temporal_loss": temporal}

    def faces(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Blendshapes [B, T, C] in 0..1, and which frames count [B, T], of `audio` [B, N] with
        `lengths` [B] in samples. What is beyond a sound's length makes no difference to it."""
        features = self.features(audio, by_matrix=False)
        frames = (lengths * self.frames + self.step - 1) // self.step
        mask = torch.arange(features.shape[1], device=audio.device) < frames[:, None]
        if self.training and self.config.gain_db:
            # decibels of power, in the logarithm's unit
            most = self.config.gain_db * math.log(10) / 10
            gain = (2 * torch.rand(len(audio), 1, 1, device=audio.device) - 1) * most
            features = features + gain / SCALE
        return self.decode(features, mask[..., None]), mask

    def features(self, audio: Tensor, *, by_matrix: bool) -> Tensor:
        """Log-mel frames [B, T, 80] of `audio` [B, N], the one of frame i around i / fps seconds.

        Frames do not begin at whole samples: there are `self.frames` of them every `self.step`
        samples, so that many spectrograms with that step are made and interleaved. `by_matrix`
        takes a product with the Fourier matrix for the fast transform, which not every program
        that runs exported models has.
        """
        total = audio.shape[1]
        shifts = [round(number * self.step / self.frames) for number in range(self.frames)]
        count = (total * self.frames + self.step - 1) // self.step
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            # as long as the last window of the last shift needs, and a step more: sizes that may
            # be 1 are treated apart by what exports models
            padded = F.pad(audio.float(), (FFT // 2, FFT // 2 - 1 + shifts[-1] + self.step))
            last = total + FFT - 1 + self.step
            rows = [self._power(padded[:, at : last + at], by_matrix) for at in shifts]
            # gathered: that a slice ends within its tensor could not be told from these sizes
            kept = torch.arange(count, device=audio.device)
            power = torch.stack(rows, dim=2).flatten(1, 2)[:, kept]
            return (torch.log(power @ self.filters + 1e-6) - CENTRE) / SCALE

    def _power(self, audio: Tensor, by_matrix: bool) -> Tensor:
        """[B, T, 257]"""
        if not by_matrix:
            spectrum = cast(Any, torch.fft).rfft(audio.unfold(-1, FFT, self.step) * self.window)
            return spectrum.real.square() + spectrum.imag.square()
        angles = torch.outer(torch.arange(FFT // 2 + 1), torch.arange(FFT)) % FFT
        turns = angles.double() * (2 * math.pi / FFT)
        matrix = torch.cat([turns.cos(), turns.sin()]).float().to(audio.device) * self.window
        parts = F.conv1d(audio[:, None], matrix[:, None], stride=self.step).transpose(1, 2)
        real, imaginary = parts.contiguous().chunk(2, dim=-1)
        return real.square() + imaginary.square()

    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """Blendshapes [B, T, C] in 0..1 of `features` [B, T, 80]; `mask` [B, T, 1] is 0 beyond a
        sound's end."""
        x = self.hear(features)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        heads = self.config.heads
        keys = self.to_keys(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = torch.matmul(keys, self.queries).transpose(1, 2).flatten(2)
        # A softmax over places j of scores[t + j] + places[j], without a copy of each frame for
        # each j: the exponentials are multiplied, and bounded, for there is no maximum to subtract.
        # Where there is no sound, there is nothing to look at.
        weights = torch.exp(BOUND * torch.tanh(scores.float() / BOUND)) * mask
        near = torch.exp(BOUND * torch.tanh(self.places / BOUND))
        over = self._around(weights * self.to_values(x), near)
        each = over / (self._around(weights, near) + 1e-9)
        mixed = torch.stack(each.chunk(heads, dim=-1)).sum(0)
        return torch.sigmoid(mixed + self.level)

    def _around(self, x: Tensor, near: Tensor) -> Tensor:
        """The sum over what is around each frame of `x` [B, T, D], times `near` [W, D]."""
        reach, time = self.config.reach, x.shape[1]
        padded = F.pad(x, (0, 0, reach, 0 if self.config.causal else reach))
        total: Tensor = padded[:, :time] * near[0]
        for place in range(1, len(near)):
            total = torch.addcmul(total, padded[:, place : place + time], near[place])
        return total

    def export_forward(self, audio: Tensor) -> Tensor:
        """What an exported model computes: blendshapes [B, T, C] in 0..1 of `audio` [B, N]."""
        features = self.features(audio, by_matrix=torch.compiler.is_exporting())
        return self.decode(features, torch.ones_like(features[..., :1]))

    def export_inputs(self) -> tuple[Tensor]:
        """Example arguments of `export_forward`: sound [2, N]; both axes may vary."""
        return (torch.zeros(2, RATE),)

    def inference(self, sample: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The face that speaks a file (`sample["path"]`) or an item of the data set.

        `blendshapes`, curves [C, T] with `names` and `fps`; for an item also `reference`, the
        curves that were recorded. Raises ValueError for what is no sound.
        """
        item = cast(Mapping[str, Any], sample.get("item") or {})
        if not item and "path" not in sample:
            raise ValueError("KoeMorph needs sound: the sample has neither path nor item.")
        audio = cast(Tensor, item["audio"]) if item else read_sound(sample["path"])
        found = torch.cat(list(self.listen(audio)))
        outputs = {"blendshapes": self._curves(found)}
        if "blendshapes" in item:
            outputs["reference"] = self._curves(item["blendshapes"])
        return outputs

    def listen(self, audio: Tensor) -> Iterator[Tensor]:
        """Blendshapes of `audio` [N], together [T, C] on the CPU, in parts. Each part hears all
        that makes a difference to it, so that its edges cannot be seen."""
        aside = -(-self.context // self.frames) + 1 + FFT // self.step
        size = PART * RATE // self.step
        for start in range(0, -(-len(audio) // self.step), size):
            first = max(0, start - aside)
            piece = audio[first * self.step : (start + size + aside) * self.step]
            piece = piece.to(self.level.device)[None]
            with torch.no_grad():
                found = self.export_forward(piece)
            yield found[0, (start - first) * self.frames :][: size * self.frames].float().cpu()

    def _curves(self, blendshapes: Tensor) -> dict[str, Any]:
        named = {"type": "curves", "value": blendshapes.T, "names": list(self.names)}
        return named | {"fps": self.fps}


class Block(nn.Module):
    """A residual convolution over time, [B, T, D] to [B, T, D]."""

    def __init__(self, config: Config, dilation: int) -> None:
        super().__init__()
        width = config.width
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Linear(config.kernel * width, width)
        self.out = nn.Linear(width, width)
        self.dilation = dilation
        self.seen = (config.kernel - 1) * dilation // (1 if config.causal else 2)
        self.padding = (0, 0, self.seen, 0 if config.causal else self.seen)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`mask` [B, T, 1]: beyond a sound is what is beyond a batch, nothing."""
        padded, time = F.pad(self.norm(x) * mask, self.padding), x.shape[1]
        # as one product: torch's own convolution wants time last, at two copies a layer
        taps = range(0, self.convolution.in_features // x.shape[2] * self.dilation, self.dilation)
        heard = torch.cat([padded[:, at : at + time] for at in taps], dim=-1)
        made = self.out(F.silu(self.convolution(heard)))
        return x + F.dropout(made, self.dropout, self.training)


def mel_filters() -> Tensor:
    """[257, 80]: triangles over the bins of a power spectrum, evenly spaced in mel (O'Shaughnessy
    1987) from 0 to 8000 Hz, each with its peak at 1."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, MELS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return torch.minimum(rising, falling).clamp_min(0).float()


def numbers(tensor: Tensor) -> list[Any]:
    """The values of `tensor` in nested lists; torch says nothing of their type."""
    return cast(Any, tensor).tolist()


def read_sound(path: str) -> Tensor:
    """A sound file (WAV, FLAC, OGG, MP3, …) as float32 [N] in -1..1: its channels' mean at 16 kHz.

    Raises ValueError with one sentence that names the file.
    """
    parts: list[NDArray[np.float32]] = []
    try:
        with soundfile.SoundFile(path) as file:
            resampler = soxr.ResampleStream(file.samplerate, RATE, 1, dtype="float32")
            while len(block := file.read(1 << 20, dtype="float32", always_2d=True)):
                parts.append(resampler.resample_chunk(block.mean(1)))
            parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a sound file that can be read: {error}") from None
    sound = np.nan_to_num(np.concatenate(parts))
    if not len(sound):
        raise ValueError(f"{path} has no sound in it.")
    return torch.as_tensor(sound)
