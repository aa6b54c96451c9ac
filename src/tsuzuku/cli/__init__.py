"""The command line. Nothing here imports torch: whatever needs it runs in a worker."""

from __future__ import annotations

import sys


def main(words: list[str] | None = None) -> int:
    """Run a command; the exit code. What goes wrong is said in one sentence on stderr."""
    from tsuzuku.cli.app import run

    return run(words)


if __name__ == "__main__":
    sys.exit(main())
