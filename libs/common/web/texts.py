"""What every route expects of the texts in its JSON body, checked before it runs."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

from fastapi import Request
from fastapi.routing import APIRoute

from libs.common.problems import HALF, MOST_ERRORS, NUL, FieldError, Problem, calls_itself_json, json_pointer

MOST_LOOKED_AT = 100_000
"""Values: some 20 ms. Of a body with more the route itself finds out."""
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\xed[\xa0-\xbf]|\x00")
"""NUL, or a surrogate: escaped, in UTF-8, or in UTF-16, which `json` reads as well."""
_SURROGATE = re.compile("[\ud800-\udfff]")


async def sound_texts(request: Request) -> None:
    """A dependency. Problem 422, naming each text that PostgreSQL cannot hold; of a name, the object that has it."""
    route = cast("APIRoute", request.scope["route"])
    if route.body_field is None or not calls_itself_json(request):
        return
    if _SUSPECT.search(request.scope["state"]["body"]) is None:
        return
    # FastAPI has read it already, and the request keeps that.
    found = _unsound(await request.json())
    wrong = list(islice(found, MOST_ERRORS))
    if wrong:
        raise Problem(422, "invalid", "The request is not valid.", wrong, sum(1 for _ in found))


def _unsound(raw: Any) -> Iterator[FieldError]:
    """Not by recursion: a body may be nested as deep as `json` reads."""
    place: list[str | int] = [""]
    opened: list[Iterator[tuple[str | int, Any]]] = [iter([("", raw)])]
    left = MOST_LOOKED_AT
    while opened and left > 0:
        for name, value in opened[-1]:
            left -= 1
            place[len(opened) - 1 :] = [name]
            if (why := _why(name)) is not None:
                # Nor could a pointer name what is behind it.
                yield FieldError(json_pointer(place[1:-1]), why.replace("A text", "A name", 1))
            elif (why := _why(value)) is not None:
                yield FieldError(json_pointer(place[1:]), why)
            elif isinstance(value, dict):
                opened.append(iter(value.items()))
                break
            elif isinstance(value, list):
                opened.append(iter(enumerate(value)))
                break
            if left <= 0:
                return
        else:
            opened.pop()


def _why(text: Any) -> str | None:
    """What is wrong with it, if it is a text."""
    if not isinstance(text, str):
        return None
    if "\0" in text:
        return NUL
    return HALF if _SURROGATE.search(text) else None
