"""Errors of the API: RFC 9457 problem documents, with a JSON pointer for each bad field and never the value itself."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from libs.common.db import is_transient
from libs.common.telemetry import get_logger, request_id

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2

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
    errors: list[FieldErrorOut] = []


def not_found(what: str) -> Problem:
    """404; `what` is a noun, never the looked-up value."""
    return Problem(404, "not_found", f"There is no such {what}.")


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
        body["errors"] = [_rendered(error) for error in problem.errors]
    return Response(msgspec.json.encode(body), problem.status, dict(problem.headers), MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes the errors that routes raise problem documents; `web.middleware` does it for those that none foresaw."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def from_error(error: Exception) -> Problem:
    """What a caller may know of an error that no route foresaw: that the database is away, or nothing at all."""
    if is_transient(error) or isinstance(error, PoolTimeout):
        log.warning("database is away", error=type(error).__name__)
        return Problem(
            503,
            "unavailable",
            "The database does not answer at the moment. Try again.",
            headers={"retry-after": str(RETRY_AFTER_SECONDS)},
        )
    log.error("unexpected error", exc_info=error)
    return Problem(500, "internal", "Something went wrong on our side. It was logged with this request's id.")


def json_pointer(parts: Sequence[str | int]) -> str:
    """RFC 6901: `("secrets", 0)` is `/secrets/0`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _rendered(error: FieldError) -> dict[str, str]:
    rendered = {"pointer": error.pointer, "detail": error.detail}
    if error.parameter is not None:
        rendered["parameter"] = error.parameter
    return rendered


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field_error(entry["loc"], entry["type"], entry["msg"]) for entry in error.errors()]
    if any(entry["type"] == "json_invalid" for entry in error.errors()):
        return respond(Problem(400, "invalid_json", "The body is not JSON.", fields))
    return respond(Problem(422, "invalid", "The request is not valid.", fields))


def _field_error(location: Sequence[str | int], kind: str, message: str) -> FieldError:
    place, *parts = location
    if kind == "json_invalid":
        # Its location is a character offset, and says nothing about a field.
        return FieldError("", message)
    if place == "body":
        return FieldError(json_pointer(parts), message)
    return FieldError(json_pointer(parts), message, str(parts[0]) if parts else None)


async def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "http_error"
    with contextlib.suppress(ValueError):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("'", "")
    details = {404: "There is nothing at this address.", 405: "The address does not take this method."}
    detail = details.get(error.status_code, str(error.detail))
    return respond(Problem(error.status_code, code, detail, headers=error.headers or {}))
