"""Every endpoint that the OpenAPI document names, asked badly: the answer is a problem document that names the field.

The document is walked, not a list: an endpoint that is added is asked too.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from libs.common.clock import DrivenClock
from regulars.shop import shopify
from tests.conftest import START
from tests.e2e.api import ADMIN_KEY, Api, open_api
from tests.faults.traffic import SHOP, order, store

NO_KEY_NEEDED = (
    "/webhooks/",
    "/v1/browser/",
    "/u/",
    "/t/",
    "/v1/callbacks/",
    "/livez",
    "/readyz",
    "/metrics",
    "/version",
    "/openapi",
)
LIBRARY = re.compile(r"Input should|Field required|should have|not permitted|Value error|valid dictionary")
"""How pydantic speaks."""
UNKNOWN = "00000000-0000-7000-8000-000000000000"
WRONG: dict[str, object] = {
    "string": {"not": "a string"},
    "integer": "many",
    "number": "much",
    "boolean": "perhaps",
    "array": "not a list",
    "object": "not an object",
}


class Operation:
    """One method of one path, with what it takes."""

    def __init__(self, document: dict[str, Any], path: str, method: str, described: dict[str, Any]) -> None:
        self.document = document
        self.path = path
        self.method = method.upper()
        self.parameters = [self.resolved(parameter) for parameter in described.get("parameters", ())]
        content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
        self.body = self.resolved(content["schema"]) if "schema" in content else None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            name = node["$ref"].removeprefix("#/").split("/")
            node = self.document
            for part in name:
                node = node[part]
        return node

    def url(self) -> str:
        filled = self.path
        for parameter in self.parameters:
            if parameter["in"] == "path":
                kinds = self.resolved(parameter["schema"])
                value = kinds["enum"][0] if "enum" in kinds else UNKNOWN
                filled = filled.replace("{" + parameter["name"] + "}", value)
        return filled.replace("{", "").replace("}", "")


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if not path.startswith(NO_KEY_NEEDED):
                yield Operation(document, path, method, described)


@pytest_asyncio.fixture
async def api(
    database_url: str, clock: DrivenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    monkeypatch.setenv("REGULARS_DATABASE_URL", database_url)
    monkeypatch.setenv("REGULARS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REGULARS_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("REGULARS_RATE_LIMIT", "0")
    async with open_api(clock) as opened:
        yield opened


def assert_problem(answer: httpx.Response, status: int, asked: str, pointer: str | None = None) -> None:
    assert answer.status_code == status, f"{asked}: {answer.status_code} {answer.text[:300]}"
    assert answer.headers["content-type"].startswith("application/problem+json"), asked
    assert answer.headers["x-request-id"], asked
    problem = answer.json()
    assert {"type", "title", "status", "code", "detail"} <= problem.keys(), asked
    for error in problem.get("errors", ()):
        # In our words, whoever found it.
        assert error["detail"].endswith("."), f"{asked}: {problem}"
        assert not LIBRARY.search(error["detail"]), f"{asked}: {problem}"
    if pointer is not None:
        pointers = [error["pointer"] for error in problem.get("errors", ())]
        assert any(told == pointer or told.startswith(pointer + "/") for told in pointers), f"{asked}: {problem}"


async def test_every_endpoint_wants_a_key(api: Api) -> None:
    document = await api.document()
    asked = list(operations(document))
    assert len(asked) > 20
    for operation in asked:
        for headers in ({}, {"authorization": "Bearer rk_not_a_key"}, {"authorization": "Basic eDp5"}):
            answer = await api.anonymous.request(operation.method, operation.url(), headers=headers, json={})
            assert_problem(answer, 401, f"{operation} with {headers}")


async def test_every_bad_parameter_is_named(api: Api) -> None:
    for operation in operations(await api.document()):
        for parameter in operation.parameters:
            if parameter["in"] != "query":
                continue
            for bad in bad_values(operation, parameter):
                answer = await api.admin.request(operation.method, operation.url(), params={parameter["name"]: bad})
                assert_problem(answer, 422, f"{operation}?{parameter['name']}={bad}", f"/{parameter['name']}")


async def test_a_parameter_that_an_endpoint_does_not_have_is_named(api: Api) -> None:
    for operation in operations(await api.document()):
        answer = await api.admin.request(operation.method, operation.url(), params={"stoer": "x"}, json={})
        assert_problem(answer, 422, f"{operation}?stoer=x", "/stoer")


async def test_a_parameter_that_is_given_twice_is_named(api: Api) -> None:
    for operation in operations(await api.document()):
        for name in (each["name"] for each in operation.parameters if each["in"] == "query"):
            twice = {name: ["1", "2"]}
            answer = await api.admin.request(operation.method, operation.url(), params=twice, json={})
            assert_problem(answer, 422, f"{operation}?{name}=1&{name}=2", f"/{name}")


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "once"}], ids=["", "idempotent"])
async def test_a_nul_in_a_parameter_is_named(api: Api, headers: dict[str, str]) -> None:
    for operation in operations(await api.document()):
        for parameter in operation.parameters:
            if parameter["in"] == "path":
                url = operation.path.replace("{" + parameter["name"] + "}", "a%00b")
                url = url.replace("{", "").replace("}", "")
                answer = await api.admin.request(operation.method, url, headers=headers, json={})
            elif parameter["in"] == "query":
                params = {parameter["name"]: "a\0b"}
                answer = await api.admin.request(
                    operation.method, operation.url(), params=params, headers=headers, json={}
                )
            else:
                continue
            assert_problem(answer, 422, f"{operation} with NUL in {parameter['name']}", f"/{parameter['name']}")


def bad_values(operation: Operation, parameter: dict[str, Any]) -> list[str]:
    kinds = operation.resolved(parameter["schema"])
    alternatives = [operation.resolved(kind) for kind in kinds.get("anyOf", [kinds])]
    if parameter["name"] == "cursor":
        return ["not a cursor", "bm90LW91cnM", "%00"]
    if parameter["name"] == "limit":
        return ["0", "251", "-1", "many"]
    if parameter["name"] == "as_of" or any(kind.get("format") in {"date-time", "date"} for kind in alternatives):
        return ["yesterday"]
    if any("enum" in kind for kind in alternatives):
        return ["nonsense"]
    if any(kind.get("type") in {"integer", "number"} for kind in alternatives):
        return ["many"]
    return []


async def test_every_bad_body_is_told_by_field(api: Api) -> None:
    for operation in operations(await api.document()):
        if operation.body is None:
            continue
        url = operation.url()
        answer = await api.admin.request(
            operation.method, url, content=b'{"half": ', headers={"content-type": "application/json"}
        )
        assert_problem(answer, 400, f"{operation} with half a JSON document")
        required = operation.body.get("required", ())
        if required:
            answer = await api.admin.request(operation.method, url, json={})
            for field in required:
                assert_problem(answer, 422, f"{operation} without {field}", f"/{field}")
        for field, described in operation.body.get("properties", {}).items():
            kind = operation.resolved(described)
            if (wrong := WRONG.get(kind.get("type", ""))) is not None:
                answer = await api.admin.request(operation.method, url, json={field: wrong})
                assert_problem(answer, 422, f"{operation} with {field}={wrong}", f"/{field}")


async def test_what_does_not_exist_is_404(api: Api) -> None:
    for operation in operations(await api.document()):
        if operation.method == "GET" and "{" in operation.path and "{service}" not in operation.path:
            answer = await api.admin.get(operation.url())
            assert answer.status_code in {404, 422}, f"{operation}: {answer.status_code} {answer.text[:300]}"
            assert_problem(answer, answer.status_code, str(operation))
    assert_problem(await api.admin.get("/v1/nothing-here"), 404, "an unknown path")
    assert_problem(await api.admin.delete("/v1/kpis"), 405, "an unknown method")


async def test_two_tenants_do_not_see_each_other(api: Api) -> None:
    registered = await api.admin.post("/v1/stores", json=store("mine.myshopify.com"))
    assert registered.status_code == 201, registered.text
    key = registered.json()["store_key"]
    body = shopify.body(order(1, START))
    headers = shopify.headers(SHOP, "orders/create", body, webhook_id="w-1", event_id=None, at=START)
    answer = await api.anonymous.post(f"/webhooks/shopify/{key}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text

    mine = (await api.admin.get("/v1/deliveries", params={"store": key})).json()["data"]
    assert len(mine) == 1
    for operation in operations(await api.document()):
        if operation.method == "GET" and "{" not in operation.path:
            seen = await api.stranger.get(operation.path)
            assert key not in seen.text, f"{operation} shows another tenant's store"
            assert mine[0]["id"] not in seen.text, f"{operation} shows another tenant's delivery"
    assert (await api.stranger.get(f"/v1/deliveries/{mine[0]['id']}")).status_code == 404
    assert (await api.stranger.get(f"/v1/stores/{key}")).status_code == 404
