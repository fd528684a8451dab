import json
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.contracts.journal import Delivery
from services.ingest.normalise import Observations, Parked, Unreadable, normalise, root_key
from services.ingest.printed import (
    LONGEST_TITLE,
    MOST_PARTS,
    MOST_SURROGATES,
    decimal,
    identifier,
    instant,
    text,
    title,
)
from tests.unit.ingest.payloads import RECEIVED_AT, STORE, outcome, shopify_order, woocommerce_order


@pytest.mark.parametrize(
    ("platform", "topic", "payload", "root"),
    [
        ("shopify", "orders/create", shopify_order(), "order:9007199254740993"),
        ("shopify", "Orders/Create ", shopify_order(), "order:9007199254740993"),
        ("shopify", "orders/delete", {"id": "gid://shopify/Order/12?x=1"}, "order:12"),
        ("shopify", "orders/edited", {"order_edit": {"id": 1, "order_id": 12}}, "order:12"),
        ("shopify", "refunds/create", {"id": 1, "order_id": 12}, "order:12"),
        ("shopify", "fulfillments/update", {"id": 1, "order_id": 12}, "order:12"),
        ("shopify", "order_transactions/create", {"id": 1, "order_id": 12}, "order:12"),
        ("shopify", "checkouts/update", {"id": 1, "token": "chk-1"}, "checkout:chk-1"),
        ("shopify", "carts/update", {"id": "c1-a?key=b", "token": "c1-a?key=b"}, "cart:c1-a"),
        ("shopify", "carts/update", {"id": "c1-a"}, "cart:c1-a"),
        ("shopify", "customers/update", {"id": 88}, "customer:88"),
        ("shopify", "customers_email_marketing_consent/update", {"customer_id": 88}, "customer:88"),
        ("shopify", "customers_marketing_consent/update", {"id": 88}, "customer:88"),
        ("shopify", "products/delete", {"id": 501}, "product:501"),
        ("shopify", "customers/redact", {"customer": {"id": 88}}, "store:privacy"),
        ("shopify", "shop/redact", {"shop_id": 1}, "store:privacy"),
        ("woocommerce", "order.updated", woocommerce_order(), "order:727"),
        ("woocommerce", "order.updated", woocommerce_order(status="checkout-draft"), "order:727"),
        ("woocommerce", "order.updated", {"order": {"id": 118}}, "order:118"),
        ("woocommerce", "order.deleted", {"id": 727}, "order:727"),
        ("woocommerce", "customer.created", {"id": 25}, "customer:25"),
        ("woocommerce", "product.updated", {"id": 93}, "product:93"),
    ],
)
def test_a_delivery_goes_with_its_root_object(platform: str, topic: str, payload: object, root: str) -> None:
    assert root_key(platform, topic, json.dumps(payload).encode()) == root


@pytest.mark.parametrize(
    ("platform", "topic", "body", "root"),
    [
        # What the normaliser does not read of a body must not take its object's place away.
        ("shopify", "customers/update", b'{"id": 88, "order_id": ' + b"9" * 5000 + b"}", "customer:88"),
        ("shopify", "products/delete", b'{"id": 501, "order_edit": {"\xff": 1}}', "product:501"),
        (
            "woocommerce",
            "order.updated",
            b'{"order": {"id": 118, "x\xee": 1, "currency": "EUR", "total": "1.00"}}',
            "order:118",
        ),
        (
            "woocommerce",
            "order.created",
            b'{"id": 727, "customer": {"note": "\xff"}, "currency": "EUR", "total": "1.00"}',
            "order:727",
        ),
        # An envelope names the object of what is read from it, and of nothing else.
        ("woocommerce", "customer.deleted", b'{"id": 25, "customer": {"id": 4}}', "customer:25"),
    ],
)
def test_what_can_be_read_has_the_root_that_it_was_sent_by(platform: str, topic: str, body: bytes, root: str) -> None:
    found = outcome(platform, topic, body)
    assert isinstance(found, Observations)
    assert [each.root for each in found.observations] == [root]
    assert root_key(platform, topic, body) == root


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("orders/create", b""),
        ("orders/create", b'"a string"'),
        ("orders/create", b"[]"),
        ("orders/create", b"<xml/>"),
        ("orders/create", b'{"id": true}'),
        ("orders/create", b'{"id": {"a": 1}}'),
        ("orders/create", b'{"id": 0}'),
        ("orders/create", b'{"id": "' + b"9" * 300 + b'"}'),
        ("orders/create", b'{"id": "\xff"}'),
        ("orders/create", b"[" * 100_000),
        ("shop/update", b'{"id": 1}'),
        ("", b'{"id": 1}'),
    ],
)
def test_what_names_no_root_goes_by_its_digest(topic: str, body: bytes) -> None:
    key = root_key("shopify", topic, body)
    assert key.startswith("delivery:")
    assert key == root_key("shopify", topic, body)
    assert key != root_key("shopify", topic, body + b" ")


@pytest.mark.parametrize("body", [b"", b'"a string"', b"[]", b"<xml/>", b"null", b'{"id": 1', b"[" * 100_000, b"\xff"])
@pytest.mark.parametrize(("platform", "topic"), [("shopify", "orders/create"), ("woocommerce", "order.created")])
def test_bodies_that_are_no_object(platform: str, topic: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        outcome(platform, topic, body)


@pytest.mark.parametrize(
    ("body", "reason"), [(b'{"note": ' + b"[" * 90_000, "not JSON: nested too deep"), (b"\xff", "not JSON: ")]
)
def test_what_is_not_json_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        outcome("shopify", "orders/create", body)


def test_half_a_surrogate_pair_is_replaced_and_whole_ones_are_kept() -> None:
    body = json.dumps(shopify_order(name="#1 \U0001f375"))
    broken = body.replace("Lovelace", r"Love\ud83dlace\udc00 \\ud83d").encode()
    found = outcome("shopify", "orders/create", broken)
    assert isinstance(found, Observations)
    order: Any = found.observations[0].observed
    assert order.number == "#1 \U0001f375"
    assert order.person.last_name == "Love\ufffdlace\ufffd \\ud83d"
    assert root_key("shopify", "orders/create", broken) == found.observations[0].root


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        (rb"\\ud83d\udc00", "\\ud83d\ufffd"),  # what another backslash prints is no half of a pair
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\ud83d\ud83d\udc00", "\ufffd\U0001f400"),
        (rb"\udc00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d" * 3, "\ufffd" * 3),
    ],
)
def test_halves_of_surrogate_pairs_in_a_row(printed: bytes, name: str) -> None:
    found = outcome("shopify", "customers/update", b'{"id": 1, "first_name": "' + printed + b'"}')
    assert isinstance(found, Observations)
    customer: Any = found.observations[0].observed
    assert customer.person.first_name == name


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": 1, "line_items": [' + b"{}," * MOST_PARTS + b"{}]}", "more objects and lists than any shop prints"),
        (b'{"id": 1, "note": ' + b"[]," * MOST_PARTS, "more objects and lists than any shop prints"),
        (b'{"id": 1, "email": "' + rb"\ud83d" * (MOST_SURROGATES + 1) + b'"}', "not JSON: "),
    ],
)
def test_what_would_take_long_to_read_is_not_read(body: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        outcome("shopify", "orders/create", body)
    assert root_key("shopify", "orders/create", body).startswith("delivery:")


def test_escaped_and_raw_text_are_the_same() -> None:
    escaped = rb'{"id": 1, "email": "a\u0026b\/c@example.com", "currency": "EUR"}'
    raw = b'{"id": 1, "email": "a&b/c@example.com", "currency": "EUR"}'
    assert outcome("shopify", "customers/create", escaped) == outcome("shopify", "customers/create", raw)


def test_other_platforms_are_parked() -> None:
    delivery = Delivery(store="st_1", platform="magento", topic="x", delivery_id="1", headers={}, body=b"{}")
    found = normalise(delivery, store=STORE, received_at=RECEIVED_AT, position=1, delivery_ref="j")
    assert isinstance(found, Parked)


def test_the_origin_of_a_delivery_stays_with_its_observations() -> None:
    delivery = Delivery(
        store="st_1",
        platform="shopify",
        topic="products/delete",
        delivery_id="1",
        headers={},
        body=b'{"id": 1}',
        origin="replayed",
    )
    found = normalise(delivery, store=STORE, received_at=RECEIVED_AT, position=1, delivery_ref="j")
    assert isinstance(found, Observations)
    assert found.observations[0].observed.origin == "replayed"


def test_what_was_shown_after_a_deletion_is_dated_no_earlier() -> None:
    body = json.dumps(woocommerce_order()).encode()
    of_itself = outcome("woocommerce", "order.updated", body)
    assert isinstance(of_itself, Observations)
    for not_before in (datetime(2020, 1, 1, tzinfo=UTC), RECEIVED_AT):
        delivery = Delivery(
            store=STORE.key,
            platform="woocommerce",
            topic="order.updated",
            delivery_id="1",
            headers={},
            body=body,
            not_before=not_before,
        )
        found = normalise(delivery, store=STORE, received_at=RECEIVED_AT, position=7, delivery_ref="j-1")
        assert isinstance(found, Observations)
        dated = max(not_before, of_itself.observations[0].observed.updated_at)
        assert found.observations[0].observed.updated_at == dated


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (9007199254740993, "9007199254740993"),
        (10**30, str(10**30)),
        (10**41, None),
        (" 12 ", "12"),
        ("gid://shopify/Cart/c1-a?key=b", "c1-a"),
        ("1\x002", "12"),
        (0, None),
        ("0", None),
        (True, None),
        (1.5, None),
        (None, None),
        ({}, None),
    ],
)
def test_ids(value: object, expected: str | None) -> None:
    assert identifier(value) == expected


@pytest.mark.parametrize("value", ["1_000", "\uff11\uff12", "nan", "inf", "12,50", "0x1", "", "1e999"])
def test_amounts_are_plain_decimals(value: str) -> None:
    if value == "":
        assert decimal(value, "total") == 0
        return
    with pytest.raises(Unreadable, match="total: "):
        decimal(value, "total")


@pytest.mark.parametrize("value", ["example string", 1, True, "1850-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_dates_that_are_none(value: Any) -> None:
    with pytest.raises(Unreadable, match="updated_at: "):
        instant(value, "updated_at")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tea &amp; honey", "Tea & honey"),
        ("&#0;&#xD800;&#x110000;", "\ufffd\ufffd\ufffd"),
        # Python reads no number of more than 4,300 digits.
        ("&#" + "9" * (LONGEST_TITLE - 2), "\ufffd"),
        ("Tea &#" + "9" * 5000 + ";", "Tea &#" + "9" * 5000 + ";"),
    ],
)
def test_titles_are_read_as_a_browser_does(value: str, expected: str) -> None:
    assert title(value) == expected


def test_text_is_trimmed_and_empty_is_absent() -> None:
    assert [text(each) for each in (" a\x00b ", "", "  ", None, True, 12)] == ["ab", None, None, None, None, "12"]
