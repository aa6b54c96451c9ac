"""Sentences to be spoken: everyday words in ever new order, every letter of English among them."""

from __future__ import annotations

import random

WORDS = {
    "who": """the old captain|my sister|a young doctor|the quiet neighbour|our teacher|the baker
        |a tired farmer|the judge|her brother|the tall waiter|an honest boy|the queen|his uncle
        |the night guard|a clever girl|the new driver|the painter|my grandmother|two children
        |the village nurse|a stranger|the young king|our cousin|the mayor""",
    "did": """opened|carried|found|painted|washed|borrowed|lost|moved|watched|repaired|sold|kept
        |remembered|dropped|covered|brought|finished|liked|mixed|examined|squeezed|changed""",
    "do": """open|carry|find|paint|wash|borrow|lose|move|watch|repair|sell|keep|remember|drop|cover
        |bring|finish|like|mix|examine|squeeze|change""",
    "what": """the wooden box|a heavy jar|the garden gate|seven letters|the yellow boat|an empty
        bottle|the kitchen table|a loaf of bread|the broken clock|some fresh orange juice|her
        winter jacket|the last puzzle|a dozen eggs|the music book|his favourite song|the silver
        key|a small fire|the white horse|our blue tent|a bowl of soup|the question|those flowers
        |the bicycle|a piece of cake|the long ladder|an expensive ring""",
    "where": """in the valley|near the harbour|behind the school|on the hill|under the bridge
        |beside the river|at the market|in the forest|across the street|by the open window|outside
        the museum|on the frozen lake|at the railway station|in the upper room|between the houses
        |next to the church""",
    "before": """yesterday|last winter|before sunrise|in the evening|on Monday|a week ago|at six
        o'clock|after the storm|in June|on Friday morning|an hour ago|during the war""",
    "later": """tomorrow|next year|before supper|this afternoon|on Thursday|in a few days|at eight
        o'clock|as soon as possible|when the rain stops|at the end of March""",
    "thing": """sky|road|water|bread|garden|answer|letter|wind|story|zebra|kitchen|wine|snow
        |village|music|machine|castle|fox|ocean|roof""",
    "how": """cold|warm|quiet|bright|heavy|beautiful|strange|simple|dark|expensive|sweet|famous|dry
        |very small|lazy|dangerous|too loud|clean|almost ready|rather old""",
    "many": """three|four|five|nine|eleven|twelve|twenty|a hundred|several|too many|only a few
        |thirteen""",
    "things": """sheep|candles|windows|wild birds|green apples|boxes|visitors|old maps|tickets
        |bells|soldiers|chairs|stars|paper boats|brown dogs|bridges""",
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
