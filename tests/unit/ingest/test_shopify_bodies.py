"""The same object as a webhook and as the Admin API tells it is the same observation."""

import json
from datetime import timedelta
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from libs.common.contracts.commerce import CheckoutObserved, CustomerObserved, OrderObserved, ProductObserved
from regulars.shop import shopify, shopify_api
from regulars.shop import shopify_nodes as nodes
from regulars.shop.model import Checkout, Customer, Order, ProductState
from regulars.shop.world import make_world
from services.ingest.outcome import Unreadable
from services.ingest.platforms import shopify_bodies as bodies
from services.ingest.platforms import shopify_objects as objects
from services.ingest.platforms import shopify_queries as queries
from services.ingest.printed import decoded
from tests.conftest import START
from tests.unit.ingest.payloads import observed, shopify_order

DOMAIN = {"x-shopify-shop-domain": "demo.myshopify.com"}
STATES = [
    change.state
    for change in make_world(seed=5, start=START - timedelta(days=125), days=120, how_many=250).changes
    if change.store == "shopify"
]


def whole(node: Any) -> Any:
    """Its lists as the client has them, once it has read them to their ends."""
    lists: dict[str, Any] = {name: {"nodes": node[name]} for name in queries.PARTS if name in node}
    if "refunds" in node:
        lists["refunds"] = [whole(each) for each in node["refunds"]]
    return node | lists


def fetched_order(node: Any) -> OrderObserved:
    one = decoded(msgspec.json.Decoder(objects.Order), json.dumps(whole(node)).encode())
    return observed(OrderObserved, "shopify", "orders/updated", bodies.order(one))


def without(order: OrderObserved, **fields: Any) -> OrderObserved:
    return msgspec.structs.replace(order, **fields)


def test_every_order_of_a_shop_is_the_same_both_ways() -> None:
    orders = [state for state in STATES if isinstance(state, Order)]
    assert any(refund.goodwill for each in orders for refund in each.refunds)
    assert any(refund.shipping for each in orders for refund in each.refunds)
    assert {"paid", "voided", "refunded", "partially_refunded"} <= {each.status for each in orders}
    for order in orders:
        told = observed(OrderObserved, "shopify", "orders/updated", shopify.body(order))
        assert fetched_order(nodes.order(order)) == without(told, cart_token=None, checkout_token=None)


def test_customers_and_products_are_the_same_both_ways() -> None:
    consents = set()
    for state in STATES:
        match state:
            case Customer():
                raw = json.dumps(nodes.customer(state)).encode()
                body = bodies.customer(decoded(msgspec.json.Decoder(objects.Customer), raw))
                found = observed(CustomerObserved, "shopify", "customers/update", body)
                assert found == observed(CustomerObserved, "shopify", "customers/update", shopify.body(state))
                consents |= {(each.channel, each.state) for each in found.consents}
            case ProductState():
                raw = json.dumps(whole(nodes.product(state))).encode()
                product = bodies.product(decoded(msgspec.json.Decoder(objects.Product), raw))
                told = observed(ProductObserved, "shopify", "products/update", shopify.body(state), headers=DOMAIN)
                assert observed(ProductObserved, "shopify", "products/update", product, headers=DOMAIN) == told
    assert consents == {("email", "subscribed"), ("email", "unsubscribed")}


def money(amount: str) -> Any:
    return {"shopMoney": {"amount": amount, "currencyCode": "EUR"}}


def line(gid: str, title: str, quantity: int, price: str, off: str, tax: str) -> Any:
    return {
        "id": f"gid://shopify/LineItem/{gid}",
        "title": title,
        "quantity": quantity,
        "sku": "TEA-1",
        "originalUnitPriceSet": money(price),
        "discountAllocations": [{"allocatedAmountSet": money(off)}],
        "taxLines": [{"rate": 0.19, "priceSet": money(tax)}],
        "variant": {"legacyResourceId": "502"},
        "product": {"legacyResourceId": "501"},
    }


def order_node(**changes: Any) -> Any:
    """The order of `payloads.shopify_order`, by hand: 80.00 less 8.00, 5.00 shipping, 13.68 tax on top: 90.68."""
    return {
        "id": "gid://shopify/Order/9007199254740993",
        "legacyResourceId": "9007199254740993",
        "name": "#1001",
        "createdAt": "2026-03-01T09:00:00Z",
        "processedAt": "2026-03-01T08:59:58Z",
        "updatedAt": "2026-03-01T09:00:05Z",
        "cancelledAt": None,
        "currencyCode": "EUR",
        "displayFinancialStatus": "PAID",
        "displayFulfillmentStatus": "UNFULFILLED",
        "test": False,
        "taxesIncluded": False,
        "email": "Ada@Example.com",
        "phone": None,
        "customerLocale": "de-DE",
        "customerAcceptsMarketing": True,
        "totalDiscountsSet": money("8.0"),
        "totalTaxSet": money("13.68"),
        "originalTotalDutiesSet": None,
        "originalTotalAdditionalFeesSet": None,
        "customer": {
            "legacyResourceId": "88",
            "firstName": "Ada",
            "lastName": "Lovelace",
            "defaultEmailAddress": {"emailAddress": "ada@example.com", "marketingState": "SUBSCRIBED"},
            "defaultPhoneNumber": None,
            "defaultAddress": None,
        },
        "billingAddress": {"countryCodeV2": "DE", "phone": "030 123456"},
        "shippingAddress": {"countryCodeV2": "AT"},
        "lineItems": [
            line("14", "Green tea", 2, "30.0", "6.0", "10.26"),
            line("15", "Cup", 1, "20.0", "2.0", "3.42"),
        ],
        "shippingLines": [{"originalPriceSet": money("5.0"), "discountedPriceSet": money("5.0"), "taxLines": []}],
        "fulfillments": [],
        "refunds": [],
    } | changes


def test_an_order_checked_by_hand() -> None:
    found = fetched_order(order_node())
    assert (found.gross, found.discounts, found.shipping, found.taxes) == (80_00, 8_00, 5_00, 13_68)
    assert [each.total for each in found.lines] == [54_00, 18_00]
    assert (found.source_id, found.status, found.placed, found.customer_id) == ("9007199254740993", "paid", True, "88")
    told = observed(OrderObserved, "shopify", "orders/updated", shopify_order())
    assert found == without(told, cart_token=None, checkout_token=None)


def test_a_refund_checked_by_hand() -> None:
    """A tea comes back with its tax, the shipping too; 1.00 for the trouble, and 2.50 of the duties."""
    refund = {
        "id": "gid://shopify/Refund/7",
        "legacyResourceId": "7",
        "createdAt": "2026-03-02T09:00:00Z",
        "note": "broken",
        "duties": [{"amountSet": money("2.0")}, {"amountSet": money("0.5")}],
        "refundLineItems": [
            {
                "quantity": 1,
                "lineItem": {"id": "gid://shopify/LineItem/14"},
                "subtotalSet": money("27.0"),
                "totalTaxSet": money("5.13"),
            }
        ],
        "refundShippingLines": [{"subtotalAmountSet": money("5.0"), "taxAmountSet": money("0.95")}],
        "orderAdjustments": [
            {"reason": "REFUND_DISCREPANCY", "amountSet": money("-1.0"), "taxAmountSet": money("0.0")}
        ],
        "transactions": [{"kind": "REFUND", "status": "SUCCESS", "amountSet": money("41.58")}],
    }
    [found] = fetched_order(order_node(refunds=[refund], displayFinancialStatus="PARTIALLY_REFUNDED")).refunds
    assert (found.source_id, found.returns, found.shipping, found.taxes) == ("7", 28_00, 5_00, 8_58)
    assert found.returns + found.shipping + found.taxes == 41_58


@pytest.mark.parametrize("total", ["8.0", "10.5"])
def test_discounts_on_shipping_are_told_apart_whether_the_total_holds_them_or_not(total: str) -> None:
    shipping = {"originalPriceSet": money("5.0"), "discountedPriceSet": money("2.5"), "taxLines": []}
    found = fetched_order(order_node(totalDiscountsSet=money(total), shippingLines=[shipping]))
    assert (found.gross, found.discounts, found.shipping) == (80_00, 8_00, 2_50)


def test_yen_have_no_cents() -> None:
    node = order_node(currencyCode="JPY", totalTaxSet=money("0.0"), totalDiscountsSet=money("100.0"))
    node["lineItems"] = [line("14", "Tea", 2, "3000.0", "100.0", "0.0")]
    assert (fetched_order(node).gross, fetched_order(node).discounts) == (6000, 100)


@pytest.mark.parametrize(
    ("state", "at", "told"),
    [
        ("SUBSCRIBED", "2026-03-01T00:00:00Z", "subscribed"),
        ("UNSUBSCRIBED", "2026-03-01T00:00:00Z", "unsubscribed"),
        ("PENDING", "2026-03-01T00:00:00Z", "pending"),
        ("REDACTED", None, "unsubscribed"),
        ("NOT_SUBSCRIBED", None, None),
        ("INVALID", None, None),
        (None, None, None),
    ],
)
def test_consents(state: str | None, at: str | None, told: str | None) -> None:
    said = {"marketingState": state, "marketingUpdatedAt": at}
    node = {
        "legacyResourceId": "88",
        "createdAt": "2026-02-01T00:00:00Z",
        "updatedAt": "2026-03-02T00:00:00Z",
        "tags": ["vip", "wholesale"],
        "defaultEmailAddress": {"emailAddress": "ada@example.com", **said},
        "defaultPhoneNumber": {"phoneNumber": "+4930123456", **said},
    }
    body = bodies.customer(decoded(msgspec.json.Decoder(objects.Customer), json.dumps(node).encode()))
    found = observed(CustomerObserved, "shopify", "customers/update", body)
    assert {each.channel: each.state for each in found.consents} == ({"email": told, "sms": told} if told else {})
    assert (found.person.email, found.person.phone, found.tags) == (
        "ada@example.com",
        "+4930123456",
        ["vip", "wholesale"],
    )


def checkout_of(node: Any) -> tuple[bodies.Json, CheckoutObserved]:
    one = decoded(msgspec.json.Decoder(objects.Checkout), json.dumps(whole(node)).encode())
    body = bodies.checkout(one)
    return body, observed(CheckoutObserved, "shopify", "checkouts/update", body)


def test_checkouts_are_the_same_both_ways_but_for_their_tokens() -> None:
    checkouts = [state for state in STATES if isinstance(state, Checkout) and state.contact.customer_id]
    assert any(each.completed_at for each in checkouts)
    for each in checkouts:
        told = observed(CheckoutObserved, "shopify", "checkouts/update", shopify.body(each))
        _, fetched = checkout_of(nodes.checkout(each))
        # Neither is told: a tick that was set is told with the order, and the record's consents.
        person = msgspec.structs.replace(told.person, locale=None)
        expected = msgspec.structs.replace(told, source_id=each.cart, accepts_marketing=None, person=person)
        assert fetched == expected


@pytest.mark.parametrize(
    ("path", "token", "cart"),
    [
        (
            "548380009/checkouts/2a1ace52255252df566af0faaedfbfa7/recover?key=k",
            "2a1ace52255252df566af0faaedfbfa7",
            None,
        ),
        (
            "804/checkouts/ac/Z2NwLXVzLWNlbnRyYWwxOjAx/recover?key=k",
            "Z2NwLXVzLWNlbnRyYWwxOjAx",
            "Z2NwLXVzLWNlbnRyYWwxOjAx",
        ),
        (
            "804/checkouts/ac/hWN2TB7ZmvSu4DM4b8U70bgH/en/recover?key=k",
            "hWN2TB7ZmvSu4DM4b8U70bgH",
            "hWN2TB7ZmvSu4DM4b8U70bgH",
        ),
        ("checkouts/cn/hWN2TB7ZmvSu4DM4b8U70bgH", "hWN2TB7ZmvSu4DM4b8U70bgH", "hWN2TB7ZmvSu4DM4b8U70bgH"),
    ],
)
def test_a_checkout_is_named_by_the_address_where_the_buyer_goes_on(path: str, token: str, cart: str | None) -> None:
    node = {
        "updatedAt": "2026-03-02T09:00:00Z",
        "abandonedCheckoutUrl": f"https://shop.example/{path}",
        "lineItems": [],
    }
    body, _ = checkout_of(node)
    assert (body["token"], body["cart_token"]) == (token, cart)


def test_discounts_of_a_checkout_are_its_lines() -> None:
    line = {
        "title": "Cup",
        "quantity": 2,
        "originalUnitPriceSet": money("10.0"),
        "originalTotalPriceSet": money("20.0"),
    }
    line["discountedTotalPriceWithCodeDiscount"] = money("15.0")
    url = "https://shop.example/1/checkouts/ac/hWN2TB7ZmvSu4DM4b8U70bgH/recover"
    node = {"updatedAt": "2026-03-02T09:00:00Z", "abandonedCheckoutUrl": url, "lineItems": [line]}
    _, found = checkout_of(node | {"totalPriceSet": money("17.5")})
    assert (found.total, [(each.price, each.total) for each in found.lines]) == (17_50, [(10_00, 15_00)])


def test_what_names_no_checkout_is_none() -> None:
    with pytest.raises(Unreadable, match="abandonedCheckoutUrl"):
        bodies.checkout(objects.Checkout(abandoned_checkout_url="https://shop.example/cart"))


def test_what_has_no_id_is_nothing() -> None:
    with pytest.raises(Unreadable, match="legacyResourceId: missing"):
        bodies.order(objects.Order())


def test_what_is_asked_for_is_what_is_read() -> None:
    """By type: a field that is read and not asked for would be empty for ever."""
    texts = {kind: queries.page(kind).text for kind in queries.KINDS}
    types: dict[str, type] = {"orders": objects.Order, "customers": objects.Customer, "products": objects.Product}
    types["checkouts"] = objects.Checkout
    for kind, text in texts.items():
        names = shopify_api.names(text)
        # Of the customer whom an order names, this is the record's.
        assert set(_fields(types[kind])) <= names | {"verifiedEmail", "tags"}
        assert names - {queries.page(kind).name} <= shopify_api.SERVED


def _fields(type_: Any) -> set[str]:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        named = {each.encode_name for each in msgspec.structs.fields(type_)}
        return named.union(*(_fields(each) for each in get_type_hints(type_).values()))
    if get_origin(type_) is objects.Connection:
        return _fields(get_args(type_)[0]) | {"nodes", "pageInfo", "hasNextPage", "endCursor"}
    return set[str]().union(*(_fields(each) for each in get_args(type_)))
