"""What is asked of Shopify's Admin GraphQL API, version 2026-01, as texts. Sizes and places are variables."""

from collections.abc import Mapping
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

PARTS: Mapping[str, tuple[str, str]] = {
    "lineItems": (
        "Order",
        f"""
        id title quantity sku originalUnitPriceSet {_MONEY} discountAllocations {{ allocatedAmountSet {_MONEY} }}
        {_TAXES} variant {{ legacyResourceId }} product {{ legacyResourceId }}
        """,
    ),
    "shippingLines": ("Order", f"originalPriceSet {_MONEY} discountedPriceSet {_MONEY} {_TAXES}"),
    "refundLineItems": ("Refund", f"quantity lineItem {{ id }} subtotalSet {_MONEY} totalTaxSet {_MONEY}"),
    "refundShippingLines": ("Refund", f"subtotalAmountSet {_MONEY} taxAmountSet {_MONEY}"),
    "orderAdjustments": ("Refund", f"reason amountSet {_MONEY} taxAmountSet {_MONEY}"),
    "transactions": ("Refund", f"kind status amountSet {_MONEY}"),
    "variants": ("Product", "legacyResourceId title sku price inventoryQuantity inventoryItem { tracked }"),
}
"""Lists within objects -> whose they are, and what is asked of each item."""


def _part(name: str, size: str) -> str:
    return f"{name}(first: {size}) {{ nodes {{ {PARTS[name][1]} }} {_INFO} }}"


_ORDER = f"""
    id legacyResourceId name createdAt processedAt updatedAt cancelledAt currencyCode displayFinancialStatus
    displayFulfillmentStatus test taxesIncluded email phone customerLocale customerAcceptsMarketing
    totalDiscountsSet {_MONEY} totalTaxSet {_MONEY} originalTotalDutiesSet {_MONEY}
    originalTotalAdditionalFeesSet {_MONEY} {_part("lineItems", "$some")} {_part("shippingLines", "$few")}
    fulfillments {{ status createdAt }}
    refunds {{
        id legacyResourceId createdAt note duties {{ amountSet {_MONEY} }} {_part("refundLineItems", "$some")}
        {_part("refundShippingLines", "$few")} {_part("orderAdjustments", "$few")} {_part("transactions", "$few")}
    }}
    customer {{ {_CUSTOMER} }} billingAddress {_ADDRESS} shippingAddress {_ADDRESS}
"""
_SIZES = "$some: Int!, $few: Int!"


class Query(NamedTuple):
    """One operation."""

    name: str
    text: str


class _Asked(NamedTuple):
    type: str
    fields: str
    sizes: str


KINDS: Mapping[Kind, _Asked] = {
    "orders": _Asked("Order", _ORDER, f", {_SIZES}"),
    "customers": _Asked("Customer", f"createdAt updatedAt verifiedEmail tags {_CUSTOMER}", ""),
    "products": _Asked(
        "Product",
        "id legacyResourceId title handle status updatedAt featuredMedia { preview { image { url } } }"
        f" {_part('variants', '$some')}",
        ", $some: Int!",
    ),
}

_PAGE = Template("""
    query $operation($$first: Int!, $$after: String, $$query: String!$sizes) {
        $kind(first: $$first, after: $$after, query: $$query, sortKey: UPDATED_AT) {
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
THERE = Query(
    "There",
    "query There($ids: [ID!]!) { nodes(ids: $ids) { id } currentAppInstallation { accessScopes { handle } } }",
)
"""Which of them can be seen, and what the app may see."""


def page(kind: Kind) -> Query:
    """Some of all of a kind. Variables: first, after, query; some, few: how many of each list within an object."""
    asked = KINDS[kind]
    name = f"Page{asked.type}s"
    return Query(name, _PAGE.substitute(operation=name, kind=kind, fields=asked.fields, sizes=asked.sizes))


def those(kind: Kind) -> Query:
    """Those of some ids. Variables: ids; some, few."""
    asked = KINDS[kind]
    name = f"Those{asked.type}s"
    return Query(name, _THOSE.substitute(operation=name, type=asked.type, fields=asked.fields, sizes=asked.sizes))


def rest(part: str) -> Query:
    """Of a list within an object, what follows. Variables: id, first, after."""
    type_, fields = PARTS[part]
    name = f"Rest{part[0].upper()}{part[1:]}"
    return Query(name, _REST.substitute(operation=name, type=type_, name=part, fields=fields, info=_INFO))


def sizes(kind: Kind, *, some: int, few: int) -> dict[str, int]:
    """The variables for the lists within objects of a kind."""
    return {name: size for name, size in {"some": some, "few": few}.items() if f"${name}" in KINDS[kind].sizes}
