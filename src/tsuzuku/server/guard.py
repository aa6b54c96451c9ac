"""Who may talk to the server: around every route, every WebSocket and every mounted app.

A layer of plain ASGI, the outermost but for the log, so that nothing can be added beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from tsuzuku.core.errors import WrongInput
from tsuzuku.server import login
from tsuzuku.server.bodies import with_bounded_body
from tsuzuku.server.credentials import Credentials, Throttle, no_cookie, take_tokens
from tsuzuku.server.headers import PREFLIGHT_ANSWER, is_preflight, with_headers
from tsuzuku.server.origins import HostNames, Origins
from tsuzuku.server.paths import check_path
from tsuzuku.server.refusal import Answer, Refusal, header
from tsuzuku.server.tokens import SHORTEST, is_loopback

MIB = 1 << 20


@dataclass(frozen=True)
class Policy:
    """What the guard allows. Bounds are in bytes.

    `uploads` are the paths whose bodies may have `max_upload` bytes, `open_paths` those that need
    no token. A path that ends with `/` stands for everything below it.
    """

    host: str
    token: str | None = None
    allowed_hosts: Sequence[str] = ()
    allowed_origins: Sequence[str] = ()
    max_body: int = MIB
    max_upload: int = 200 * MIB
    # the dashboard's uploads go through Streamlit, which takes `max_upload` of them, too
    uploads: frozenset[str] = frozenset({"/api/inference", "/_stcore/upload_file/"})
    open_paths: frozenset[str] = frozenset({"/login", "/api/health"})


class Guard:
    """Lets a request through to `app`, or answers it: host, origin, path, token, size of body.

    Raises WrongInput if the policy would open the server to other machines without a token, or
    with one that can be guessed.
    """

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        if policy.token is None and not is_loopback(policy.host):
            raise WrongInput(
                f"A server on {policy.host!r} is open to other machines and needs a token.",
                "Set `server.token`, or listen on 127.0.0.1.",
                code="bad_setting",
            )
        if policy.token is not None and len(policy.token.strip()) < SHORTEST:
            raise WrongInput(
                f"The server's token is shorter than {SHORTEST} characters.", code="bad_setting"
            )
        self.app = app
        self.policy = policy
        self._names = HostNames(policy.host, policy.allowed_hosts)
        self._origins = Origins(policy.allowed_origins)
        self._credentials = Credentials(policy.token) if policy.token is not None else None
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        send = with_headers(scope, send, self._origins)
        try:
            answer = await self._admit(scope, receive)
            if answer is None:
                bound = self._bound(check_path(scope))
                await with_bounded_body(self.app, scope, receive, send, bound)
                return
        except Refusal as refusal:
            answer = refusal.answer()
        await answer(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Answer | None:
        """None for a request that may go on; raises Refusal, or answers it."""
        tokens = take_tokens(scope)
        host = self._names.check(scope)
        self._origins.check(scope, host)
        path = check_path(scope)
        if is_preflight(scope) and self._origins.allows(scope):
            return PREFLIGHT_ANSWER  # browsers send no token with it
        if scope["type"] == "http" and path == "/login":
            return await self._login(scope, receive, tokens)
        if scope.get("method") == "POST" and path == "/logout":
            home = "/login" if self._credentials else "/"
            return login.redirect(scope.get("root_path", "") + home, no_cookie(scope))
        if self._credentials is None or _listed(path, self.policy.open_paths):
            return None
        verdict = self._credentials.judge(scope, tokens)
        page = _wants_page(scope)
        if verdict == "right":
            if tokens and page:  # out of the address bar and of the history
                return login.redirect(login.same_page(scope), self._credentials.cookie(scope))
            return None
        if verdict == "wrong" and self._throttle.wrong(scope):
            raise _throttled()
        if page:
            return login.to_login(scope)
        raise _unauthorized(wrong=verdict == "wrong")

    async def _login(self, scope: Scope, receive: Receive, tokens: list[str]) -> Answer:
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise Refusal(
                405, "bad_method", "The login takes GET and POST.", headers=[("allow", "GET, POST")]
            )
        target, again = login.queried_target(scope)
        if self._credentials is None:
            return login.redirect(target)
        if scope["method"] == "POST":
            token, target = await login.read_form(scope, receive)
            if self._credentials.all_right([token]):
                return login.redirect(target, self._credentials.cookie(scope))
            return login.form_page(scope, target, 429 if self._throttle.wrong(scope) else 401)
        verdict = self._credentials.judge(scope, tokens)
        if verdict == "right":
            return login.redirect(target, self._credentials.cookie(scope))
        if verdict == "wrong" and self._throttle.wrong(scope):
            return login.form_page(scope, target, 429)
        if header(scope, b"sec-fetch-site").lower() in ("cross-site", "same-site") and not again:
            return login.bounce_page(scope, target)
        return login.form_page(scope, target)

    def _bound(self, path: str) -> int:
        large = _listed(path, self.policy.uploads)
        return self.policy.max_upload if large else self.policy.max_body


def _listed(path: str, paths: frozenset[str]) -> bool:
    return path in paths or any(path.startswith(one) for one in paths if one.endswith("/"))


def _wants_page(scope: Scope) -> bool:
    """Whether a person's browser asks for a page to show, not a program for data."""
    return (
        scope.get("method") in ("GET", "HEAD")
        and "text/html" in header(scope, b"accept").lower()
        and header(scope, b"sec-fetch-mode").lower() in ("", "navigate")
    )


def _unauthorized(*, wrong: bool) -> Refusal:
    return Refusal(
        401,
        "wrong_token" if wrong else "no_token",
        "That is not this server's token." if wrong else "This server asks for its token.",
        "Send `Authorization: Bearer TOKEN`, or log in at `/login`.",
        [("www-authenticate", 'Bearer error="invalid_token"' if wrong else "Bearer")],
    )


def _throttled() -> Refusal:
    return Refusal(
        429,
        "too_many_wrong_tokens",
        "Too many wrong tokens came from this address.",
        "Wait a minute. The right token is taken at any time.",
        [("retry-after", "60")],
    )
