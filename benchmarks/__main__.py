"""All benchmarks, one after the other.

python -m benchmarks [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ALL = (
    "startup",
    "step_loop",
    "save_stall",
    "sharded_save",
    "compression",
    "resume",
    "launchers",
    "curves",
    "server",
    "websocket_load",
    "dashboard",
    "conformer",
    "speech_loading",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds, for CI")
    given = ["--quick"] if parser.parse_args().quick else []
    folder = Path(__file__).parent
    failed: list[str] = []
    for name in ALL:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(folder / f"{name}.py"), *given]).returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
