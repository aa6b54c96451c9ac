"""Sentences to be spoken: everyday words in ever new order, every letter of English among them.

There are so few words that half an hour of speech says each of them often.
"""

from __future__ import annotations

import random

WORDS = {
    "who": """the old captain|my sister|a young doctor|our teacher|the queen|her brother
        |a tired farmer|the judge|his uncle|two children""",
    "did": "opened|carried|found|washed|moved|watched|sold|kept|fixed|liked",
    "do": "open|carry|find|wash|move|watch|sell|keep|fix|like",
    "what": """the wooden box|a heavy jar|the garden gate|the yellow boat|the kitchen table
        |a loaf of bread|the last puzzle|a dozen eggs|the silver key|the white horse
        |some orange juice|the question""",
    "where": """in the valley|near the river|behind the school|on the hill|under the bridge
        |at the market|by the open window""",
    "before": "yesterday|last winter|in the evening|on Monday|a week ago",
    "later": "tomorrow|next year|this afternoon|on Thursday|in a few days",
    "thing": "sky|road|water|bread|garden|river|kitchen|wind",
    "how": "cold|warm|quiet|bright|heavy|simple|dark|expensive",
    "many": "three|five|seven|twelve|a hundred|several",
    "things": "sheep|candles|windows|birds|boxes|horses",
}
FORMS = [
    "{who} {did} {what}.",
    "{who} {did} it {where}.",
    "{before} {who} {did} {what}.",
    "{who} will {do} it {later}.",
    "{who} didn't {do} {what}.",
    "Please {do} {what}.",
    "Please {do} it {later}.",
    "Why did {who} {do} it?",
    "Who {did} {what}?",
    "There are {many} {things} {where}.",
    "I saw {many} {things}.",
    "The {thing} was {how}.",
    "The {thing} was {how} and {how}.",
    "{before} the {thing} was {how}.",
    "It's {how} {where}, isn't it?",
    "Don't {do} {what}!",
    "We {did} it {before}.",
    "Is the {thing} {how}?",
]
CHOICES = {
    kind: [" ".join(word.split()) for word in words.split("|")] for kind, words in WORDS.items()
}


def sentences(count: int, seed: int) -> list[str]:
    """So many different sentences of three to twelve words; the same ones for the same seed."""
    generator = random.Random(f"sentences {seed}")
    made: dict[str, None] = {}
    while len(made) < count:
        form = generator.choice(FORMS)
        parts = form.split("{")
        said = parts[0] + "".join(
            generator.choice(CHOICES[kind]) + rest
            for kind, _, rest in (part.partition("}") for part in parts[1:])
        )
        made[said[0].upper() + said[1:]] = None
    return list(made)
