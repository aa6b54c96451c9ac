"""`python -m tsuzuku.worker train|…`: what the server and the command line start."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tsuzuku.worker")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="work on a run until it is completed or stopped")
    train.add_argument("--workspace", type=Path, required=True)
    train.add_argument("--run", required=True)
    chosen = parser.parse_args(words)

    from tsuzuku.core.errors import TsuzukuError
    from tsuzuku.core.workspace import Workspace

    try:
        if chosen.command == "train":
            from tsuzuku.worker.train import train as train_run

            return train_run(Workspace(chosen.workspace), chosen.run)
    except TsuzukuError as error:
        print(f"tsuzuku: {error}", file=sys.stderr)
        return error.exit_code
    return 2


if __name__ == "__main__":
    sys.exit(main())
