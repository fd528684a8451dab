"""What every route expects of its query and path parameters, checked before it runs."""

from collections import Counter
from typing import cast

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute

from libs.common.problems import NUL, FieldError, Problem

_known: dict[int, tuple[APIRoute, frozenset[str]]] = {}
"""Names by the route's identity, and the route itself: were it gone, another one could have its identity."""


async def sound_parameters(request: Request) -> None:
    """A dependency. Problem 422, naming each parameter that the route does not have, that comes twice, or holds a NUL.

    A misspelt filter is not a filter: without this it would answer with more than was asked for.
    """
    route = cast("APIRoute", request.scope["route"])
    if id(route) not in _known:
        fields = get_flat_params(route.dependant)
        names = frozenset(field.alias for field in fields if isinstance(field.field_info, Query))
        _known[id(route)] = (route, names)
    _, known = _known[id(route)]
    given = request.query_params.multi_items()
    wrong = [
        FieldError(f"/{name}", f"There is no such parameter here. Known: {', '.join(sorted(known)) or 'none'}.", name)
        for name in dict.fromkeys(name for name, _ in given)
        if name not in known
    ]
    # No route takes a list: of two, one would be overlooked.
    wrong += [
        FieldError(f"/{name}", "This is given more than once.", name)
        for name, times in Counter(name for name, _ in given if name in known).items()
        if times > 1
    ]
    wrong += [
        FieldError(f"/{name}", NUL, name)
        for name, value in (*given, *request.path_params.items())
        if name not in {error.parameter for error in wrong} and "\0" in str(value)
    ]
    if wrong:
        raise Problem(422, "invalid", "The request is not valid.", wrong)
