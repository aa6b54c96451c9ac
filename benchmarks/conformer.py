"""How many seconds of sound a second the Conformer trains on and listens to, beside its peers.

python benchmarks/conformer.py [--quick] [--size tiny] [--seconds 2 --seconds 6.5] [--threads N]

Training: forward, CTC loss, backward, clipping and AdamW's step on the same batch of 16, each
contender in turn. Peers have the same width, layers, heads, kernel and dropout, and the same 25
frames a second. The Conformer here and Wav2Vec2Conformer begin with the sound; the others are given
the spectrogram. For a look at the blocks alone, the last two are also given our subsampling.
Listening: one thread, size S.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from common import median_of, options, print_table, verdict
from tsuzuku.models.conformer import MELS, RATE, SIZES, Config, Conformer, ctc, greedy

BATCH, LETTERS_A_SECOND = 16, 14
VOCABULARY = ["", " ", *"abcdefghijklmnopqrstuvwxyz'"]
TARGET = 1.3
"""Times the speed of the fastest Conformer among the peers."""

Loss = Callable[[dict[str, Any]], Tensor]


def made_batch(seconds: float) -> dict[str, Any]:
    """Noise of nearly equal lengths, as length buckets make them, with random letters."""
    torch.manual_seed(0)
    lengths = (torch.linspace(0.93, 1, BATCH) * seconds * RATE).long()
    count = int(seconds * LETTERS_A_SECOND)
    return {
        "audio": torch.randn(BATCH, int(lengths.max())) * 0.1,
        "audio_lengths": lengths,
        "tokens": torch.randint(1, len(VOCABULARY), (BATCH, count)),
        "token_lengths": torch.full((BATCH,), count),
    }


class FrontEnd(nn.Module):
    """The Conformer's subsampling: [B, F, 80] to [B, T, D], and its mask [B, T]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, width, 3, stride=2, padding=1) for channels in (MELS, width)
        )

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = self.layers
        x = second(nn.functional.silu(first(features.transpose(1, 2)))).transpose(1, 2)
        lengths = (frames + 3) // 4
        return x, torch.arange(x.shape[1]) < lengths[:, None], lengths


class Parakeet(nn.Module):
    """FastConformer (Rekesh et al. 2023) with the same subsampling factor."""

    def __init__(self, size: str) -> None:
        super().__init__()
        from transformers import ParakeetCTCConfig, ParakeetEncoderConfig, ParakeetForCTC

        shape = SIZES[size]
        encoder = ParakeetEncoderConfig(
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.expansion * shape.width,
            conv_kernel_size=shape.kernel,
            subsampling_factor=4,
            subsampling_conv_channels=shape.width,
            dropout=0.1,
            activation_dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        )
        config = ParakeetCTCConfig(
            vocab_size=len(VOCABULARY), pad_token_id=0, encoder_config=encoder
        )
        self.model = ParakeetForCTC(config)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        features, frames = batch["features"], batch["frames"]
        mask = torch.arange(features.shape[1]) < frames[:, None]
        logits = self.model(input_features=features, attention_mask=mask).logits
        return ctc(logits, (frames + 3) // 4, batch)


def wav2vec2_config(size: str) -> Any:
    """Rotary positions, and 640 samples to a frame."""
    from transformers import Wav2Vec2ConformerConfig

    shape = SIZES[size]
    return Wav2Vec2ConformerConfig(
        vocab_size=len(VOCABULARY),
        pad_token_id=0,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.expansion * shape.width,
        conv_depthwise_kernel_size=shape.kernel,
        conv_dim=[shape.width] * 8,
        conv_kernel=[10, 3, 3, 3, 3, 2, 2, 2],
        conv_stride=[5, 2, 2, 2, 2, 2, 2, 2],
        position_embeddings_type="rotary",
        hidden_dropout=0.1,
        activation_dropout=0.0,
        attention_dropout=0.0,
        conformer_conv_dropout=0.1,
        feat_proj_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
    )


class Wav2Vec2(nn.Module):
    """Wav2Vec2Conformer (Wang et al. 2020), with convolutions as wide as the rest."""

    def __init__(self, size: str) -> None:
        super().__init__()
        from transformers import Wav2Vec2ConformerForCTC

        self.model = Wav2Vec2ConformerForCTC(wav2vec2_config(size))

    def forward(self, batch: dict[str, Any]) -> Tensor:
        mask = torch.arange(batch["audio"].shape[1]) < batch["audio_lengths"][:, None]
        labels = batch["tokens"]
        return self.model(batch["audio"], attention_mask=mask.long(), labels=labels).loss


class Wav2Vec2Blocks(nn.Module):
    """The encoder of Wav2Vec2Conformer behind our subsampling."""

    def __init__(self, size: str) -> None:
        super().__init__()
        from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as module

        shape, config = SIZES[size], wav2vec2_config(size)
        self.front = FrontEnd(shape.width)
        self.encoder = module.Wav2Vec2ConformerEncoder(config)
        self.head = nn.Linear(shape.width, len(VOCABULARY))

    def forward(self, batch: dict[str, Any]) -> Tensor:
        x, mask, lengths = self.front(batch["features"], batch["frames"])
        return ctc(self.head(self.encoder(x, attention_mask=mask)[0]), lengths, batch)


class Transformer(nn.Module):
    """torch's own encoder: half the arithmetic of a Conformer of its width."""

    def __init__(self, size: str) -> None:
        super().__init__()
        shape = SIZES[size]
        wide = shape.expansion * shape.width
        layer = nn.TransformerEncoderLayer(
            shape.width, shape.heads, wide, 0.1, batch_first=True, norm_first=True
        )
        self.front = FrontEnd(shape.width)
        self.encoder = nn.TransformerEncoder(layer, shape.layers, enable_nested_tensor=False)
        self.head = nn.Linear(shape.width, len(VOCABULARY))

    def forward(self, batch: dict[str, Any]) -> Tensor:
        x, mask, lengths = self.front(batch["features"], batch["frames"])
        return ctc(self.head(self.encoder(x, src_key_padding_mask=~mask)), lengths, batch)


class Ours(nn.Module):
    def __init__(self, size: str) -> None:
        super().__init__()
        settings = {"size": size, "vocabulary": VOCABULARY}
        self.model = Conformer.from_config(Config.model_validate(settings), None)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.model(batch)["loss"]


CONTENDERS: dict[str, Callable[[str], nn.Module]] = {
    "conformer (tsuzuku)": Ours,
    "ParakeetForCTC": Parakeet,
    "Wav2Vec2ConformerForCTC": Wav2Vec2,
    "Wav2Vec2Conformer, its blocks": Wav2Vec2Blocks,
    "nn.TransformerEncoder": Transformer,
}
OURS, *PEERS = CONTENDERS
CONFORMERS = PEERS[:2]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> float:
    """Seconds of one training step."""
    began = time.perf_counter()
    model(batch).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def training(size: str, seconds: float, rounds: int) -> None:
    torch.manual_seed(0)
    batch = made_batch(seconds)
    here = find_spec("transformers") is not None
    chosen = CONTENDERS if here else {OURS: Ours, PEERS[-1]: Transformer}
    models = {name: make(size).train() for name, make in chosen.items()}
    front: Any = models[OURS].model
    batch["features"], batch["frames"] = front.features(batch["audio"], batch["audio_lengths"])
    steps = {
        name: partial(step, model, torch.optim.AdamW(model.parameters(), 1e-4, fused=True), batch)
        for name, model in models.items()
    }
    took: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 2):
        for name, once in steps.items():
            passed = once()
            if number >= 2:  # the first ones fill caches
                took[name].append(passed)
    total = float(batch["audio_lengths"].sum()) / RATE
    rows: list[list[str]] = []
    for name, model in models.items():
        ratio = median_of(a / b for a, b in zip(took[name], took[OURS], strict=True))
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        speed, steady = total / median_of(took[name]), f"{ratio:.2f}"
        rows.append([name, f"{millions:.2f}", f"{speed:.0f}", steady])
    print_table(
        f"Training {size}, 16 x {seconds} s ({rounds} rounds, {torch.get_num_threads()} threads)",
        ["", "M weights", "s of sound a s", "time / ours"],
        rows,
    )
    if not here:
        print("The Conformers of transformers are not installed (pip install tsuzuku[bench]).")
        return
    best = [min(times) for times in zip(*(took[name] for name in CONFORMERS), strict=True)]
    shares = [a / b for a, b in zip(took[OURS], best, strict=True)]
    mark = verdict(shares, 1 / TARGET)
    print(f"Target: at most {1 / TARGET:.3f} of the time of the faster Conformer of them: {mark}")


def listening(rounds: int) -> None:
    torch.set_num_threads(1)
    settings = {"size": "S", "vocabulary": VOCABULARY}
    made = Conformer.from_config(Config.model_validate(settings), None)
    file = io.BytesIO()
    torch.save({"model_state_dict": made.state_dict()}, file)

    def load() -> Conformer:
        file.seek(0)
        model = Conformer.from_config(Config.model_validate(settings), None)
        model.load_state_dict(torch.load(file, weights_only=True)["model_state_dict"])
        return model.eval()

    began = time.perf_counter()
    model = load()
    rows = [["loading, ms", f"{(time.perf_counter() - began) * 1e3:.0f}"]]
    for seconds in (2, 10, 60):
        audio = torch.randn(seconds * RATE) * 0.1
        took: list[float] = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            greedy(torch.cat(list(model.listen(audio))))
            took.append(time.perf_counter() - began)
        rows.append(
            [f"{seconds} s of sound, real-time factor", f"{median_of(took[1:]) / seconds:.4f}"]
        )
    print_table(f"Listening, S, 1 thread ({rounds} rounds)", ["", ""], rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--seconds", type=float, action="append", help="of sound; more than once")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for seconds in given.seconds or (2.0, 6.5):
        training(given.size, seconds, 3 if given.quick else 15)
    listening(2 if given.quick else 7)


if __name__ == "__main__":
    main()
