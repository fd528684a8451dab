"""What every route expects of the texts in its JSON body, checked before it runs."""

import re
from collections.abc import Iterator
from typing import Any, cast

from fastapi import Request
from fastapi.routing import APIRoute

from libs.common.problems import HALF, MOST_ERRORS, NUL, FieldError, Problem, calls_itself_json, json_pointer

MOST_LOOKED_AT = 50_000
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
    wrong, left_out = _unsound(await request.json())
    if wrong:
        raise Problem(422, "invalid", "The request is not valid.", wrong, left_out)


def _unsound(raw: Any) -> tuple[list[FieldError], int]:
    """The first errors, and how many there are besides: to write a thousand pointers of a deep body takes a second.

    Not by recursion: a body may be nested as deep as `json` reads.
    """
    wrong: list[FieldError] = []
    found = looked = 0
    place: list[str | int] = [""]
    opened: list[Iterator[tuple[str | int, Any]]] = [iter([("", raw)])]
    while opened and looked < MOST_LOOKED_AT:
        for name, value in opened[-1]:
            looked += 1
            place[len(opened) - 1 :] = [name]
            # Behind a name that no pointer could name nothing is looked at.
            bad_name = _why(name) if isinstance(name, str) else None
            why = bad_name or (_why(value) if isinstance(value, str) else None)
            if why is not None:
                found += 1
                if found <= MOST_ERRORS:
                    detail = why.replace("A text", "A name", 1) if bad_name else why
                    wrong.append(FieldError(json_pointer(place[1:-1] if bad_name else place[1:]), detail))
            elif isinstance(value, dict):
                opened.append(iter(value.items()))
                break
            elif isinstance(value, list):
                opened.append(iter(enumerate(value)))
                break
            if looked >= MOST_LOOKED_AT:
                break
        else:
            opened.pop()
    return wrong, found - len(wrong)


def _why(text: str) -> str | None:
    """What is wrong with it."""
    if "\0" in text:
        return NUL
    return None if text.isascii() or not _SURROGATE.search(text) else HALF
