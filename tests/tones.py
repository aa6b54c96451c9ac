"""A data set of made "speech": every letter is a tone of its own, a space is silence.

A copy of this file in a workspace's `datasets/` is a plug-in.
"""

import math
import random

import torch

RATE = 16_000
LETTERS = "abcde"
VOCABULARY = ["", " ", *LETTERS]
SECONDS = 0.16
"""Of a letter, and of a space; a letter's tone sounds for three quarters of it."""


def sound(text: str, noise: float = 0.0) -> torch.Tensor:
    """float32 [N] at 16 kHz."""
    size = int(SECONDS * RATE)
    time = torch.arange(size) / RATE
    envelope = (time < 0.75 * SECONDS).float()
    parts = [
        0.3 * envelope * torch.sin(2 * math.pi * 400 * 2 ** VOCABULARY.index(c) / 4 * time)
        if c != " "
        else torch.zeros(size)
        for c in text
    ]
    quiet = torch.cat([torch.zeros(size), *parts, torch.zeros(size)])
    return quiet + noise * torch.randn(len(quiet))


def sentence(seed: int) -> str:
    """One to three words of one to four letters."""
    draw = random.Random(seed)
    words = [
        "".join(draw.choices(LETTERS, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 3))
    ]
    return " ".join(words)


class Tones:
    """Item i says `sentence(i)`, with noise from torch's generator."""

    vocabulary = VOCABULARY
    tokenizer_kind = "char"

    def __init__(self, config, split):
        self.texts = [sentence(seed) for seed in range(int(config.get("count", 8)))]

    def __len__(self):
        return len(self.texts)

    def lengths(self):
        return [len(text) for text in self.texts]

    def __getitem__(self, index):
        text = self.texts[index]
        tokens = torch.tensor([VOCABULARY.index(c) for c in text])
        return {"audio": sound(text, 0.003), "tokens": tokens, "text": text, "id": str(index)}

    def collate(self, items):
        pad = torch.nn.utils.rnn.pad_sequence
        batch = {k: pad([item[k] for item in items], batch_first=True) for k in ("audio", "tokens")}
        batch["audio_lengths"] = torch.tensor([len(item["audio"]) for item in items])
        batch["token_lengths"] = torch.tensor([len(item["tokens"]) for item in items])
        return batch | {"text": [item["text"] for item in items]}
