"""How commands speak to a running installation's API."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import httpx

Address = Annotated[str, typer.Option("--url", envvar="REGULARS_URL", help="Where the API answers.")]
Key = Annotated[str | None, typer.Option("--key", envvar="REGULARS_KEY", help="An API key.", show_default=False)]
LOCAL = "http://127.0.0.1:8080"


class Away(Exception):
    """Nothing answers there, or what does cannot answer yet."""


def ask(
    method: str, url: str, key: str | None, path: str, options: Mapping[str, str] | None = None, **request: Any
) -> Any:
    """The answer's JSON. Ends the command, saying why, when there is no good one.

    `options`: pointers of the request that the command has options for, with the options' names.
    """
    try:
        return answered(method, url, key, path, options, **request)
    except Away as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


def answered(
    method: str, url: str, key: str | None, path: str, options: Mapping[str, str] | None = None, **request: Any
) -> Any:
    """As `ask`, but for who can wait: raises Away when it may be otherwise in a moment."""
    import os
    from http import HTTPStatus

    import httpx

    if not (key := key or os.environ.get("REGULARS_ADMIN_KEY")):
        print("which API key? --key, or REGULARS_KEY", file=sys.stderr)
        raise typer.Exit(2)
    if "params" in request:
        request["params"] = {name: value for name, value in request["params"].items() if value is not None}
    try:
        headers = {"authorization": f"Bearer {in_a_header(key, '--key')}"}
        answer = httpx.request(method, url.strip().rstrip("/") + path, headers=headers, timeout=60, **request)
    except httpx.InvalidURL as error:
        print(f"--url, or REGULARS_URL: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    except httpx.TransportError as error:
        raise Away(f"nothing answers at {url} (--url, or REGULARS_URL): {error}") from error
    if answer.is_error:
        told = _told(answer, options or {})
        if answer.status_code in {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}:
            raise Away(told)
        print(told, file=sys.stderr)
        raise typer.Exit(1)
    return answer.json()


def in_a_header(text: str, option: str) -> str:
    """Without blanks and line ends around it, as files and clipboards add them.

    Ends the command when no header can carry it, and does not print it: it may be a key.
    """
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable():
        print(f"{option}: this must be printable ASCII characters", file=sys.stderr)
        raise typer.Exit(2)
    return text


def _told(answer: "httpx.Response", options: Mapping[str, str]) -> str:
    """What is wrong, in one line. What stands in front of the API writes no problem documents."""
    try:
        problem = answer.json()
        errors = problem.get("errors", ())
        fields = [f"{_place(error, options)}{error['detail']}" for error in errors]
        return " ".join([problem["detail"], *fields])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.url} answers {answer.status_code}"


def _place(error: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """What the caller knows the field by; nothing where an error is about all that was sent."""
    place = options.get(error["pointer"]) or error.get("parameter") or error["pointer"]
    return f"{place}: " if place else ""
