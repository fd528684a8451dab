"""Errors of the API: RFC 9457 problem documents, with a JSON pointer for each bad field and never the value itself."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Annotated, Any, cast

import asyncpg
import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response

from libs.common.db import cause_of, is_transient
from libs.common.telemetry import get_logger, request_id

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MOST_ERRORS = 20
"""Of a document; others are counted."""
LONGEST_POINTER = 200
LONGEST_DETAIL = 500
NO_NUL = r"^[^\x00]*$"
"""Pattern of a text that PostgreSQL keeps."""
NUL = "A text cannot hold a NUL character."
HALF = "A text cannot hold half of a surrogate pair."

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field. `pointer`: JSON pointer into the body (`/secrets/0`) or to the parameter (`/limit`)."""

    pointer: str
    detail: str
    parameter: str | None = None
    """Name of the query, path or header parameter, when the field is not in the body."""


@dataclass
class Problem(Exception):
    """Raise it anywhere below a route: it becomes the answer. `code` is stable and meant for programs."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    left_out: int = 0
    """Errors that are not among them."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


class FieldErrorOut(BaseModel):
    """A bad field, as answered."""

    pointer: str
    detail: str
    parameter: str | None = None


class ProblemOut(BaseModel):
    """A problem document, as answered."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: Annotated[list[FieldErrorOut], Field(description=f"At most {MOST_ERRORS}.")] = []
    errors_left_out: Annotated[int, Field(description="How many there are besides; absent when there are none.")] = 0


def not_found(what: str) -> Problem:
    """404; `what` is a noun, never the looked-up value."""
    return Problem(404, "not_found", f"There is no such {what}.")


def not_found_by(name: str, what: str, besides: str = "") -> Problem:
    """404 about what a query parameter names. `besides`: what else may be so, as a sentence."""
    detail = f"There is no such {what}."
    return Problem(404, "not_found", f"{detail} {besides}".strip(), [FieldError(f"/{name}", f"Names no {what}.", name)])


def invalid(pointer: str, detail: str) -> Problem:
    """422 about a single field of the body."""
    return Problem(422, "invalid", "The request is not valid.", [FieldError(pointer, detail)])


def invalid_parameter(name: str, detail: str) -> Problem:
    """422 about a single query or path parameter."""
    return Problem(422, "invalid", "The request is not valid.", [FieldError(f"/{name}", detail, name)])


def respond(problem: Problem) -> Response:
    """The answer for a problem."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
    }
    if (identifier := request_id()) is not None:
        body["request_id"] = identifier
    if problem.errors:
        shown = told(problem.errors)
        body["errors"] = [_rendered(error) for error in shown]
        if left_out := problem.left_out + len(problem.errors) - len(shown):
            body["errors_left_out"] = left_out
    return Response(msgspec.json.encode(body), problem.status, dict(problem.headers), MEDIA_TYPE)


def install(app: Starlette) -> None:
    """Makes the errors that routes raise problem documents; `web.context` does it for those that none foresaw."""
    app.add_exception_handler(Problem, _let_go(_on_problem))
    app.add_exception_handler(RequestValidationError, _let_go(_on_invalid))
    app.add_exception_handler(HTTPException, _let_go(_on_http))


Handler = Callable[[Request, Exception], Awaitable[Response]]


def _let_go(handler: Handler) -> Handler:
    """The error is done with once it is answered.

    FastAPI raises its own by a name of the frame that the traceback holds: a ring, in which the body, and all that was
    read from it, would stay until the garbage collector comes by.
    """

    async def handle(request: Request, error: Exception) -> Response:
        try:
            return await handler(request, error)
        finally:
            error.__traceback__ = error.__cause__ = error.__context__ = None

    return handle


def from_error(error: Exception) -> Problem:
    """What a caller may know of an error that no route foresaw: that the database is away, or nothing at all."""
    if is_transient(error):
        log.warning("database is away", error=type(error).__name__)
        return Problem(
            503,
            "unavailable",
            "The database does not answer at the moment. Try again.",
            headers={"retry-after": str(RETRY_AFTER_SECONDS)},
        )
    if _cannot_be_stored(error):
        detail = "A text holds a character, or a number is of a size, that cannot be stored."
        return Problem(422, "invalid", detail, [FieldError("", detail)])
    log.error("unexpected error", exc_info=error)
    return Problem(500, "internal", "Something went wrong on our side. It was logged with this request's id.")


def _cannot_be_stored(error: BaseException) -> bool:
    """NUL characters, lone surrogates, numbers beyond 64 bits: legal JSON that PostgreSQL's types do not hold."""
    error = cause_of(error)
    if isinstance(error, asyncpg.DataError):
        return isinstance(error.__cause__, (UnicodeEncodeError, OverflowError, ValueError)) or isinstance(
            error, (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
        )
    return isinstance(error, UnicodeEncodeError)


def json_pointer(parts: Sequence[str | int]) -> str:
    """RFC 6901: `("secrets", 0)` is `/secrets/0`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def told(errors: Sequence[FieldError], most: int = MOST_ERRORS) -> list[FieldError]:
    """The first of them, in not too many words: a pointer may hold whatever name somebody thought of."""
    return [
        replace(each, pointer=_cut(each.pointer, LONGEST_POINTER), detail=_cut(each.detail, LONGEST_DETAIL))
        for each in errors[:most]
    ]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _rendered(error: FieldError) -> dict[str, str]:
    rendered = {"pointer": error.pointer, "detail": error.detail}
    if error.parameter is not None:
        rendered["parameter"] = error.parameter
    return rendered


async def _on_problem(_: Request, error: Exception) -> Response:
    return respond(cast("Problem", error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    entries = cast("RequestValidationError", error).errors()
    if not calls_itself_json(request) and any(
        entry["loc"] == ("body",) and entry["type"] != "missing" for entry in entries
    ):
        # Such a body is not parsed, and what is said of it then is not what is wrong.
        detail = "Send the body as application/json."
        wrong = FieldError("/content-type", detail, "content-type")
        return respond(Problem(415, "unsupported_media_type", detail, [wrong], headers={"accept": "application/json"}))
    fields = [field_error(entry["loc"], entry) for entry in entries]
    if any(entry["type"] == "json_invalid" for entry in entries):
        return respond(Problem(400, "invalid_json", "The body is not JSON.", fields))
    return respond(Problem(422, "invalid", "The request is not valid.", fields))


def calls_itself_json(request: Request) -> bool:
    """Whether FastAPI takes its body for JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _unreadable(error: ValueError | RecursionError) -> str:
    match error:
        case RecursionError():
            return "it is nested too deep"
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case _:
            return "a number has too many digits"


def no_json(why: object) -> FieldError:
    """The body as a whole, and where it stops being JSON."""
    return FieldError("", f"This is not JSON: {why}.")


def field_error(location: Sequence[str | int], fault: Mapping[str, Any]) -> FieldError:
    """What pydantic says is wrong; `location` begins with `body`, or with where else the parameter stands."""
    place, *parts = location
    if fault["type"] == "json_invalid":
        # Its location is a character offset, and says nothing about a field.
        return no_json(fault["ctx"]["error"])
    detail = _said(fault)
    if place == "body":
        return FieldError(json_pointer(parts), detail)
    if place == "query" and str(fault["type"]).startswith("datetime") and " " in str(fault.get("input")):
        detail = with_plus(detail)
    return FieldError(json_pointer(parts), detail, str(parts[0]) if parts else None)


def with_plus(detail: str) -> str:
    """Of a time with a blank in it: an offset's plus, for which an address takes it."""
    return f"{detail.removesuffix('.')} (`+` is `%2B` in an address)."


_SAYINGS = {
    "missing": "This is missing.",
    "extra_forbidden": "There is no such field here.",
    "literal_error": "This is none of {expected}.",
    "string_type": "This is not a text.",
    "string_unicode": HALF,
    "string_too_short": "This is shorter than {min_length} characters.",
    "string_too_long": "This is longer than {max_length} characters.",
    "string_pattern_mismatch": "This is not written like {pattern}.",
    "too_short": "This has fewer than {min_length}, of characters or of entries.",
    "too_long": "This has more than {max_length}, of characters or of entries.",
    "greater_than": "This is not more than {gt}.",
    "greater_than_equal": "This is less than {ge}.",
    "less_than": "This is not less than {lt}.",
    "less_than_equal": "This is more than {le}.",
    "finite_number": "This is not a finite number.",
    "timezone_aware": "This time has no offset, as in 2026-03-02T12:00:00Z.",
}
"""What we say of a kind of pydantic's faults, in the words that its context fills in."""
_SORTS = {
    "bool": "true or false",
    "date": "a date",
    "datetime": "a time as RFC 3339 has it",
    "dict": "an object",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "an object",
    "uuid": "a UUID",
}
"""By the first word of a kind such as `int_parsing`: what it should have been."""


def _said(fault: Mapping[str, Any]) -> str:
    """One voice, whoever found the fault: what pydantic says by itself speaks of its own classes."""
    kind = str(fault["type"])
    if kind == "string_pattern_mismatch" and fault["ctx"]["pattern"] == NO_NUL:
        return NUL
    if kind == "string_too_short" and fault["ctx"]["min_length"] == 1:
        return "This is empty."
    if kind in _SAYINGS:
        return _SAYINGS[kind].format_map(fault.get("ctx") or {})
    if (sort := _SORTS.get(kind.partition("_")[0])) is not None and "_" in kind:
        return f"This is not {sort}."
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message if message.endswith((".", "!", "?")) else f"{message}."


async def _on_http(request: Request, raised: Exception) -> Response:
    error = cast("HTTPException", raised)
    code = "http_error"
    with contextlib.suppress(ValueError):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("'", "")
    details = {404: "There is nothing at this address.", 405: "The address does not take this method."}
    detail = details.get(error.status_code, str(error.detail))
    if error.status_code == HTTPStatus.BAD_REQUEST and isinstance(error.__cause__, (ValueError, RecursionError)):
        # FastAPI says this of a body that json does not read for another reason than its grammar.
        return respond(Problem(400, "invalid_json", "The body is not JSON.", [no_json(_unreadable(error.__cause__))]))
    headers = error.headers or {}
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"allow": ", ".join(sorted(_methods_at(request)))}
    return respond(Problem(error.status_code, code, detail, headers=headers))


def _methods_at(request: Request) -> set[str]:
    """Those of all routes of its address: whoever raises a 405 names one route's."""
    routes = iter_route_contexts(request.app.routes)
    methods = {
        method for route in routes if route.path_regex.match(request.scope["path"]) for method in route.methods or ()
    }
    return methods | {"HEAD"} if "GET" in methods else methods
