"""An app's webhooks in Shopify: which it has, and having one made or moved. There is no switching one off."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from services.ingest import shopify
from services.ingest.platforms.lists import at_most
from services.ingest.platforms.port import Refused, Subscription, Unavailable
from services.ingest.platforms.shopify_graphql import Data, GraphQl, TooDear
from services.ingest.platforms.shopify_objects import PageInfo
from services.ingest.platforms.shopify_queries import Query
from services.ingest.printed import Scalar

T = TypeVar("T", bound=Struct)

PAGE = 100
MOST_PAGES = 20
"""Topics by destinations: an app with more has lost its way."""
LONGEST_REASON = 200
_NODE = "id topic uri"
EVERY = Query(
    "Subscriptions",
    "query Subscriptions($first: Int!, $after: String) { webhookSubscriptions(first: $first, after: $after) {"
    f" nodes {{ {_NODE} }} pageInfo {{ hasNextPage endCursor }} }} }}",
)
_RESULT = f"{{ webhookSubscription {{ {_NODE} }} userErrors {{ message }} }}"
MAKE = Query(
    "Subscribe",
    "mutation Subscribe($topic: WebhookSubscriptionTopic!, $wanted: WebhookSubscriptionInput!) {"
    f" webhookSubscriptionCreate(topic: $topic, webhookSubscription: $wanted) {_RESULT} }}",
)
MOVE = Query(
    "MoveSubscription",
    "mutation MoveSubscription($id: ID!, $wanted: WebhookSubscriptionInput!) {"
    f" webhookSubscriptionUpdate(id: $id, webhookSubscription: $wanted) {_RESULT} }}",
)
_ODD = "the shop's answer is not what it was asked for"


class _Node(Struct):
    id: str
    topic: str
    uri: Scalar = None


class _Page(Struct, rename="camel"):
    nodes: msgspec.Raw
    page_info: PageInfo


class _Error(Struct):
    message: Scalar = None


class _Errors(Struct, array_like=True):
    first: _Error | None = None


class _Result(Struct, rename="camel"):
    webhook_subscription: _Node | None = None
    user_errors: _Errors | None = None


_NODES = at_most(PAGE)


async def every(api: GraphQl) -> list[Subscription]:
    """All of the app. Raises Refused, Hopeless and Unavailable."""
    found: list[Subscription] = []
    after: str | None = None
    for _ in range(MOST_PAGES):
        told = await _told(api, EVERY, {"first": PAGE, "after": after})
        page = _read(told.webhook_subscriptions, _Page)
        try:
            nodes = [msgspec.json.decode(each, type=_Node) for each in _NODES(bytes(page.nodes))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(_ODD) from error
        found += [_subscription(each) for each in nodes]
        after = page.page_info.end_cursor
        if not page.page_info.has_next_page or not after:
            return found
    raise Refused(f"the app has more than {MOST_PAGES * PAGE} webhooks")


async def made(api: GraphQl, topic: str, address: str) -> Subscription:
    """A new one of this topic."""
    told = await _told(api, MAKE, {"topic": as_enum(topic), "wanted": {"uri": address, "format": "JSON"}}, changes=True)
    return _done(told.webhook_subscription_create)


async def moved(api: GraphQl, subscription: Subscription, address: str) -> Subscription:
    """The same, to another address."""
    wanted = {"uri": address, "format": "JSON"}
    told = await _told(api, MOVE, {"id": subscription.id, "wanted": wanted}, changes=True)
    return _done(told.webhook_subscription_update)


def as_enum(topic: str) -> str:
    """`orders/create` is ORDERS_CREATE in the schema, `customer.tags_added` CUSTOMER_TAGS_ADDED."""
    return topic.upper().replace("/", "_").replace(".", "_")


async def _told(api: GraphQl, query: Query, variables: dict[str, object], *, changes: bool = False) -> Data:
    try:
        return (await api.ask(query, variables, patient=True, changes=changes)).data
    except TooDear as error:
        raise Unavailable("the shop wants fewer requests") from error


def _done(raw: msgspec.Raw) -> Subscription:
    result = _read(raw, _Result)
    if result.user_errors is not None and result.user_errors.first is not None:
        raise Refused(f"the shop refuses: {_shown(result.user_errors.first.message)}")
    if result.webhook_subscription is None:
        raise Unavailable(_ODD)
    return _subscription(result.webhook_subscription)


def _read(raw: msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(_ODD) from error


def _shown(message: Scalar) -> str:
    """What Shopify says of why, which no table of codes has; nothing in it turns or breaks a line."""
    text = message if isinstance(message, str) else "it does not say why"
    return "".join(character for character in text if character.isprintable())[:LONGEST_REASON]


def _subscription(node: _Node) -> Subscription:
    return Subscription(
        node.id, _NAMES.get(node.topic, node.topic), node.uri if isinstance(node.uri, str) else "", active=True
    )


_NAMES = {as_enum(topic): topic for topic in shopify.TOPICS}
"""Of those that are read; the schema's own of the others."""
