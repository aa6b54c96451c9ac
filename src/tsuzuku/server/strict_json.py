"""JSON as its standard has it: no NaN, no infinity, no number that becomes one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


class StrictRoute(APIRoute):
    """A route that refuses a JSON body with numbers that are none (422)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == "application/json" or kind.endswith("+json") or not kind:
                _check(await request.body())
            return await handler(request)

        return strict


def _check(body: bytes) -> None:
    if not body:
        return
    try:
        json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except RequestValidationError:
        raise
    except (ValueError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _error(f"The body is not JSON: {message}") from None


def _refuse(constant: str) -> Any:
    raise _error(f"{constant} is no number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _error(f"{digits} is too large for a number")
    return value


def _error(message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": message}])
