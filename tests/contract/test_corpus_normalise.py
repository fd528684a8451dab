"""Every real payload has an outcome, and the one that it should have."""

import json
from collections import Counter
from typing import Any

import pytest

from libs.common.contracts.commerce import OrderObserved
from services.ingest import shopify, woocommerce
from services.ingest.normalise import root_key
from tests.contract.corpus import FOLDER, deliveries, present, read

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(
        not present(), reason=f"NO CORPUS in {FOLDER}: real payloads are not tested; set REGULARS_CORPUS"
    ),
]
ANONYMISED = "example string"
"""What one of the corpus' sources put in place of every text, amounts and currencies among them."""


def test_every_payload_has_an_outcome() -> None:
    outcomes = Counter(read(file, delivery)[0].outcome for file, delivery in deliveries())
    assert outcomes.total() == 128
    assert outcomes["observed"] >= 70


def test_payloads_die_only_of_what_was_done_to_them() -> None:
    """Anonymised amounts, and fixtures that are no webhook body (a list, an envelope of many, a test author's own)."""
    altered = {
        "checkouts/update": "token: missing",
        "customers/update": "id: missing",
        "product.updated": "unexpected shape: Expected `object`, got `array`",
    }
    for file, delivery in deliveries():
        result, _ = read(file, delivery)
        if result.outcome == "dead" and ANONYMISED.encode() not in delivery.body:
            assert altered[delivery.topic] == result.reason, file


def test_known_topics_are_never_parked_and_unknown_ones_always() -> None:
    known = {*shopify.TOPICS, *woocommerce.TOPICS} - {"checkouts/delete"}
    for file, delivery in deliveries():
        result, _ = read(file, delivery)
        assert (result.outcome == "parked") is (delivery.topic not in known), file


def test_events_go_where_the_webhook_route_sent_their_delivery() -> None:
    for file, delivery in deliveries():
        _, found = read(file, delivery)
        for each in found.observations if found else ():
            assert each.root == root_key(delivery.platform, delivery.topic, delivery.body), file


def inconsistent(platform: str, body: dict[str, Any]) -> bool:
    """Fixtures whose lines do not make up their total, and gift cards, which pay for what was sold."""
    lines = body.get("line_items") or []
    if platform == "shopify":
        listed = sum(float(each["price"]) * each["quantity"] for each in lines)
        return bool(lines) and abs(listed - float(body["total_line_items_price"])) > 0.001
    parts = sum(float(each["total"]) for each in [*lines, *body.get("fee_lines", [])])
    shipping = float(body.get("shipping_total") or body.get("total_shipping") or 0)
    return abs(parts + shipping + float(body["total_tax"]) - float(body["total"])) > 0.001


def test_orders_sum_up_to_their_printed_totals() -> None:
    compared = 0
    for file, delivery in deliveries():
        _, found = read(file, delivery)
        order = found.observations[0].observed if found else None
        if not isinstance(order, OrderObserved):
            continue
        body = json.loads(delivery.body)
        body = body.get("order", body)
        printed = body.get("total_price") or body.get("total")
        if printed is None or inconsistent(delivery.platform, body):
            continue
        assert order.gross - order.discounts + order.shipping + order.taxes == round(float(printed) * 100), file
        compared += 1
    assert compared >= 15
