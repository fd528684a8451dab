"""What is asked of Shopify's Admin GraphQL API, version 2026-01, as texts. Sizes and places are variables."""

from collections.abc import Callable, Mapping
from string import Template
from typing import NamedTuple

from services.ingest.platforms.port import Kind

VERSION = "2026-01"
"""Kept up for a year at least; an older one falls forward to the oldest that is."""

_MONEY = "{ shopMoney { amount currencyCode } }"
_INFO = "pageInfo { hasNextPage endCursor }"
_ADDRESS = "{ firstName lastName phone countryCodeV2 }"
_TAXES = f"taxLines {{ rate priceSet {_MONEY} }}"
_CUSTOMER = f"""
    legacyResourceId firstName lastName
    defaultEmailAddress {{ emailAddress marketingState marketingUpdatedAt }}
    defaultPhoneNumber {{ phoneNumber marketingState marketingUpdatedAt }}
    defaultAddress {_ADDRESS}
"""


class _List(NamedTuple):
    owner: str
    """Type of whose it is."""
    type: str
    """Of its items."""
    fields: str
    """Asked of each item."""
    name: str = ""
    """As the schema has it, where another's is the same."""


PARTS: Mapping[str, _List] = {
    "lineItems": _List(
        "Order",
        "LineItem",
        f"""
        id title quantity sku originalUnitPriceSet {_MONEY} discountAllocations {{ allocatedAmountSet {_MONEY} }}
        {_TAXES} variant {{ legacyResourceId }} product {{ legacyResourceId }}
        """,
    ),
    "shippingLines": _List("Order", "ShippingLine", f"originalPriceSet {_MONEY} discountedPriceSet {_MONEY} {_TAXES}"),
    "refundLineItems": _List(
        "Refund", "RefundLineItem", f"quantity lineItem {{ id }} subtotalSet {_MONEY} totalTaxSet {_MONEY}"
    ),
    "refundShippingLines": _List("Refund", "RefundShippingLine", f"subtotalAmountSet {_MONEY} taxAmountSet {_MONEY}"),
    "orderAdjustments": _List("Refund", "OrderAdjustment", f"reason amountSet {_MONEY} taxAmountSet {_MONEY}"),
    "transactions": _List("Refund", "OrderTransaction", f"kind status amountSet {_MONEY}"),
    "variants": _List(
        "Product",
        "ProductVariant",
        "legacyResourceId title sku price inventoryQuantity inventoryItem { tracked }",
    ),
    "checkoutLines": _List(
        "AbandonedCheckout",
        "AbandonedCheckoutLineItem",
        f"""
        title quantity sku originalUnitPriceSet {_MONEY} originalTotalPriceSet {_MONEY}
        discountedTotalPriceWithCodeDiscount {_MONEY} variant {{ legacyResourceId }} product {{ legacyResourceId }}
        """,
        "lineItems",
    ),
}
"""Lists within objects."""


def _paged(name: str, size: str) -> str:
    return f"{PARTS[name].name or name}(first: {size}) {{ nodes {{ {PARTS[name].fields} }} {_INFO} }}"


def _in_bulk(name: str, _: str) -> str:
    """As it must be there: `edges`, all of it, and items that have an id."""
    return f"{PARTS[name].name or name} {{ edges {{ node {{ __typename id {PARTS[name].fields} }} }} }}"


_Part = Callable[[str, str], str]


def _order(part: _Part) -> str:
    return f"""
    id legacyResourceId name createdAt processedAt updatedAt cancelledAt currencyCode displayFinancialStatus
    displayFulfillmentStatus test taxesIncluded email phone customerLocale customerAcceptsMarketing
    totalDiscountsSet {_MONEY} totalTaxSet {_MONEY} originalTotalDutiesSet {_MONEY}
    originalTotalAdditionalFeesSet {_MONEY} {part("lineItems", "$some")} {part("shippingLines", "$few")}
    fulfillments {{ status createdAt }}
    refunds {{ {_refund(part)} }}
    customer {{ {_CUSTOMER} }} billingAddress {_ADDRESS} shippingAddress {_ADDRESS}
"""


def _refund(part: _Part) -> str:
    if part is _in_bulk:
        # No list of pages may be within a plain list there: whoever has refunds is asked for by itself.
        return "id"
    return f"""
        id legacyResourceId createdAt note duties {{ amountSet {_MONEY} }} {part("refundLineItems", "$some")}
        {part("refundShippingLines", "$few")} {part("orderAdjustments", "$few")} {part("transactions", "$few")}
    """


def _customer(_: _Part) -> str:
    return f"id createdAt updatedAt verifiedEmail tags {_CUSTOMER}"


def _product(part: _Part) -> str:
    return f"""
    id legacyResourceId title handle status updatedAt featuredMedia {{ preview {{ image {{ url }} }} }}
    {part("variants", "$some")}
"""


def _checkout(part: _Part) -> str:
    return f"""
    id createdAt updatedAt completedAt abandonedCheckoutUrl totalPriceSet {_MONEY} {part("checkoutLines", "$some")}
    customer {{ {_CUSTOMER} }} billingAddress {_ADDRESS} shippingAddress {_ADDRESS}
"""


class Query(NamedTuple):
    """One operation."""

    name: str
    text: str


class _Asked(NamedTuple):
    type: str
    fields: Callable[[_Part], str]
    sizes: str
    list: str
    """Its name in the schema; `…Count` counts it."""
    order: str = "UPDATED_AT"
    """By which pages are sorted: of checkouts there is no such order, and none that moves when one changes."""


_SIZES = "$some: Int!, $few: Int!"
KINDS: Mapping[Kind, _Asked] = {
    "orders": _Asked("Order", _order, f", {_SIZES}", "orders"),
    "customers": _Asked("Customer", _customer, "", "customers"),
    "products": _Asked("Product", _product, ", $some: Int!", "products"),
    "checkouts": _Asked("AbandonedCheckout", _checkout, ", $some: Int!", "abandonedCheckouts", "ID"),
}

_PAGE = Template("""
    query $operation($$first: Int!, $$after: String, $$query: String!$sizes) {
        $kind: $list(first: $$first, after: $$after, query: $$query, sortKey: $order) {
            edges { cursor node { $fields } } pageInfo { hasNextPage endCursor }
        }
    }
""")
_THOSE = Template("query $operation($$ids: [ID!]!$sizes) { nodes(ids: $$ids) { ... on $type { $fields } } }")
_REST = Template("""
    query $operation($$id: ID!, $$first: Int!, $$after: String!) {
        node(id: $$id) { ... on $type { part: $name(first: $$first, after: $$after) { nodes { $fields } $info } } }
    }
""")
_COUNT = Template("""
    query $operation($$query: String!, $$limit: Int!) { count: ${list}Count(query: $$query, limit: $$limit) { count } }
""")
_ALL = Template('query $operation { $list(query: "$window") { edges { node { $fields } } } }')
_OPERATION = "id status errorCode rootObjectCount fileSize url query"
THERE = Query(
    "There",
    "query There($ids: [ID!]!) { nodes(ids: $ids) { id } currentAppInstallation { accessScopes { handle } } }",
)
"""Which of them can be seen, and what the app may see."""
RUN_BULK = Query(
    "RunBulk",
    # What belongs to an object stands right behind it then, and need not be looked for in all that follows.
    "mutation RunBulk($query: String!) { run: bulkOperationRunQuery(query: $query, groupObjects: true)"
    f" {{ bulkOperation {{ {_OPERATION} }} userErrors {{ code }} }} }}",
)
"""Has the shop prepare what a query of `in_bulk` asks for. Variables: query."""
CANCEL_BULK = Query(
    "CancelBulk",
    f"mutation CancelBulk($id: ID!) {{ run: bulkOperationCancel(id: $id) {{ bulkOperation {{ {_OPERATION} }}"
    " userErrors { message } } }",
)
"""Ends one, in a while. Variables: id."""
LAST_BULK = Query("LastBulk", f"query LastBulk {{ operation: currentBulkOperation(type: QUERY) {{ {_OPERATION} }} }}")
"""What this app had it prepare last."""
BULK = Query(
    "Bulk",
    f"query Bulk($id: ID!) {{ operation: node(id: $id) {{ ... on BulkOperation {{ {_OPERATION} }} }} }}",
)
"""How far that is. Variables: id."""


def page(kind: Kind) -> Query:
    """Some of all of a kind. Variables: first, after, query; some, few: how many of each list within an object."""
    asked = KINDS[kind]
    name = f"Page{asked.type}s"
    text = _PAGE.substitute(
        operation=name,
        kind=kind,
        list=asked.list,
        order=asked.order,
        fields=asked.fields(_paged),
        sizes=asked.sizes,
    )
    return Query(name, text)


def count(kind: Kind) -> Query:
    """How many there are, `limit` at most. Variables: query, limit."""
    asked = KINDS[kind]
    name = f"Count{asked.type}s"
    return Query(name, _COUNT.substitute(operation=name, list=asked.list))


def in_bulk(kind: Kind, window: str) -> str:
    """All of a kind, as `RUN_BULK` takes it: without variables, and with nothing that differs for the same window."""
    asked = KINDS[kind]
    text = _ALL.substitute(operation=f"All{asked.type}s", list=asked.list, window=window, fields=asked.fields(_in_bulk))
    return " ".join(text.split())


def those(kind: Kind) -> Query:
    """Those of some ids. Variables: ids; some, few."""
    asked = KINDS[kind]
    name = f"Those{asked.type}s"
    fields = asked.fields(_paged)
    return Query(name, _THOSE.substitute(operation=name, type=asked.type, fields=fields, sizes=asked.sizes))


def rest(part: str) -> Query:
    """Of a list within an object, what follows. Variables: id, first, after."""
    asked = PARTS[part]
    name = f"Rest{part[0].upper()}{part[1:]}"
    text = _REST.substitute(operation=name, type=asked.owner, name=asked.name or part, fields=asked.fields, info=_INFO)
    return Query(name, text)


def sizes(kind: Kind, *, some: int, few: int) -> dict[str, int]:
    """The variables for the lists within objects of a kind."""
    return {name: size for name, size in {"some": some, "few": few}.items() if f"${name}" in KINDS[kind].sizes}
