"""Errors that are meant for a person: one sentence, and a hint what would be right."""

from __future__ import annotations


def full_stop(text: str) -> str:
    """`text` as a sentence: with a full stop unless it has its own end."""
    return text if text.endswith((".", "?", "!")) else text + "."


class TsuzukuError(Exception):
    """Something that a person can act on.

    `detail` is one sentence that says what was wrong and where; `hint` says what would be
    right; `code` is a stable word for programs. Command lines end with `exit_code`.
    """

    code = "error"
    exit_code = 1

    def __init__(self, detail: str, hint: str = "", *, code: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()


class WrongInput(TsuzukuError):
    """What the person asked for cannot be: a wrong name, setting, path or file."""

    code = "wrong_input"
    exit_code = 2


class SettingsError(WrongInput):
    """One or more settings are wrong; `problems` lists all of them, one line each."""

    code = "bad_setting"

    def __init__(self, problems: list[str], where: str = "settings") -> None:
        self.problems = problems
        head = f"{where}: " if len(problems) == 1 else f"{len(problems)} problems in {where}:\n  "
        super().__init__(head + "\n  ".join(problems))


class NotFound(WrongInput):
    """A run, checkpoint or file of that name does not exist."""

    code = "not_found"


class Busy(TsuzukuError):
    """Somebody else works on it right now."""

    code = "busy"


class CorruptCheckpoint(TsuzukuError):
    """A checkpoint file is truncated, altered, hostile, or lacks what a checkpoint needs."""

    code = "corrupt_checkpoint"


class DiskFull(TsuzukuError):
    """There is not enough room for what has to be written."""

    code = "disk_full"
