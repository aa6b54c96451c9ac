"""Requests to one server: addresses, tokens, time limits, files."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from tsuzuku.client.problems import Unreachable, error_from
from tsuzuku.core.errors import DiskFull, TsuzukuError, WrongInput

A = TypeVar("A", bound=BaseModel)

LONG = 3600.0
"""Seconds that a call may take for which the server has to load data or a model."""


class Transport:
    """Sends requests and reads answers; may be used from any thread."""

    def __init__(self, base_url: str, token: str | None, timeout: float) -> None:
        """Raises WrongInput for an address or a token that cannot be one."""
        self.url = checked_url(base_url)
        self.token = _checked_token(token or os.environ.get("TSUZUKU_TOKEN") or None)
        self.timeout = timeout
        self.local = _is_loopback(self.url)
        """Whether it is on this machine, to which no proxy is needed."""
        headers = {b"authorization": b"Bearer " + self.token.encode()} if self.token else {}
        self._http = httpx.Client(headers=headers, timeout=timeout, trust_env=not self.local)

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        kind: type[A],
        method: str,
        path: str,
        *,
        patience: float | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> A:
        """The answer to a request, as `kind`; None in `query` and `body` is left out.

        Raises what the server says went wrong, and Unreachable if nobody answers in time.
        """
        given = {k: v for k, v in (query or {}).items() if v is not None}
        if body is not None:
            more["json"] = {k: v for k, v in body.items() if v is not None}
        limit = httpx.Timeout(self.timeout, read=patience or self.timeout)
        with self._explained(patience):
            request = self._http.build_request(
                method, self.url + path, params=given, timeout=limit, **more
            )
            response = self._sent(request)
        if response.status_code >= 300:
            raise error_from(self.url, response.status_code, response.content)
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise error_from(self.url, response.status_code, b"") from None

    def save(self, path: str, target: Path, sha256: str = "") -> Path:
        """Download a file to `target`, which is there as a whole or not at all.

        Raises TsuzukuError if it does not arrive with that hash, DiskFull or WrongInput where it
        cannot be written.
        """
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            found = self._stream(path, draft)
            if sha256 and found != sha256:
                raise TsuzukuError(f"{target.name} was altered on its way: its SHA-256 differs.")
            draft.replace(target)
        except OSError as error:
            raise _unwritable(target, error) from None
        finally:
            draft.unlink(missing_ok=True)
        return target

    def _stream(self, path: str, draft: Path) -> str:
        """Write what comes to `draft` and the disk; its SHA-256."""
        draft.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with self._explained(), self._http.stream("GET", self.url + path) as response:
            if response.status_code >= 300:
                raise error_from(self.url, response.status_code, response.read())
            with draft.open("wb") as file:
                for part in response.iter_bytes():
                    digest.update(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        return digest.hexdigest()

    def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            if request.method != "GET":
                raise
            return self._http.send(request)  # the server closed an idle connection just then

    @contextmanager
    def _explained(self, patience: float | None = None) -> Generator[None]:
        try:
            yield
        except httpx.ConnectTimeout:
            raise unreachable(self.url, "it does not answer") from None
        except httpx.TimeoutException:
            seconds = f"{patience or self.timeout:g}"
            raise unreachable(self.url, f"no answer in {seconds} seconds") from None
        except httpx.HTTPError as error:
            raise unreachable(self.url, _reason(error)) from None


def unreachable(url: str, why: str) -> Unreachable:
    return Unreachable(
        f"The server at {url} cannot be reached: {why}.", "`tsuzuku serve` starts one."
    )


def checked_url(text: str) -> str:
    """An address as `http://host:port/path` without a slash at its end."""
    whole = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(whole)
        _ = parts.port
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good, parts = False, urlsplit("")
    if not good or parts.query or parts.fragment or not whole.isprintable():
        raise WrongInput(
            f"{text!r} is not the address of a server.", "It looks like http://127.0.0.1:8000."
        )
    if parts.username is not None or parts.password is not None:
        raise WrongInput(
            "An address with a password is not taken.", "TSUZUKU_TOKEN is where a token belongs."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _checked_token(token: str | None) -> str | None:
    if token is not None and not (token.isprintable() and token.strip()):
        raise WrongInput("The token has characters that no token has.", "Is it cut or doubled?")
    return token.strip() if token else None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _reason(error: Exception) -> str:
    """The first thing that the operating system or the library said, without a full stop."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error).rstrip(".") or type(error).__name__


def _unwritable(target: Path, error: OSError) -> TsuzukuError:
    if error.errno == errno.ENOSPC:
        return DiskFull(f"There is no room for {target}.")
    return WrongInput(f"{target} cannot be written: {error.strerror or error}.")
