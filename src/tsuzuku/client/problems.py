"""What a server says went wrong, as the errors that it raised itself."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import ValidationError

from tsuzuku.core.answers import Problem
from tsuzuku.core.errors import (
    Busy,
    CorruptCheckpoint,
    DiskFull,
    NotFound,
    TsuzukuError,
    WrongInput,
)


class Unreachable(TsuzukuError):
    """No server answers at that address."""

    code = "unreachable"


class WrongToken(WrongInput):
    """The server asks for a token, and got none or another."""

    code = "wrong_token"


BY_CODE: dict[str, type[TsuzukuError]] = {
    "corrupt_checkpoint": CorruptCheckpoint,
    "no_sidecar": CorruptCheckpoint,
    "unsafe_checkpoint": CorruptCheckpoint,
    "unsafe_state": CorruptCheckpoint,
    "other_model": CorruptCheckpoint,
    "disk_full": DiskFull,
    "no_token": WrongToken,
    "wrong_token": WrongToken,
    "too_many_wrong_tokens": WrongToken,
    # these are nobody's wrong input, but have no status of their own
    "error": TsuzukuError,
    "export_differs": TsuzukuError,
    "failed": TsuzukuError,
    "missing_package": TsuzukuError,
    "no_route": TsuzukuError,
    "not_permitted": TsuzukuError,
    "out_of_memory": TsuzukuError,
    "training_failed": TsuzukuError,
    "write_failed": TsuzukuError,
}
"""Kinds that a status alone does not tell."""

BY_STATUS: dict[int, type[TsuzukuError]] = {
    400: WrongInput,
    403: WrongInput,
    404: NotFound,
    409: Busy,
    413: WrongInput,
    415: WrongInput,
    422: WrongInput,
    507: DiskFull,
}


def error_from(url: str, status: int, body: bytes) -> TsuzukuError:
    """The error that the answer of the server at `url` stands for."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "?"
        return TsuzukuError(
            f"{url} answers with {status} {phrase}, and not as a Tsuzuku server does.",
            "Is that its address, and is every proxy on the way set up for it?",
            code="not_tsuzuku",
        )
    kind = BY_CODE.get(problem.code) or BY_STATUS.get(status, TsuzukuError)
    hint = problem.hint
    if status == 401:
        hint = "Give it in the environment variable TSUZUKU_TOKEN, or as `Client(…, token=…)`."
    return kind(problem.detail, hint, code=problem.code)
