"""Around every API request: its id, trace, log line, metrics, security headers, and the answer to errors.

Pure ASGI, and not around webhooks: their route is measured in microseconds and does all this for itself.
"""

import re
from http import HTTPStatus
from urllib.parse import parse_qsl

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.common.clock import monotonic
from libs.common.ids import new_id
from libs.common.problems import NUL, FieldError, Problem, from_error, json_pointer, respond
from libs.common.telemetry import continue_trace, get_logger, request_context

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
_READING = frozenset({"GET", "HEAD"})
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}", re.ASCII)

REQUESTS = Counter("regulars_api_requests_total", "API requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "regulars_api_request_seconds",
    "Seconds from an API request's arrival to the end of its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

log = get_logger(__name__)


def _nul(scope: Scope) -> Problem | None:
    """A NUL in a query: no text that we keep has one, so nothing can be found by it."""
    if b"%00" in scope["query_string"]:
        named = [name for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if "\0" in name + value]
        return Problem(422, "invalid", "The request is not valid.", [_nul_in(name) for name in named])
    return None


def _nul_in(name: str) -> FieldError:
    name = name.replace("\0", "")
    return FieldError(json_pointer([name]), NUL, name)


class RequestContext:
    """The outermost middleware, but for `ForPages`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with `X-Request-Id`: the caller's, if he sent a sane one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        identifier = given if REQUEST_ID.fullmatch(given) else new_id()
        with request_context(identifier, continue_trace(headers.get("traceparent"))):
            await self._answer(scope, receive, send, identifier)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, identifier: str) -> None:
        began = monotonic()
        status = 0
        state = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["x-request-id"] = identifier
                for name, value in (SECURITY_HEADERS | state.get("answer_headers", {})).items():
                    answered.setdefault(name, value)
            await send(message)

        try:
            if problem := _nul(scope):
                await respond(problem)(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                # Half an answer is out: only a broken connection can tell the caller.
                raise
            await respond(from_error(error))(scope, receive, send_with_headers)
        finally:
            self._count(scope, status or HTTPStatus.INTERNAL_SERVER_ERROR, monotonic() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, not the path: a path may hold an e-mail address, and labels must be bounded.
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"] if scope["method"] in {"GET", "POST", "PUT", "PATCH", "DELETE"} else "OTHER"
        REQUESTS.labels(method, route, str(status)).inc()
        SECONDS.labels(route).observe(seconds)
        if scope["path"] not in PROBES:
            # What was only read, and well, is counted above: who looks each second would bury what has happened.
            tell = log.debug if scope["method"] in _READING and status < HTTPStatus.BAD_REQUEST else log.info
            tell("answered", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
