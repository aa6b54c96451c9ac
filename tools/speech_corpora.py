"""Lays out two more corpora as `ljspeech` reads them, for the figures in benchmarks.

    python tools/speech_corpora.py flite DIR       sentences spoken by the synthesizer flite
    python tools/speech_corpora.py asterisk DIR    telephone prompts spoken by a human

They need Debian's packages `flite`; `asterisk-core-sounds-en-wav` and `asterisk-core-sounds-en`.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tsuzuku.worker.sentences import sentences

VOICES = ["kal16", "awb", "rms", "slt"]
STRETCH = (0.95, 1.2)
"""Of the voices' own durations: they speak fast, beyond what CTC can align."""
TAKES = 3
"""How often each sentence is spoken, as in `data make speech`."""
TEXTS = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"


def write_list(folder: Path, rows: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}|{text}|{text}\n" for name, text in rows)
    (folder / "metadata.csv").write_text(lines, encoding="utf-8")
    print(f"{len(rows)} utterances are in {folder}; train on them with dataset.path={folder}")


def flite(folder: Path, count: int, seed: int) -> None:
    """The sentences of `data make speech`, by four voices of another synthesizer."""
    said = sentences(-(-count // TAKES), seed)
    generator = random.Random(f"flite {seed}")
    jobs: list[tuple[str, str, str, float]] = []
    for number in range(count):
        take, sentence = divmod(number, len(said))
        voice = VOICES[(sentence * TAKES + take) % len(VOICES)]
        name, stretch = f"flite-{number + 1:05}", generator.uniform(*STRETCH)
        jobs.append((name, said[sentence], voice, stretch))

    def speak(job: tuple[str, str, str, float]) -> tuple[str, str]:
        name, text, voice, stretch = job
        path = folder / "wavs" / f"{name}.wav"
        setting = f"duration_stretch={stretch:.3f}"
        words = ["flite", "-voice", voice, "--setf", setting, "-t", text, "-o", str(path)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return name, text

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        write_list(folder, list(pool.map(speak, jobs)))


def asterisk(folder: Path, root: Path) -> None:
    """Prompts of a telephone exchange, 8 kHz, with the texts of another package of Debian's."""
    rows: list[tuple[str, str]] = []
    with gzip.open(root / TEXTS, "rt", encoding="utf-8") as lines:
        for line in lines:
            name, colon, text = line.partition(":")
            # brackets say what is heard where nothing is spoken, or how a sign looks
            spoken = " ".join(re.sub(r"\[[^]]*\]|<[^>]*>", " ", text).replace("|", " ").split())
            source = root / SOUNDS / f"{name.strip()}.wav"
            if line.startswith(";") or not colon or not spoken or not source.is_file():
                continue
            flat = name.strip().replace("/", "_")
            shutil.copyfile(source, folder / "wavs" / f"{flat}.wav")
            rows.append((flat, spoken))
    write_list(folder, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    kinds = parser.add_subparsers(dest="kind", required=True)
    made = kinds.add_parser("flite")
    made.add_argument("folder", type=Path)
    made.add_argument("--count", type=int, default=1200)
    made.add_argument("--seed", type=int, default=0)
    laid_out = kinds.add_parser("asterisk")
    laid_out.add_argument("folder", type=Path)
    laid_out.add_argument(
        "--root", type=Path, default=Path("/"), help="where packages are unpacked"
    )
    chosen = parser.parse_args()
    if chosen.kind == "flite" and not shutil.which("flite"):
        sys.exit("flite is not installed: apt-get install flite")
    if chosen.kind == "asterisk" and not (chosen.root / TEXTS).is_file():
        sys.exit(
            f"{chosen.root / TEXTS} is not there: apt-get install asterisk-core-sounds-en "
            "asterisk-core-sounds-en-wav"
        )
    (chosen.folder / "wavs").mkdir(parents=True)
    if chosen.kind == "flite":
        flite(chosen.folder, chosen.count, chosen.seed)
    else:
        asterisk(chosen.folder, chosen.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
