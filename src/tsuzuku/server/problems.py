"""Errors as answers: `{"detail", "code", "hint"}` with the right status, and never a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tsuzuku.core.answers import Problem
from tsuzuku.core.errors import (
    Busy,
    CorruptCheckpoint,
    DiskFull,
    NotFound,
    TsuzukuError,
    WrongInput,
    full_stop,
)

STATUSES: tuple[tuple[type[TsuzukuError], int], ...] = (
    (NotFound, 404),
    (Busy, 409),
    (WrongInput, 400),
    (CorruptCheckpoint, 409),
    (DiskFull, 507),
)

DESCRIPTIONS: Mapping[int, str] = {
    400: "Something that was asked for cannot be: an unknown name, a bad setting, missing data.",
    401: "The server asks for its token.",
    403: "The request comes from another site, or under a name that is not this server's.",
    404: "There is nothing of that name.",
    409: "It is in use, a training is running, or the file is damaged.",
    413: "The body is too large.",
    415: "Not a kind of file that a model takes.",
    422: "The request is malformed.",
    429: "Too many wrong tokens came from this address.",
    507: "The disk is full.",
}

ANYWHERE = (400, 401, 403, 413, 429, 507)
"""What the guard around all routes answers, and a full disk."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these statuses."""
    return {s: {"model": Problem, "description": DESCRIPTIONS[s]} for s in statuses}


def status_of(error: TsuzukuError) -> int:
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 400)


def handle_errors(app: FastAPI) -> None:
    """Let `app` answer every error in the one shape."""
    app.add_exception_handler(TsuzukuError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)


def answer(
    status: int, detail: str, code: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    body = Problem(detail=detail, code=code, hint=hint)
    return JSONResponse(body.model_dump(), status, headers)


def _ours(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TsuzukuError)
    return answer(status_of(error), full_stop(error.detail), error.code, error.hint)


def _malformed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    sentences: list[str] = []
    for item in error.errors():
        where = [str(part) for part in item["loc"] if part not in ("body", "query", "path")]
        said = str(item["msg"]).removeprefix("Value error, ")
        sentences.append(f"{'.'.join(where)}: {said}" if where else said)
    detail = full_stop("; ".join(sentences[:20]))
    return answer(422, detail, "malformed", "See /docs for what this call takes.")


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    detail = full_stop(error.detail if isinstance(error.detail, str) else phrase)  # pyright: ignore[reportUnnecessaryIsInstance]
    code = {404: "no_route", 405: "wrong_method"}.get(error.status_code, "malformed")
    hint = "See /docs for all calls." if error.status_code in (404, 405) else ""
    return answer(error.status_code, detail, code, hint, error.headers)
