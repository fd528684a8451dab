"""Shopify's Admin GraphQL API of the simulated shop: as its server answers, its moods and its prices included.

It holds what exists and knows nothing of webhooks: whatever those failed to tell is to be found here. It understands no
GraphQL: it goes by the operation's name and its variables, and takes a text only if it asks for what is served.
"""

import base64
import hmac
import json
import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from libs.common.clock import monotonic
from regulars.shop import shopify_nodes as nodes
from regulars.shop.model import Checkout, Customer, Deleted, Order, ProductState, State
from regulars.shop.shopify_bulk import BulkOperations
from regulars.shop.shopify_parts import Json, gid
from regulars.shop.shopify_webhooks import AppGrant, AppWebhooks

TOKEN = "shpat_0f4c1d9b7a3e4c628d1f5b7c"  # noqa: S105 - a simulated store's
SCOPES = ("read_orders", "read_all_orders", "read_customers", "read_products")
MOST_COST = 1000
There = Order | Customer | ProductState | Checkout
_KINDS: dict[str, tuple[str, type[There]]] = {
    "orders": ("Order", Order),
    "customers": ("Customer", Customer),
    "products": ("Product", ProductState),
    "checkouts": ("AbandonedCheckout", Checkout),
}
_SCHEMA = {"checkouts": "abandonedCheckouts"}
"""What the schema names otherwise."""
_RIGHTS = {"checkouts": "read_orders"}
ABANDONED_AFTER = timedelta(minutes=10)
"""So long after it began, a checkout with an address is listed, bought later or not."""
_LISTS = {"lineItems": "some", "refundLineItems": "some", "variants": "some"}
_LISTS |= dict.fromkeys(["shippingLines", "refundShippingLines", "orderAdjustments", "transactions"], "few")


def names(text: str) -> set[str]:
    """All that a query speaks of, but for its variables."""
    return set(re.findall(r"(?<![\w$])[A-Za-z_]\w*", text))


SERVED = names(
    """
    query Int String ID on Order Customer Product Refund part first after sortKey UPDATED_AT ids id
    AbandonedCheckout abandonedCheckouts checkouts ID completedAt abandonedCheckoutUrl totalPriceSet
    originalTotalPriceSet discountedTotalPriceWithCodeDiscount
    count limit ordersCount customersCount productsCount abandonedCheckoutsCount
    mutation run bulkOperationRunQuery groupObjects true bulkOperation userErrors code currentBulkOperation type
    bulkOperationCancel QUERY BulkOperation operation errorCode rootObjectCount fileSize url __typename
    orders customers products nodes node edges cursor pageInfo hasNextPage endCursor
    currentAppInstallation accessScopes handle
    shopMoney amount currencyCode rate priceSet taxLines allocatedAmountSet discountAllocations
    legacyResourceId name createdAt processedAt updatedAt cancelledAt displayFinancialStatus displayFulfillmentStatus
    test taxesIncluded email phone customerLocale customerAcceptsMarketing totalDiscountsSet totalTaxSet
    originalTotalDutiesSet originalTotalAdditionalFeesSet
    lineItems title quantity sku originalUnitPriceSet variant product shippingLines originalPriceSet discountedPriceSet
    fulfillments status refunds note duties amountSet refundLineItems lineItem subtotalSet totalTaxSet
    refundShippingLines subtotalAmountSet taxAmountSet orderAdjustments reason transactions kind
    customer billingAddress shippingAddress firstName lastName countryCodeV2 defaultAddress
    defaultEmailAddress emailAddress marketingState marketingUpdatedAt defaultPhoneNumber phoneNumber
    mutation WebhookSubscriptionTopic WebhookSubscriptionInput webhookSubscriptions webhookSubscriptionCreate
    webhookSubscriptionUpdate webhookSubscription topic uri userErrors message
    verifiedEmail tags featuredMedia preview image url variants price inventoryQuantity inventoryItem tracked
    """
)
"""The names of the schema, version 2026-01, that this shop serves; any other is an error, as it is there."""

Mood = int | bytes | str | None
"""How it takes the next request: with a status, with these bytes for a body, with an error of this code, or well."""
CUT: Literal["cut"] = "cut"
"""The mood in which the connection ends in the middle of the answer."""


class ShopifyApi:
    """A shop's objects, and the application that serves them."""

    def __init__(self, *, token: str = TOKEN, scopes: Iterable[str] = SCOPES) -> None:
        self._token = token
        self._there: dict[str, dict[int, There]] = {kind: {} for kind in _KINDS}
        self._drained_at = monotonic()
        self.scopes = set(scopes)
        self.webhooks = AppWebhooks()
        self.grant = AppGrant()
        self.moods: deque[Mood] = deque()
        """Of the requests to come; then it is in a good one."""
        self.bulk = BulkOperations(self._prepared)
        self.shows_checkouts = True
        """Whether the app has the right of its own that it takes to see those."""
        self.requests: list[tuple[str, Json]] = []
        """Operation and variables of each."""
        self.hidden: set[int] = set()
        """Ids that it does not show, as those of old orders."""
        self.most_cost = MOST_COST
        """Of one request."""
        self.maximum, self.available, self.restored = 4000.0, 4000.0, 200.0
        """Points: at most, at this time, and how many come back in a second."""
        self.app = Starlette(
            routes=[
                Route("/admin/api/2026-01/graphql.json", self._asked, methods=["POST"]),
                Route("/admin/oauth/access_token", self._granted, methods=["POST"]),
            ]
        )

    def tell(self, states: Iterable[State]) -> None:
        """Takes over what has come to be; in order of time."""
        for state in states:
            if isinstance(state, Deleted):
                self._there["orders"].pop(state.order_id, None)
            for kind, (_, type_) in _KINDS.items():
                if isinstance(state, type_) and state.store == "shopify":
                    self._there[kind][_id(state)] = state

    def counts(self) -> dict[str, int]:
        """How many it lists of each kind."""
        return {kind: sum(map(_is_listed, there.values())) for kind, there in self._there.items()}

    def erase(self, kind: str, id_: int) -> None:
        """Deletes for good, and tells nobody."""
        del self._there[kind][id_]

    def leave(self, points: float, *, restored: float) -> None:
        """So many are left, and so many come back in a second from now on."""
        self.available, self.restored, self._drained_at = points, restored, monotonic()

    async def _granted(self, request: Request) -> Response:
        status, told = self.grant.token(await request.body())
        return JSONResponse(told, status)

    async def _asked(self, request: Request) -> Response:
        token = request.headers.get("x-shopify-access-token", "")
        if not hmac.compare_digest(token, self._token) and token not in self.grant.good:
            return JSONResponse({"errors": "[API] Invalid API key or access token"}, 401)
        asked = json.loads(await request.body())
        operation, variables = asked["operationName"], asked["variables"]
        self.requests.append((operation, variables))
        mood = self.moods.popleft() if self.moods else None
        match mood:
            case int():
                return JSONResponse({"errors": "Not now"}, mood, {"retry-after": "1"} if mood == 429 else {})  # noqa: PLR2004
            case bytes():
                return Response(mood, media_type="application/json")
            case "cut":
                return Response(b'{"data": {"ord', headers={"content-length": "9999"})
            case str():
                return self._error(mood)
        if unknown := names(asked["query"]) - SERVED - {operation}:
            return self._error("undefinedField", f"Field '{min(unknown)}' doesn't exist")
        cost = _cost(variables)
        if cost > self.most_cost:
            return self._error("MAX_COST_EXCEEDED")
        if not self._pays(cost):
            return self._error("THROTTLED", cost=cost)
        if operation == "Subscribe":
            made = self.webhooks.subscribe(variables["topic"], variables["wanted"]["uri"], self.scopes)
            if made is None:
                return self._error("INVALID_VARIABLE", "Expected one of the topics")
            return JSONResponse(self._priced(cost, data={"webhookSubscriptionCreate": made}))
        data = self._data(operation, variables)
        return self._error("ACCESS_DENIED") if data is None else JSONResponse(self._priced(cost, data=data))

    def _data(self, operation: str, variables: Json) -> Json | None:
        """None: that may not be seen."""
        of_kind = self._of_kind(operation, variables)
        if of_kind is not None:
            return of_kind
        match operation:
            case "Subscriptions":
                return {"webhookSubscriptions": self.webhooks.page(variables["first"], variables["after"])}
            case "MoveSubscription":
                return {"webhookSubscriptionUpdate": self.webhooks.move(variables["id"], variables["wanted"]["uri"])}
            case "There":
                there = [{"id": id_} if self._state(id_) else None for id_ in variables["ids"]]
                scopes = [{"handle": each} for each in sorted(self.scopes)]
                return {"nodes": there, "currentAppInstallation": {"accessScopes": scopes}}
            case "LastBulk":
                return {"operation": self.bulk.last()}
            case "RunBulk":
                unknown = names(re.sub(r'"[^"]*"', "", variables["query"])) - SERVED
                return {"run": self.bulk.run(variables["query"] if len(unknown) == 1 else "")}
            case "CancelBulk":
                return {"run": self.bulk.cancel(variables["id"])}
            case "Bulk":
                return {"operation": self.bulk.look(variables["id"])}
        if operation.startswith("Rest"):
            name = operation.removeprefix("Rest")
            whole = self._owner(variables["id"])[_lists(name[0].lower() + name[1:])]
            return {"node": {"part": nodes.paged(whole, variables["first"], int(variables["after"].partition("-")[2]))}}
        return None

    def _of_kind(self, operation: str, variables: Json) -> Json | None:
        for kind, (type_, _) in _KINDS.items():
            if _RIGHTS.get(kind, f"read_{kind}") in self.scopes and (kind != "checkouts" or self.shows_checkouts):
                if operation == f"Count{type_}s":
                    return {"count": {"count": min(len(self._found(kind, variables["query"])), variables["limit"])}}
                if operation == f"Page{type_}s":
                    return {kind: self._page(kind, variables)}
                if operation == f"Those{type_}s":
                    return {"nodes": [self._node(each, variables) for each in variables["ids"]]}
        return None

    def _page(self, kind: str, variables: Json) -> Json:
        found = self._found(kind, variables["query"])
        if variables["after"] is not None:
            last = tuple(json.loads(base64.b64decode(variables["after"])))
            found = [place for place in found if place > last]
        first = variables["first"]
        edges: list[Json] = [
            {"cursor": base64.b64encode(json.dumps(place).encode()).decode(), "node": self._printed(kind, place[1])}
            for place in found[:first]
        ]
        page_info = {"hasNextPage": len(found) > first, "endCursor": edges[-1]["cursor"] if edges else None}
        return {"edges": [{**each, "node": _sized(each["node"], variables)} for each in edges], "pageInfo": page_info}

    def _found(self, kind: str, query: str) -> list[tuple[str, int]]:
        """Places in the order of their last changes; of checkouts, which have none, of their ids."""
        return sorted(
            ("" if kind == "checkouts" else each.updated_at.replace(microsecond=0).isoformat(), id_)
            for id_, each in self._there[kind].items()
            if id_ not in self.hidden and _wanted(each.updated_at, query) and _is_listed(each)
        )

    def _prepared(self, name: str, query: str) -> list[Json]:
        kind = next(each for each in _KINDS if _SCHEMA.get(each, each) == name)
        return [self._printed(kind, id_) for _, id_ in self._found(kind, query)]

    def _printed(self, kind: str, id_: int) -> Json:
        state = self._there[kind][id_]
        match state:
            case Order():
                return nodes.order(state)
            case Customer():
                return nodes.customer(state)
            case Checkout():
                return nodes.checkout(state)
            case _:
                return nodes.product(state)

    def _node(self, id_: str, variables: Json) -> Json | None:
        return _sized(self._owner(id_), variables) if self._state(id_) else None

    def _owner(self, id_: str) -> Json:
        """What of this id lists belong to; a refund is found in its order."""
        if (found := self._state(id_)) is not None:
            return self._printed(*found)
        orders = (self._printed("orders", each) for each in self._there["orders"])
        return next(each for one in orders for each in one["refunds"] if each["id"] == id_)

    def _state(self, id_: str) -> tuple[str, int] | None:
        for kind, (type_, _) in _KINDS.items():
            number = int(id_.rpartition("/")[2])
            if id_ == gid(type_, number) and number in self._there[kind] and number not in self.hidden:
                return kind, number
        return None

    def _pays(self, cost: int) -> bool:
        now = monotonic()
        self.available = min(self.maximum, self.available + (now - self._drained_at) * self.restored)
        self._drained_at = now
        if cost > self.available:
            return False
        self.available -= cost
        return True

    def _error(self, code: str, message: str = "Not so", cost: int | None = None) -> Response:
        errors = [{"message": message, "extensions": {"code": code}}]
        return JSONResponse(self._priced(cost, errors=errors))

    def _priced(self, cost: int | None, **answer: Any) -> Json:
        status = {
            "maximumAvailable": self.maximum,
            "currentlyAvailable": int(self.available),
            "restoreRate": self.restored,
        }
        paid = cost if "data" in answer else None
        return answer | {
            "extensions": {
                "cost": {"requestedQueryCost": cost, "actualQueryCost": paid, "throttleStatus": status},
            }
        }


def _cost(variables: Json) -> int:
    """Roughly as there: what is asked for, and less than each of it for lists within lists."""
    return int(variables.get("first", len(variables.get("ids", ()))) * (1 + variables.get("some", 0) / 10))


def _sized(node: Json, variables: Json) -> Json:
    """Its lists as long as they were asked for."""
    sized: Json = {
        name: nodes.paged(value, variables[_LISTS[name]]) if name in _LISTS else value for name, value in node.items()
    }
    if "refunds" in sized:
        sized["refunds"] = [_sized(each, variables) for each in sized["refunds"]]
    return sized


def _is_listed(state: There) -> bool:
    if not isinstance(state, Checkout):
        return True
    at = state.completed_at
    return bool(state.contact.email or state.contact.phone) and (at is None or at - state.created_at > ABANDONED_AFTER)


def _lists(name: str) -> str:
    return "lineItems" if name == "checkoutLines" else name


def _id(state: There) -> int:
    return state.product.id if isinstance(state, ProductState) else state.id


def _wanted(at: datetime, query: str) -> bool:
    changed = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    since, until = re.search(r"updated_at:>='([^']+)'", query), re.search(r"updated_at:<'([^']+)'", query)
    return (since is None or changed >= since[1]) and (until is None or changed < until[1])
