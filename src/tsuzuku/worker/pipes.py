"""Standard input and output for requests and answers only, whatever a plug-in prints or reads."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, NoReturn

from tsuzuku.core.schemas import jsonable


class Answers:
    """One JSON object a line on what was the standard output; everything else goes to stderr.

    Made before any plug-in is imported. The lines are ASCII, and have null for NaN and infinity.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "w", encoding="ascii")
        os.dup2(2, 1)  # below Python, so that a library's printf goes there too

    def send(self, answer: dict[str, Any]) -> None:
        """Raises BrokenPipeError when nobody is there to read it."""
        self._out.write(json.dumps(jsonable(answer), allow_nan=False) + "\n")
        self._out.flush()

    def close(self) -> None:
        self._out.close()


def own_input() -> IO[bytes]:
    """What was the standard input; a plug-in that reads finds an empty one."""
    kept = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return kept


def leave(code: int) -> NoReturn:
    """End the process at once: a thread or an exit handler of a plug-in could hold it up for ever.

    For processes that have written all they had to write.
    """
    sys.stderr.flush()
    os._exit(code)
