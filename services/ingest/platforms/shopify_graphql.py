"""How Shopify's Admin GraphQL API answers: data, errors by their codes, and what a request costs.

A request costs points by what it asks for, of which the shop restores some in each second.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from services.ingest.platforms.http import LONGEST_WAIT, MOST_TOLD, Answer, ShopHttp
from services.ingest.platforms.port import Denied, Hopeless, Refused, Unauthorized, Unavailable
from services.ingest.platforms.shopify_objects import PageInfo
from services.ingest.platforms.shopify_queries import VERSION, Query
from services.ingest.platforms.shopify_tokens import AppTokens
from services.ingest.printed import Scalar

SMALLEST_PLAN = 50.0
"""Points restored in a second, where the shop does not say."""
PATIENCE = 10
"""Waits for one request, where it may wait at all."""
_PATH = f"/admin/api/{VERSION}/graphql.json"
_CODE = re.compile(r"[A-Za-z_]{1,60}")


class TooDear(Exception):
    """So much may not be asked for at one time."""


class Edges(Struct, rename="camel"):
    """Some objects, each with its place."""

    edges: msgspec.Raw
    page_info: PageInfo


class Installation(Struct, rename="camel"):
    """Of the app whose token it is."""

    access_scopes: msgspec.Raw


class Part(Struct):
    """An object of which one list is asked for."""

    part: msgspec.Raw


class Operation(Struct, rename="camel"):
    """Objects that the shop prepares in bulk."""

    id: Scalar = None
    status: Scalar = None
    error_code: Scalar = None
    root_object_count: Scalar = None
    file_size: Scalar = None
    url: Scalar = None
    query: Scalar = None


class UserError(Struct):
    """Why the shop does not do what it was asked."""

    code: Scalar = None


class UserErrors(Struct, array_like=True):
    """The first one."""

    first: UserError | None = None


class Run(Struct, rename="camel"):
    """Begun, or not."""

    bulk_operation: Operation | None = None
    user_errors: UserErrors | None = None


class Count(Struct):
    """Of objects."""

    count: int


class Data(Struct, rename="camel"):
    """What any of our requests is answered."""

    orders: Edges | None = None
    customers: Edges | None = None
    products: Edges | None = None
    checkouts: Edges | None = None
    count: Count | None = None
    operation: Operation | None = None
    run: Run | None = None
    nodes: msgspec.Raw = msgspec.Raw(b"null")
    node: Part | None = None
    current_app_installation: Installation | None = None
    webhook_subscriptions: msgspec.Raw = msgspec.Raw(b"null")
    webhook_subscription_create: msgspec.Raw = msgspec.Raw(b"null")
    webhook_subscription_update: msgspec.Raw = msgspec.Raw(b"null")


class Told(NamedTuple):
    """A good answer."""

    data: Data
    pause: float
    """Seconds until as much can be asked for once more."""


class _Throttle(Struct, rename="camel"):
    maximum_available: float | None = None
    currently_available: float | None = None
    restore_rate: float | None = None


class _Cost(Struct, rename="camel"):
    requested_query_cost: float | None = None
    throttle_status: _Throttle | None = None


class _Extensions(Struct):
    cost: _Cost | None = None


class _Code(Struct):
    code: Scalar = None


class _Error(Struct):
    extensions: _Code | None = None


class _Errors(Struct, array_like=True):
    """The first one: of millions no more are made."""

    first: _Error | None = None


class _Answer(Struct):
    data: Data | None = None
    errors: _Errors | None = None
    extensions: _Extensions | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class GraphQl:
    """One shop's API."""

    def __init__(self, base: str, *, token: str | AppTokens, inside: bool) -> None:
        """As `ShopHttp`. `token`: one that lasts, or where those that do not come from."""
        self._http = ShopHttp(base, auth=None, inside=inside)
        self._token = token

    async def ask(
        self, query: Query, variables: Mapping[str, Any], *, patient: bool = False, changes: bool = False
    ) -> Told:
        """Data without any errors. Raises TooDear, Refused, Hopeless and Unavailable.

        `patient`: short waits are waited for here. `changes`: it is sent again only when the shop did not do it.
        """
        for _ in range(PATIENCE if patient else 0):
            try:
                return await self._once(query, variables, changes)
            except Unavailable as error:
                if error.retry_after is None or error.retry_after > LONGEST_WAIT:
                    raise
                await asyncio.sleep(error.retry_after)
        return await self._once(query, variables, changes)

    async def aclose(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def _answered(self, content: bytes, *, changes: bool) -> Answer:
        async def sent(token: str) -> Answer:
            headers = {"x-shopify-access-token": token}
            if changes:
                return await self._http.change("POST", _PATH, content, headers)
            return await self._http.post(_PATH, content, headers)

        if isinstance(self._token, str):
            return await sent(self._token)
        token = await self._token.token(self._http)
        try:
            return await sent(token)
        except Unauthorized:
            # Withdrawn before its time, as by a new version of the app; whoever gets another 401 is refused for good.
            return await sent(await self._token.token(self._http, refused=token))

    async def _once(self, query: Query, variables: Mapping[str, Any], changes: bool) -> Told:  # noqa: FBT001
        asked = {"query": query.text, "operationName": query.name, "variables": variables}
        answer = await self._answered(msgspec.json.encode(asked), changes=changes)
        try:
            told = _ANSWER.decode(answer.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable("the shop's answer is not one of its API") from error
        cost = (told.extensions and told.extensions.cost) or _Cost()
        if told.errors is not None:
            extensions = told.errors.first.extensions if told.errors.first else None
            raise _refusal(code_of(extensions.code if extensions else None), cost)
        if told.data is None:
            raise Unavailable("the shop's answer has no data")
        return Told(told.data, _pause(cost))


def code_of(value: Scalar) -> str:
    """A code that may be shown."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "unknown"


def _refusal(code: str, cost: _Cost) -> Exception:
    match code:
        case "THROTTLED" if _fits(cost):
            return Unavailable("the shop wants fewer requests (THROTTLED)", retry_after=_pause(cost) or 1.0)
        case "THROTTLED" | "MAX_COST_EXCEEDED":
            return TooDear()
        case "ACCESS_DENIED":
            return Denied(
                "the shop refuses (ACCESS_DENIED): has the app the rights read_orders, read_customers and"
                " read_products, and may it see personal data?"
            )
        case "INVALID_VARIABLE":
            return Hopeless("the shop does not know what it is asked for (INVALID_VARIABLE)")
        case "SHOP_INACTIVE":
            return Refused("the shop is not active (SHOP_INACTIVE)")
        case _ if code[0].islower() and code != "unknown":
            # What is wrong with the text of a query: Shopify has changed its API, and no later try knows better.
            return Hopeless(f"the shop does not understand what it is asked ({code})")
        case _:
            return Unavailable(f"the shop answers with an error ({code})")


def _fits(cost: _Cost) -> bool:
    most = cost.throttle_status.maximum_available if cost.throttle_status else None
    return most is None or cost.requested_query_cost is None or cost.requested_query_cost <= most


def _pause(cost: _Cost) -> float:
    throttle = cost.throttle_status or _Throttle()
    if cost.requested_query_cost is None or throttle.currently_available is None:
        return 0.0
    restored = throttle.restore_rate if throttle.restore_rate and throttle.restore_rate > 0 else SMALLEST_PLAN
    return min(max(0.0, (cost.requested_query_cost - throttle.currently_available) / restored), MOST_TOLD)
