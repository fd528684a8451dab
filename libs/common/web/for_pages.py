"""Paths that pages of some origins may ask: their browsers send what they like there.

Whatever is answered there, any page may read. A refusal that a page cannot read is, to it, a network that is down, and
there is nothing in one that who sends without a browser is not told as well. Cookies and the like count for nothing.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from starlette.datastructures import Headers, QueryParams
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.problems import Problem, respond

PREFLIGHT_SECONDS = 3600

MayAsk = Callable[[QueryParams, str], bool]
"""By what stands behind the address's `?`, and the page's origin."""


class _Preflights(CORSMiddleware):
    """Starlette's, which has a plain text for what it refuses: here another method than POST."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """A problem document in place of the text."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != HTTPStatus.BAD_REQUEST:
            return answer
        told = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return respond(Problem(400, "bad_request", "Pages may send nothing but POST here.", headers=told))


class ForPages:
    """Middleware, outside of all others. It answers preflights by itself, but those that it does not grant."""

    def __init__(self, app: ASGIApp, paths: Mapping[str, MayAsk]) -> None:
        self._app = app
        self._paths = paths
        self._opened = _Preflights(
            app,
            # Which origins, is asked here. By its name each time: `*` is not for requests with credentials, as a
            # beacon's always are.
            allow_origin_regex=".*",
            allow_credentials=True,
            allow_methods=["POST"],
            # What measures a page puts headers of its own into whatever it sends.
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
            allow_private_network=True,
            max_age=PREFLIGHT_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on, or answers a preflight."""
        app = self._opened if scope["type"] == "http" and self._opens(scope) else self._app
        await app(scope, receive, send)

    def _opens(self, scope: Scope) -> bool:
        may_ask = self._paths.get(scope["path"])
        if may_ask is None or scope["method"] != "OPTIONS":
            return may_ask is not None
        return may_ask(QueryParams(scope["query_string"]), Headers(scope=scope).get("origin", ""))
