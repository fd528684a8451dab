"""The bytes are those that the platforms send: shapes, escapes, numbers, signatures."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest

from regulars.shop.catalog import SHOPIFY, STORES, WOOCOMMERCE
from regulars.shop.delivery import EVENTS, Delivery, request
from regulars.shop.model import Order, RefundTold

SPECS = {store.name: store for store in STORES}


def requests(arriving: list[Delivery], topic: str) -> Iterator[tuple[Any, bytes, dict[str, str]]]:
    for each in arriving:
        if each.topic == topic and each.outcome == "observed":
            raw, headers = request(each, SPECS[each.store])
            yield json.loads(raw), raw, headers


@pytest.mark.parametrize(
    ("store", "name"), [("shopify", "X-Shopify-Hmac-Sha256"), ("woocommerce", "X-WC-Webhook-Signature")]
)
def test_every_webhook_is_signed_by_its_store_alone(arriving: list[Delivery], store: str, name: str) -> None:
    ours = [each for each in arriving if each.store == store and each.topic not in {EVENTS, ""}]
    for each in ours[::10] + [each for each in ours if each.outcome == "refused"]:
        raw, headers = request(each, SPECS[each.store])
        good = base64.b64encode(hmac.digest(SPECS[each.store].secret.encode(), raw, hashlib.sha256)).decode()
        assert (headers[name] == good) == (each.outcome != "refused")


def test_shopify_orders_add_up_as_printed(arriving: list[Delivery]) -> None:
    sizes = []
    for body, raw, _ in requests(arriving, "orders/create"):
        sizes.append(len(raw))
        lines = sum(float(line["price"]) * line["quantity"] for line in body["line_items"])
        shipping = sum(float(line["price"]) for line in body["shipping_lines"])
        printed = lines - float(body["total_discounts"]) + shipping
        assert float(body["total_price"]) == pytest.approx(printed)
        assert body["created_at"].endswith(("+01:00", "+02:00"))
        assert body["taxes_included"] is True
    assert 3000 < sum(sizes) / len(sizes) < 8000


def test_shopify_refunds_are_numbers_and_adjustments_negative(arriving: list[Delivery]) -> None:
    kinds = set()
    for body, _, _ in requests(arriving, "refunds/create"):
        assert all(isinstance(line["subtotal"], float) for line in body["refund_line_items"])
        for adjustment in body["order_adjustments"]:
            kinds.add(adjustment["kind"])
            assert adjustment["amount"].startswith("-")
    assert kinds == {"shipping_refund", "refund_discrepancy"}


def test_shopify_carts_name_nobody(arriving: list[Delivery]) -> None:
    bodies = [body for body, _, _ in requests(arriving, "carts/create")]
    assert all({"customer", "email", "currency"}.isdisjoint(body) for body in bodies)
    assert all(body["created_at"].endswith("Z") for body in bodies)
    assert any("?key=" in body["id"] for body in bodies)


def test_one_action_shares_an_event_id_and_not_a_webhook_id(arriving: list[Delivery]) -> None:
    paid = {h.get("X-Shopify-Event-Id"): h["X-Shopify-Webhook-Id"] for _, _, h in requests(arriving, "orders/paid")}
    created = [h for _, _, h in requests(arriving, "orders/create") if h.get("X-Shopify-Event-Id") in paid]
    assert any(h["X-Shopify-Webhook-Id"] != paid[h["X-Shopify-Event-Id"]] for h in created if "X-Shopify-Event-Id" in h)
    assert None in paid


def test_woocommerce_is_ascii_with_escaped_slashes_and_bare_dates(arriving: list[Delivery]) -> None:
    for body, raw, headers in requests(arriving, "order.updated"):
        assert raw.isascii()
        assert b'"/' not in raw
        assert b"\\/" in raw
        assert len(body["date_modified_gmt"]) == len("2026-01-05T10:00:00")
        assert isinstance(body["line_items"][0]["price"], float)
        assert headers["X-WC-Webhook-Topic"] == "order.updated"


def test_woocommerce_totals_add_up_as_printed(arriving: list[Delivery]) -> None:
    for body, _, _ in requests(arriving, "order.created"):
        parts = [line["total"] for kind in ("line_items", "fee_lines", "shipping_lines") for line in body[kind]]
        assert float(body["total"]) == pytest.approx(sum(map(float, parts)) + float(body["total_tax"]))


def test_two_deliveries_of_one_second_share_their_woocommerce_id(arriving: list[Delivery]) -> None:
    order = next(each for each in arriving if each.topic == "order.updated" and isinstance(each.state, Order))
    _, first = request(order, WOOCOMMERCE)
    _, second = request(order, WOOCOMMERCE)
    assert first["X-WC-Webhook-Delivery-ID"] == second["X-WC-Webhook-Delivery-ID"]


def test_a_repeat_is_the_same_request(arriving: list[Delivery]) -> None:
    repeat = next(
        each for each in arriving if each.outcome == "duplicate" and isinstance(each.told, RefundTold | Order)
    )
    first = next(each for each in arriving if each.webhook_id == repeat.webhook_id and each.outcome == "observed")
    raw, headers = request(repeat, SHOPIFY)
    again, others = request(first, SHOPIFY)
    assert raw == again
    assert headers["X-Shopify-Webhook-Id"] == others["X-Shopify-Webhook-Id"]
