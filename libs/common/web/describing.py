"""The OpenAPI document, mended: what no model says stands there all the same."""

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from libs.common.auth import scope_of
from libs.common.problems import MEDIA_TYPE, ProblemOut
from libs.common.web.idempotency import KEPT_HOURS, LONGEST_KEY, TAKEN_OVER_MINUTES

REFERENCE = "#/components/schemas/{model}"
PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model="ProblemOut")}}}
"""Content of an answer that is a problem document."""
_OF_PARAMETERS = ("404",)
_OF_CHANGES = ("400", "409", "413")
_OF_BODIES = ("415",)
_OF_IDEMPOTENCY_KEYS = {
    "409": "a request with its Idempotency-Key is under way",
    "422": "its Idempotency-Key is another request's",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": f"The same request again with the same key within {KEPT_HOURS} hours is done once, and answered the"
    " same, but where the operation says otherwise. When the API was killed before it had noted the answer, it is 409"
    f" for {TAKEN_OVER_MINUTES} minutes, and then done, if nothing of it had been; else it stays 409"
    " (`outcome_unknown`) for those hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
}


def mend(document: dict[str, Any], routes: Sequence[BaseRoute]) -> None:
    """Mends what FastAPI made of the routes."""
    _, problem = models_json_schema([(ProblemOut, "serialization")], ref_template=REFERENCE)
    components = document.setdefault("components", {})
    components["schemas"] = dict(sorted((components.get("schemas", {}) | problem["$defs"]).items()))
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _mend_answers(method, operation)
    # Those of included routers are seen by these contexts alone.
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute) and (scope := _scope(route.dependant)) is not None:
            for method in route.methods or ():
                _tell_scope(document["paths"][route.path_format][method.lower()], method, scope)


def _mend_answers(method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    for status, needed in (
        *((status, operation.get("parameters") or method == "delete") for status in _OF_PARAMETERS),
        *((status, method != "get" and (status != "409" or operation.get("security") != [])) for status in _OF_CHANGES),
        *((status, "requestBody" in operation) for status in _OF_BODIES),
    ):
        if (answer := answers.get(status)) is None:
            continue
        if "content" not in answer:
            # The route's own words, in place of what is said of all of them.
            answer["content"] = PROBLEM
        elif not needed:
            del answers[status]


def _tell_scope(operation: dict[str, Any], method: str, scope: str) -> None:
    told = f"Needs a key with the scope `{scope}`."
    operation["description"] = f"{operation['description']}\n\n{told}" if operation.get("description") else told
    if method == "POST":
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
        answers = operation["responses"]
        for status, also in _OF_IDEMPOTENCY_KEYS.items():
            # Where the route has words of its own, those are added to, too.
            told = answers[status]["description"].removesuffix(".")
            answers[status] = answers[status] | {"description": f"{told}; or {also}."}


def _scope(dependant: Dependant) -> str | None:
    return next((scope for call in _calls(dependant) if (scope := scope_of(call)) is not None), None)


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)
