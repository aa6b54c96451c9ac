"""Conformer (Gulati et al. 2020, arXiv:2005.08100) with a CTC head (Graves et al. 2006).

A speech recognizer in one plain file: it imports nothing of tsuzuku, and a copy of it in a
workspace's `models/` folder works just as well. Sound goes in at 16 kHz; a log-mel spectrogram of
100 frames a second is cut to 25, and each of these gets a distribution over the vocabulary.

It departs from the paper where two CPU cores gain by it: rotary positions (Su et al. 2021,
arXiv:2104.09864) let attention run in torch's fused kernel; the convolutions that subsample go
over time with mel bands as channels, at a fiftieth of the paper's arithmetic; and the convolution
module has a LayerNorm, which, unlike a BatchNorm, does not see what else is in a batch.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import jiwer
import numpy as np
import soundfile
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

MODEL = "Conformer"

TRAINING = {
    "optimizer": "AdamW",
    "learning_rate": 3e-3,
    "betas": [0.9, 0.98],
    "weight_decay": 0.01,
    "scheduler": "cosine",
    "warmup_steps": 100,
    "grad_clip_thresh": 1.0,
    "batch_size": 16,
    "num_epochs": 18,
    "num_workers": 1,
}
"""Training settings that suit `tiny`; `config.yaml` and the command line go before them.

One loader process: sound that is decoded and resampled between the steps takes 3 % (from a cache)
to 13 % (with a cold one) of an epoch's time, and about 1 % where a process does it meanwhile.
"""

LIGHTWEIGHT = {"size": "tiny", "layers": 2, "width": 96}
"""Settings of the model for a quick trial."""

EXPORT_OUTPUTS = ["log_probs", "counts"]
"""What an exported model calls its outputs."""

RATE = 16_000
"""Samples a second that the model hears."""
HOP, WINDOW, FFT, MELS = 160, 400, 512, 80
"""Of the spectrogram: samples from frame to frame, and in one; bins of the transform; bands."""
STRIDE = 4 * HOP
"""Samples from one output of the encoder to the next: 40 ms."""
PART, OVERLAP = 600 * STRIDE, 100 * STRIDE
"""Longer sound is heard in parts of 24 s that overlap by 4 s."""
PARTS = 4
"""Parts that are heard together."""
CANDIDATES = 12
"""Continuations that a beam search tries for each prefix at each step."""
SURE = math.log(0.9999)
"""A blank that is so likely is all that a beam search looks at."""


class Shape(NamedTuple):
    """What a size stands for."""

    width: int
    layers: int
    heads: int
    kernel: int
    expansion: int


SIZES = {
    "tiny": Shape(144, 4, 4, 15, 4),
    "S": Shape(144, 16, 4, 31, 4),
    "M": Shape(256, 16, 4, 31, 4),
    "L": Shape(512, 17, 8, 31, 4),
}
"""The paper's S, M and L (its kernel of 32 has no middle), and one for two CPU cores."""


class Config(BaseModel):
    """Settings of the model."""

    model_config = ConfigDict(extra="forbid")

    size: Literal["tiny", "S", "M", "L"] = "tiny"
    """With 80 characters: 2, 8, 25 or 104 million parameters."""
    width: int | None = Field(default=None, gt=0)
    """Of the encoder; null for what the size says."""
    layers: int | None = Field(default=None, gt=0)
    """Blocks of the encoder; null for what the size says."""
    heads: int | None = Field(default=None, gt=0)
    """Of attention; null for what the size says."""
    kernel: int | None = Field(default=None, gt=0)
    """Frames of 40 ms that the convolution module sees, an odd number; null for the size's."""
    expansion: int | None = Field(default=None, gt=0)
    """How many times wider than the encoder its feed-forward is; null for what the size says."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of each module's output that is dropped in training, in steps of 1/256."""
    intermediate: float = Field(default=0.0, ge=0, lt=1)
    """Weight of a second CTC loss in the middle (Lee and Watanabe 2021, arXiv:2102.03216)."""
    frequency_masks: int = Field(default=2, ge=0)
    """Stripes of mel bands that are hidden in training (SpecAugment, arXiv:1904.08779)."""
    frequency_mask_width: int = Field(default=20, ge=0, le=MELS)
    """The most of the 80 mel bands that one of them hides."""
    time_masks: int = Field(default=5, ge=0)
    """Stretches of time that are hidden in training."""
    time_mask_share: float = Field(default=0.05, ge=0, le=1)
    """The largest share of the sound that one of them hides."""
    vocabulary: list[str] | None = None
    """What an output stands for, "" (blank) first; null for what the data set has."""
    beam: int = Field(default=1, ge=1)
    """Prefixes that decoding keeps; 1 takes the likeliest symbol at each step."""
    word_list: list[str] | Annotated[str, Field(min_length=1)] | None = None
    """The only words there are, or a file with one a line; decoding keeps 16 prefixes then,
    unless `beam` says more."""


class Conformer(nn.Module):
    """Batches are `{"audio": float32 [B, N], "audio_lengths": int64 [B], "tokens": int64 [B, L],
    "token_lengths": int64 [B], "text": list of B}`: sound at 16 kHz in -1..1 with its number of
    samples, and what is said, as indices of the vocabulary and as a text.
    """

    window: Tensor
    filters: Tensor
    frequencies: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        vocabulary = config.vocabulary
        if not vocabulary or vocabulary[0] != "":
            raise ValueError("The vocabulary has to begin with '' (the blank of CTC).")
        own = {key: getattr(config, key) for key in Shape._fields}
        shape = SIZES[config.size]._replace(**{k: v for k, v in own.items() if v is not None})
        width = shape.width
        if width % (2 * shape.heads):
            raise ValueError(f"width ({width}) has to be a multiple of 2 x heads ({shape.heads}).")
        if not shape.kernel % 2:
            raise ValueError(f"kernel ({shape.kernel}) has to be odd.")
        self.config = config
        self.vocabulary = vocabulary
        self.words = None if config.word_list is None else Words(config.word_list)
        edge = (FFT - WINDOW) // 2
        window = F.pad(torch.hann_window(WINDOW), (edge, edge))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.subsample = nn.ModuleList(
            nn.Conv1d(channels, width, 3, stride=2, padding=1) for channels in (MELS, width)
        )
        self.blocks = nn.ModuleList(Block(shape, config.dropout) for _ in range(shape.layers))
        self.head = nn.Linear(width, len(vocabulary))
        frequencies = 10_000 ** (-torch.arange(0, 1, 2 * shape.heads / width))
        self.register_buffer("frequencies", frequencies, persistent=False)

    @classmethod
    def from_config(cls, config: Config, dataset: Any) -> Self:
        """The model for `config`, with the data set's vocabulary unless `config` has one.

        `self.config` is `config` with all that a checkpoint needs: the vocabulary, and the words
        of a list that was given as a file. Raises ValueError, OSError.
        """
        known: dict[str, Any] = {}
        if config.vocabulary is None:
            known["vocabulary"] = getattr(dataset, "vocabulary", None)
            if known["vocabulary"] is None:
                raise ValueError("The data set has no vocabulary; set models.conformer.vocabulary.")
        if isinstance(config.word_list, str):
            known["word_list"] = read_words(config.word_list)
        return cls(config.model_copy(update=known))

    def adapt(self, state: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a model with another vocabulary: symbols that both have keep their rows of
        the head, the others begin as they are here."""
        theirs = cast(list[str] | None, config.get("vocabulary"))
        if not theirs or theirs == self.vocabulary:
            return state
        places = {symbol: row for row, symbol in enumerate(theirs)}
        pairs = [(n, places[s]) for n, s in enumerate(self.vocabulary) if s in places]
        rows, old = [n for n, _ in pairs], [o for _, o in pairs]
        for name, own in self.head.state_dict(prefix="head.").items():
            known: Any = state.get(name)
            if isinstance(known, Tensor) and known.shape == (len(theirs), *own.shape[1:]):
                adapted = own.clone()
                adapted[rows] = known[old].to(adapted)
                state[name] = adapted
        return state

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`{"loss": …}` of a batch: nats a symbol, infinite ones (too short a sound) left out."""
        features, frames = self.features(batch["audio"], batch["audio_lengths"])
        if self.training:
            features = self.augment(features, frames)
        logits, lengths, middle = self.encode(features, frames)
        loss = ctc(logits, lengths, batch)
        if middle is None:
            return {"loss": loss}
        weight = self.config.intermediate
        early = ctc(middle, lengths, batch)
        return {"loss": (1 - weight) * loss + weight * early, "ctc": loss, "intermediate": early}

    def validate(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The loss, and `wer` and `cer` of the likeliest symbols as pairs (errors, of how many)."""
        features, frames = self.features(batch["audio"], batch["audio_lengths"])
        logits, lengths, _ = self.encode(features, frames)
        pairs = zip(logits, numbers(lengths), strict=True)
        said: list[str] = [text_of(greedy(row[:n]), self.vocabulary) for row, n in pairs]
        meant = cast(list[str], batch["text"])
        by_word, by_character = (
            jiwer.process_words(meant, said),
            jiwer.process_characters(meant, said),
        )
        rates = {"wer": by_word, "cer": by_character}
        return {"loss": ctc(logits, lengths, batch)} | {k: _errors(v) for k, v in rates.items()}

    def features(
        self, audio: Tensor, lengths: Tensor, *, by_matrix: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-mel frames [B, F, 80], each band with mean 0 and variance 1 over its sound, 0 beyond
        it, and their numbers [B], of `audio` [B, N] with `lengths` [B] in samples.

        `by_matrix` takes a product with the Fourier matrix for the fast transform, which not every
        program that runs exported models has.
        """
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            real, imaginary = self._spectrum(F.pad(audio.float(), (FFT // 2, FFT // 2)), by_matrix)
            power = torch.addcmul(real.square(), imaginary, imaginary)
            # log(power + 1e-6) but for a constant, so that silence is 0 and its mean has no error
            mels = torch.log(power @ self.filters * 1e6 + 1)
            frames = lengths // HOP + 1
            mask = (torch.arange(mels.shape[1], device=mels.device) < frames[:, None])[..., None]
            count = frames[:, None, None]
            mels = (mels - (mels * mask).sum(1, keepdim=True) / count) * mask
            variance = mels.square().sum(1, keepdim=True) / count
            # a little more than 0 for recordings in which a band is silent throughout
            return mels * torch.rsqrt(variance + 1e-2), frames

    def _spectrum(self, audio: Tensor, by_matrix: bool) -> tuple[Tensor, Tensor]:
        """The real and the imaginary parts, both [B, F, 257]."""
        if not by_matrix:
            spectrum = cast(Any, torch.fft).rfft(audio.unfold(-1, FFT, HOP) * self.window)
            return spectrum.real, spectrum.imag
        angles = torch.outer(torch.arange(FFT // 2 + 1), torch.arange(FFT)) % FFT
        turns = angles.double() * (2 * math.pi / FFT)
        matrix = torch.cat([turns.cos(), turns.sin()]).float().to(audio.device) * self.window
        parts = F.conv1d(audio[:, None], matrix[:, None], stride=HOP).transpose(1, 2)
        real, imaginary = parts.contiguous().chunk(2, dim=-1)
        return real, imaginary

    def augment(self, features: Tensor, frames: Tensor) -> Tensor:
        """`features` [B, F, 80] with random bands and stretches set to 0, which is their mean."""
        config, (batch, longest, _) = self.config, features.shape

        def hidden(size: int, most: Tensor, room: Tensor, count: int) -> Tensor:
            width, start = torch.rand(2, batch, count, 1, device=features.device).unbind()
            width = width * most
            start = start * (room - width)
            at = torch.arange(size, device=features.device)
            return ((at >= start) & (at < start + width)).any(1)

        most, room = (torch.tensor(float(n)) for n in (config.frequency_mask_width, MELS))
        bands = hidden(MELS, most, room, config.frequency_masks)
        room = frames[:, None, None].float()
        stretches = hidden(longest, room * config.time_mask_share, room, config.time_masks)
        return features.masked_fill(bands[:, None] | stretches[..., None], 0.0)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits [B, T, V], how many of them count [B], and the same logits [B, T, V] from the
        middle of the encoder if they are trained on, of `features` [B, F, 80]."""
        x, lengths = features.transpose(1, 2), frames
        mask = torch.empty(0)
        for number, layer in enumerate(self.subsample):
            x, lengths = layer(x), (lengths + 1) // 2
            mask = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
            x = (x if number else F.silu(x)) * mask[:, None]
        x = x.transpose(1, 2).contiguous()
        turns = torch.outer(torch.arange(x.shape[1], device=x.device), self.frequencies)
        turned = turns.cos()[:, None], turns.sin()[:, None]
        middle: Tensor | None = None
        for number, block in enumerate(self.blocks, 1):
            x = block(x, turned, mask)
            if self.training and self.config.intermediate and number == (len(self.blocks) + 1) // 2:
                middle = self.head(x)
        return self.head(x), lengths, middle

    def export_forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What an exported model computes: log-probabilities [B, T, V], and how many count [B]."""
        exporting = torch.compiler.is_exporting()
        features, frames = self.features(audio, lengths, by_matrix=exporting)
        logits, lengths, _ = self.encode(features, frames)
        return logits.float().log_softmax(-1), lengths

    def export_inputs(self) -> tuple[Tensor, Tensor]:
        """Example arguments of `export_forward`: sound [2, N] and its lengths [2]. The first axis
        of both may vary, and the second of the sound."""
        return torch.zeros(2, RATE), torch.tensor([RATE, RATE * 3 // 4])

    def inference(self, sample: Mapping[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
        """What is said in a file (`sample["path"]`) or in an item of the data set.

        Yields `transcription`, a text; long sound has what is known so far, part by part. The last
        one has `words` with `word`, `start` and `end` in seconds, and `confidence` in 0..1.
        Raises ValueError for what is no sound.
        """
        item = cast(Mapping[str, Any], sample.get("item") or {})
        if not item and "path" not in sample:
            raise ValueError("The Conformer needs sound: the sample has neither path nor item.")
        audio = cast(Tensor, item["audio"]) if item else read_sound(sample["path"])
        heard: list[Tensor] = []
        for part in self.listen(audio):
            heard.append(part)
            if len(audio) > PART:
                text = text_of(greedy(torch.cat(heard)), self.vocabulary)
                yield {"transcription": {"type": "text", "value": text}}
        log_probs = torch.cat(heard)
        if self.words is not None or self.config.beam > 1:
            width = max(self.config.beam, 1 if self.words is None else 16)
            found = beam_search(log_probs, width, self.vocabulary, self.words)
        else:
            found = greedy(log_probs)
        text, words = text_of(found, self.vocabulary), spoken_words(found, self.vocabulary)
        outputs = {"transcription": {"type": "text", "value": text, "words": words}}
        if "text" in item:
            outputs["reference"] = {"type": "text", "value": item["text"]}
        yield outputs

    def listen(self, audio: Tensor) -> Iterator[Tensor]:
        """Log-probabilities of `audio` [N], together [T, V] on the CPU, in parts.

        Parts overlap, and of what overlaps each gives the half that is further from its edge.
        """
        hop, margin = PART - OVERLAP, OVERLAP // 2 // STRIDE
        starts = range(0, max(len(audio) - OVERLAP, 1), hop)
        device = self.head.weight.device
        for first in range(0, len(starts), PARTS):
            begins = starts[first : first + PARTS]
            pieces = [audio[begin : begin + PART] for begin in begins]
            batch = nn.utils.rnn.pad_sequence(pieces, batch_first=True).to(device)
            lengths = torch.tensor([len(piece) for piece in pieces], device=device)
            with torch.no_grad():
                log_probs, counts = self.export_forward(batch, lengths)
            rows = log_probs.cpu()
            for begin, row, count in zip(begins, rows, numbers(counts), strict=True):
                start = margin if begin else 0
                yield row[start : count if begin == starts[-1] else PART // STRIDE - margin]


class Block(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; [B, T, D] to [B, T, D]."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        width, wide = shape.width, shape.expansion * shape.width
        self.heads, self.dropped = shape.heads, round(256 * dropout)
        self.feed_forward = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, width)
            )
            for _ in range(2)
        )
        self.to_attention = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width))
        self.from_attention = nn.Linear(width, width)
        self.to_convolution = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width))
        self.taps = nn.Parameter(torch.empty(width, shape.kernel).uniform_(-1, 1))
        with torch.no_grad():
            self.taps /= math.sqrt(shape.kernel)
        self.from_convolution = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, turned: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """`turned`: cosines and sines [T, 1, D / heads / 2]; `mask` [B, T]: what is no padding."""
        x = self._add(x, self.feed_forward[0](x), 0.5)
        x = self._add(x, self._attend(x, turned, mask), 1.0)
        gated = F.glu(self.to_convolution(x), dim=-1) * mask[..., None]
        x = self._add(x, self.from_convolution(depthwise(gated, self.taps)), 1.0)
        x = self._add(x, self.feed_forward[1](x), 0.5)
        return self.norm(x)

    def _attend(self, x: Tensor, turned: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        batch, time, width = x.shape
        parts = self.to_attention(x).view(batch, time, 3 * self.heads, width // self.heads)
        asked, values = parts.split([2 * self.heads, self.heads], dim=2)
        (left, right), (cosine, sine) = asked.chunk(2, dim=-1), turned
        rotated = [left * cosine - right * sine, left * sine + right * cosine]
        asked = torch.cat(rotated, dim=-1).to(values.dtype).transpose(1, 2)
        queries, keys = asked.chunk(2, dim=1)
        found = F.scaled_dot_product_attention(
            queries, keys, values.transpose(1, 2), attn_mask=mask[:, None, None]
        )
        return self.from_attention(found.transpose(1, 2).reshape(batch, time, width))

    def _add(self, x: Tensor, y: Tensor, factor: float) -> Tensor:
        """x + factor · dropout(y). torch's dropout draws a number for each value, which on a CPU
        takes longer than the matrix product before it; here eight share one of 64 bits."""
        if not self.training or not self.dropped:
            return torch.add(x, y, alpha=factor)
        drawn = torch.empty(-(-y.numel() // 8), dtype=torch.int64, device=y.device)
        noise = drawn.random_(-(2**63), None).view(torch.uint8)[: y.numel()].view(y.shape)
        kept = (noise >= self.dropped).to(y.dtype)
        return torch.addcmul(x, y, kept, value=factor * 256 / (256 - self.dropped))


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose weights' gradient is summed tap by tap: on a CPU torch's own
    takes ten times as long as the rest of the convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        return _channels_last_convolution(x, taps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,), (x, taps) = grads, ctx.saved_tensors
        half, time = taps.shape[1] // 2, x.shape[1]
        padded = F.pad(x, (0, 0, half, half))
        sums = [(padded[:, k : k + time] * grad).sum((0, 1)) for k in range(taps.shape[1])]
        return _channels_last_convolution(grad, taps.flip(1)), torch.stack(sums, dim=1)


def _channels_last_convolution(x: Tensor, taps: Tensor) -> Tensor:
    image, half = x.transpose(1, 2)[:, :, None], taps.shape[1] // 2
    made = F.conv2d(image, taps[:, None, None], padding=(0, half), groups=len(taps))
    return made[:, :, 0].transpose(1, 2)


def depthwise(x: Tensor, taps: Tensor) -> Tensor:
    """Each channel of `x` [B, T, D] with its own odd number of taps [D, K], centred."""
    taps = taps.to(x.dtype)
    if x.device.type == "cpu" and x.requires_grad:
        return cast(Any, _Depthwise).apply(x, taps)
    return _channels_last_convolution(x, taps)


def ctc(logits: Tensor, lengths: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """The mean over the batch of nats a symbol; what is too short for its text counts as 0."""
    with torch.autocast(logits.device.type, enabled=False):
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)
        sizes: Tensor = batch["token_lengths"]
        return F.ctc_loss(log_probs, batch["tokens"], lengths, sizes, zero_infinity=True)


def mel_filters() -> Tensor:
    """[257, 80]: triangles over the bins of a power spectrum, evenly spaced in mel (O'Shaughnessy
    1987) from 0 to 8000 Hz, each with its peak at 1."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, MELS + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, FFT // 2 + 1, dtype=torch.float64)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return torch.minimum(rising, falling).clamp_min(0).float()


class Symbol(NamedTuple):
    """One that was heard: its index in the vocabulary, at which output of the encoder (from 0),
    and how likely it is there."""

    piece: int
    frame: int
    log_prob: float


def greedy(scores: Tensor) -> list[Symbol]:
    """The likeliest symbol at each step of `scores` [T, V], without repetitions and blanks."""
    best, indices = scores.float().log_softmax(-1).max(-1)
    new = indices != 0
    new[1:] &= indices[1:] != indices[:-1]
    frames = new.nonzero()[:, 0]
    rows = zip(*map(numbers, (indices[frames], frames, best[frames])), strict=True)
    return [Symbol(*row) for row in rows]


def text_of(symbols: Sequence[Symbol], vocabulary: Sequence[str]) -> str:
    """What symbols spell; pieces of words begin words with ▁ (U+2581)."""
    spelled = "".join(vocabulary[symbol.piece] for symbol in symbols)
    return " ".join(spelled.replace("▁", " ").split(" ")).strip()


def spoken_words(symbols: Sequence[Symbol], vocabulary: Sequence[str]) -> list[dict[str, Any]]:
    """`word`, `start` and `end` in seconds, and `confidence` (the geometric mean of its symbols'
    probabilities) of each word; of each symbol where the vocabulary has nothing between words."""
    words: list[tuple[str, list[Symbol]]] = []
    spaced = any(" " in piece or "▁" in piece for piece in vocabulary)
    apart = True
    for symbol in symbols:
        piece = vocabulary[symbol.piece].replace("▁", " ")
        apart = apart or piece.startswith(" ") or not spaced
        if piece.strip(" "):
            if apart:
                words.append(("", []))
            word, members = words[-1]
            words[-1] = (word + piece.strip(" "), [*members, symbol])
            apart = False
        apart = apart or piece.endswith(" ")
    seconds = STRIDE / RATE
    return [
        {
            "word": word,
            "start": round(members[0].frame * seconds, 3),
            "end": round((members[-1].frame + 1) * seconds, 3),
            "confidence": round(math.exp(sum(m.log_prob for m in members) / len(members)), 4),
        }
        for word, members in words
    ]


class Words:
    """The words that may be said, and how they begin."""

    def __init__(self, words: Sequence[str]) -> None:
        self.whole = frozenset(words)
        self.beginnings = frozenset(word[:n] for word in words for n in range(len(word) + 1))

    def after(self, begun: str, piece: str) -> str | None:
        """What of a word has begun when `piece` follows `begun`; None if there is no such word."""
        for letter in piece:
            if letter in " ▁":
                if begun and begun not in self.whole:
                    return None
                begun = ""
            else:
                begun += letter
        return begun if begun in self.beginnings else None


class Prefix:
    """What may have been said up to now. Equal ones are the same object, made by `then`."""

    __slots__ = ("before", "begun", "blank", "next", "other", "symbol")

    def __init__(self, before: "Prefix | None", symbol: Symbol, begun: str) -> None:
        self.before, self.symbol, self.begun = before, symbol, begun
        self.next: dict[int, Prefix | None] = {}
        self.blank = self.other = -math.inf
        """Log-probabilities of the ways to have said it that end with a blank, and without."""

    def then(
        self, index: int, frame: int, log_prob: float, pieces: Sequence[str], words: Words | None
    ) -> "Prefix | None":
        """This and one more symbol, if that is among `words`."""
        if index not in self.next:
            begun = words.after(self.begun, pieces[index]) if words else ""
            made = None if begun is None else Prefix(self, Symbol(index, frame, log_prob), begun)
            self.next[index] = made
        longer = self.next[index]
        if longer is not None and log_prob > longer.symbol.log_prob:
            longer.symbol = Symbol(index, frame, log_prob)  # where it is heard best
        return longer

    @property
    def score(self) -> float:
        return _log_add(self.blank, self.other)


def beam_search(
    log_probs: Tensor, width: int, vocabulary: Sequence[str], words: Words | None = None
) -> list[Symbol]:
    """The likeliest symbols for `log_probs` [T, V] over all ways to align them.

    CTC's prefix search (Graves et al. 2006; Hannun et al. 2014, arXiv:1408.2873), which keeps
    `width` prefixes. With `words`, nothing else is said; an unfinished last word goes behind.
    """
    root = Prefix(None, Symbol(0, -1, 0.0), "")
    root.blank, beam = 0.0, [root]
    count = min(CANDIDATES, log_probs.shape[1] - 1)
    tops, orders = log_probs[:, 1:].topk(count)
    rows = zip(*map(numbers, (log_probs, tops, orders + 1)), strict=True)
    for frame, (row, best, order) in enumerate(rows):
        if row[0] > SURE:
            for prefix in beam:
                prefix.blank, prefix.other = prefix.score + row[0], -math.inf
            continue
        # per prefix: ways that end with a blank, and without, after this frame
        sums: dict[Prefix, list[float]] = {}
        for prefix in beam:
            score, last = prefix.score, prefix.symbol.piece
            own = sums.setdefault(prefix, [-math.inf, -math.inf])
            own[0] = _log_add(own[0], score + row[0])
            if last:
                own[1] = _log_add(own[1], prefix.other + row[last])
            for log_prob, index in zip(best, order, strict=True):
                longer = prefix.then(index, frame, log_prob, vocabulary, words)
                if longer is not None:
                    ways = prefix.blank if index == last else score
                    its = sums.setdefault(longer, [-math.inf, -math.inf])
                    its[1] = _log_add(its[1], ways + log_prob)
        for prefix, (blank, other) in sums.items():
            prefix.blank, prefix.other = blank, other
        beam = sorted(sums, key=lambda prefix: prefix.score, reverse=True)[:width]
    if words is not None:
        beam.sort(key=lambda prefix: bool(prefix.begun) and prefix.begun not in words.whole)
    symbols: list[Symbol] = []
    prefix = beam[0]
    while prefix.before is not None:
        symbols.append(prefix.symbol)
        prefix = prefix.before
    return symbols[::-1]


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def numbers(tensor: Tensor) -> list[Any]:
    """The values of `tensor` in nested lists; torch says nothing of their type."""
    return cast(Any, tensor).tolist()


def read_words(path: str) -> list[str]:
    """The words of a UTF-8 file, one a line. Raises OSError, ValueError."""
    words = sorted(set(Path(path).expanduser().read_text(encoding="utf-8").split()))
    if not words:
        raise ValueError(f"{path} has no words.")
    return words


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


def _errors(counts: Any) -> tuple[int, int]:
    """Errors, and of how many words or characters."""
    wrong = counts.substitutions + counts.deletions
    return wrong + counts.insertions, wrong + counts.hits
