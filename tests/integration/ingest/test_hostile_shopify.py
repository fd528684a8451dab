"""A Shopify API that means us harm, or has changed: each answer is an outcome, in bounded memory."""

import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.ingest.platforms import http, shopify
from services.ingest.platforms.http import MOST_TOLD
from services.ingest.platforms.port import FetchedPage, Hopeless, Refused, Unavailable
from services.ingest.platforms.shopify import LARGEST, PAGE, Shopify
from tests.conftest import START
from tests.e2e.cases.conftest import served


@asynccontextmanager
async def answering(*answers: bytes | Any) -> AsyncIterator[Shopify]:
    """A shop that says these things one after the other, and the last one from then on."""
    said = iter(answers)
    last: list[Any] = []

    async def always(_: Request) -> Response:
        last[:] = [next(said, *last)]
        return Response(last[0] if isinstance(last[0], bytes) else json.dumps(last[0]))

    app = Starlette(routes=[Route("/admin/api/2026-01/graphql.json", always, methods=["POST"])])
    async with served(app) as address:  # type: ignore[arg-type]
        platform = Shopify(address, token="shpat_12345678", bulk_above=10_000, inside=True)
        try:
            yield platform
        finally:
            await platform.aclose()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TRIES", 1)


async def first_page(platform: Shopify) -> FetchedPage:
    return await platform.page("orders", since=None, until=START, following=None)


def failing(code: Any, **cost: Any) -> Any:
    return {"errors": [{"message": "<b>no</b>", "extensions": {"code": code}}], "extensions": {"cost": cost}}


def listing(*nodes: Any, on: bool = False) -> Any:
    edges = [{"cursor": f"c{n}", "node": node} for n, node in enumerate(nodes)]
    return {"data": {"orders": {"edges": edges, "pageInfo": {"hasNextPage": on, "endCursor": "c"}}}}


def an_order(n: int = 1, **changes: Any) -> Any:
    return {
        "id": f"gid://shopify/Order/{n}",
        "legacyResourceId": str(n),
        "updatedAt": "2026-03-01T00:00:00Z",
        "currencyCode": "EUR",
    } | changes


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"data":' * 50_000,
        {"data": None},
        {"data": []},
        {"data": {"orders": None}},
        {"data": {"customers": {"edges": [], "pageInfo": {}}}},
        {"data": {"orders": {"edges": {}, "pageInfo": {}}}},
        {"data": {"orders": {"edges": [{"cursor": 7, "node": {}}], "pageInfo": {}}}},
        {"data": {"orders": {"edges": [], "pageInfo": {"hasNextPage": True, "endCursor": None}}}},
        {"data": {"orders": {"edges": [], "pageInfo": {"hasNextPage": True, "endCursor": "x" * 10_000}}}},
        {"data": {"orders": {"edges": []}}, "errors": [{"message": "in part"}]},
        {"errors": "no"},
        failing("INTERNAL_SERVER_ERROR"),
        failing(["a"]),
        failing("<script>"),
        listing(*[an_order()] * (PAGE + 1)),
    ],
    ids=str,
)
async def test_what_is_no_answer_is_asked_for_again_later(answer: Any) -> None:
    async with answering(answer) as platform:
        with pytest.raises(Unavailable) as raised:
            await first_page(platform)
    assert "<" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failing("ACCESS_DENIED"), Refused),
        (failing("SHOP_INACTIVE"), Refused),
        (failing("undefinedField"), Hopeless),
        (failing("MAX_COST_EXCEEDED"), Hopeless),
        (failing("THROTTLED", requestedQueryCost=9e9, throttleStatus={"maximumAvailable": 100}), Hopeless),
    ],
)
async def test_what_no_later_try_helps(answer: Any, kind: type[Exception]) -> None:
    async with answering(answer) as platform:
        with pytest.raises(kind):
            await first_page(platform)


@pytest.mark.parametrize(
    ("requested", "available", "rate", "seconds"),
    [
        (300, 100, 50, 4.0),
        (300, 100, 0, 4.0),
        (300, 100, -5, 4.0),
        (300, 400, 50, 1.0),
        (1e300, 0, 1e-300, MOST_TOLD),
        (None, None, None, 1.0),
    ],
)
async def test_how_long_points_are_waited_for(requested: Any, available: Any, rate: Any, seconds: float) -> None:
    throttle = {"currentlyAvailable": available, "restoreRate": rate}
    async with answering(failing("THROTTLED", requestedQueryCost=requested, throttleStatus=throttle)) as platform:
        with pytest.raises(Unavailable) as raised:
            await first_page(platform)
    assert raised.value.retry_after == seconds


async def test_broken_orders_are_counted_and_the_others_taken() -> None:
    strange = [
        an_order(1),
        7,
        {},
        an_order(2, updatedAt="soon"),
        an_order(3, note="x" * LARGEST),
        an_order(4, lineItems=[]),
        an_order(5, refunds=[{"id": "gid://shopify/Refund/1"}]),
        an_order(10**30),
    ]
    async with answering(listing(*strange)) as platform:
        found = await first_page(platform)
    assert [each.root for each in found.objects] == ["order:1", f"order:{10**30}"]
    assert len(found.broken) == 6
    assert found.following is None


def long(n: int) -> Any:
    more = {"nodes": [{"id": "gid://shopify/LineItem/1"}], "pageInfo": {"hasNextPage": True, "endCursor": "on"}}
    return an_order(n, lineItems=more)


async def test_a_list_within_an_order_that_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify, "MOST_PARTS", 3)
    rest = {"data": {"node": {"part": long(1)["lineItems"]}}}
    async with answering(listing(long(1), an_order(2)), rest) as platform:
        found = await first_page(platform)
    assert ([each.root for each in found.objects], found.broken) == (["order:2"], ["lineItems: has no end"])


async def test_a_list_within_an_order_that_does_not_say_where_it_goes_on() -> None:
    lost = an_order(1, lineItems={"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": None}})
    async with answering(listing(lost, an_order(2))) as platform:
        found = await first_page(platform)
    assert [each.root for each in found.objects] == ["order:2"]
    assert found.broken == ["lineItems: does not say where it goes on"]


async def test_an_order_that_takes_too_long_is_left_to_the_next_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify, "LONGEST", 0.5)
    forever = failing("THROTTLED", requestedQueryCost=100, throttleStatus={"currentlyAvailable": 0, "restoreRate": 25})
    async with answering(listing(an_order(1), long(2)), forever) as platform:
        found = await first_page(platform)
    assert ([each.root for each in found.objects], found.broken) == (["order:1"], [])
    assert found.following is not None


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"data": {"node": None}}, "lineItems: not there any more"),
        ({"data": {"node": {"part": 5}}}, "unexpected shape"),
        (failing("MAX_COST_EXCEEDED"), "lineItems: too dear"),
    ],
)
async def test_a_list_within_an_order_that_breaks_off(rest: Any, reason: str) -> None:
    async with answering(listing(long(1)), rest) as platform:
        [broken] = (await first_page(platform)).broken
    assert broken.startswith(reason)


async def test_a_list_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify, "MOST_PAGES", 5)
    async with answering(listing(an_order(), on=True)) as platform:
        following = None
        for _ in range(5):
            following = (await platform.page("orders", since=None, until=START, following=following)).following
        with pytest.raises(Hopeless, match="has no end: 5 pages"):
            await platform.page("orders", since=None, until=START, following=following)


@pytest.mark.parametrize("place", ["edges", "nodes", "errors"])
async def test_a_list_of_millions_is_not_made(place: str) -> None:
    many = b"[{}" + b",{}" * 2_000_000 + b"]"
    body = {
        "edges": b'{"data":{"orders":{"edges":%b,"pageInfo":{}}}}' % many,
        "nodes": b'{"data":{"nodes":%b}}' % many,
        "errors": b'{"errors":%b}' % many,
    }[place]
    async with answering(body) as platform:
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable):
                await (platform.gone("orders", ["1"]) if place == "nodes" else first_page(platform))
            assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("nodes", [[], [None], [None] * 3, [{"id": "gid://shopify/Order/1"}] * 2, [{}, {}]])
async def test_an_answer_about_others_proves_nothing(nodes: list[Any]) -> None:
    installed = {"accessScopes": [{"handle": "read_all_orders"}]}
    async with answering({"data": {"nodes": nodes, "currentAppInstallation": installed}}) as platform:
        with pytest.raises(Unavailable):
            await platform.gone("orders", ["1", "2"])


async def test_what_is_gone() -> None:
    installed = {"accessScopes": [{"handle": "read_all_orders"}]}
    nodes = [None, {"id": "gid://shopify/Order/2"}]
    async with answering({"data": {"nodes": nodes, "currentAppInstallation": installed}}) as platform:
        assert await platform.gone("orders", ["1", "2", "odd"]) == {"1"}
    async with answering({"data": {"nodes": nodes}}) as platform:
        assert await platform.gone("orders", ["1", "2"]) == set()
