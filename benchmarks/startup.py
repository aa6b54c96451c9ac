"""How long `tsuzuku --help` takes, and that it loads neither torch nor NumPy.

python benchmarks/startup.py [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import time

from common import median_of, options, print_table, verdict

MAX_SECONDS = 0.4
HEAVY = ("torch", "numpy", "tensorboard", "fastapi", "streamlit")
LOADED = f"""
import sys
from tsuzuku.cli import main
main(["--help"])
print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


def seconds(*words: str) -> float:
    """Wall time of a Python process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    rounds = 3 if options(__doc__).parse_args().quick else 9
    seconds("-m", "tsuzuku", "--help")  # the first one reads the files from the disk
    bare, helped = [], []
    for _ in range(rounds):
        bare.append(seconds("-c", ""))
        helped.append(seconds("-m", "tsuzuku", "--help"))
    rows = [
        ["python -c ''", f"{median_of(bare):.2f}"],
        ["tsuzuku --help", f"{median_of(helped):.2f}"],
    ]
    print_table(f"Start ({rounds} rounds)", ["", "s"], rows)
    mark = verdict(helped, MAX_SECONDS)
    print(f"Target: at most {MAX_SECONDS} s: {mark}")
    asked = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, text=True
    )
    loaded = asked.stderr.strip()
    print(f"Loaded of {', '.join(HEAVY)}: {loaded or 'none'}")
    if loaded:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
