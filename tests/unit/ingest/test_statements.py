"""What deliveries say of who somebody is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contracts.journal import Delivery
from services.ingest.statements import OBJECTS, Saying, Told, told
from services.ingest.subjects import Subject
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

BOB = {"id": 99, "email": "Bob@example.com"}
NOBODY: dict[str, Any] = {"customer": None, "email": None, "phone": None, "billing_address": None}


def said(payload: Any, root: str, platform: str = "shopify") -> Told:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    delivery = Delivery(store="st_1", platform=platform, topic="", delivery_id="d-1", headers={}, body=body)
    return told(delivery, root)


def record(*names: str) -> Saying:
    return Saying(record=True, names=names)


def beside(*names: str) -> Saying:
    return Saying(record=False, names=names)


@pytest.mark.parametrize(
    ("payload", "root", "sayings"),
    [
        (BOB | {"phone": None}, "customer:99", [record("customer:99", "email:bob@example.com")]),
        # By a consent, by where he lives, in the legacy API's envelope.
        (
            {"customer_id": 99, "email_address": "bob@example.com"},
            "customer:99",
            [record("customer:99", "email:bob@example.com")],
        ),
        (
            {"id": 99, "email": "", "billing": {"email": "bob@example.com", "phone": "030 123456", "country": "DE"}},
            "customer:99",
            [record("customer:99", "email:bob@example.com", "phone:30123456", "phone:4930123456")],
        ),
        ({"customer": BOB}, "customer:99", [record("customer:99", "email:bob@example.com")]),
        ({"id": 99}, "customer:99", [record("customer:99")]),
        # An order of his account; one that his account placed for somebody else; one of nobody's account.
        (
            NOBODY | {"customer": BOB, "email": "bob@example.com"},
            "order:1",
            [record("customer:99", "email:bob@example.com"), beside("customer:99", "email:bob@example.com")],
        ),
        (
            NOBODY | {"customer": BOB, "email": "eve@example.com"},
            "order:1",
            [record("customer:99", "email:bob@example.com"), beside("email:eve@example.com")],
        ),
        (
            NOBODY | {"customer": {"id": 99}, "contact_email": "eve@example.com"},
            "order:1",
            [record("customer:99"), beside("customer:99", "email:eve@example.com")],
        ),
        (NOBODY | {"email": "eve@example.com"}, "checkout:c", [beside("email:eve@example.com")]),
        (
            woocommerce_order(customer_id=99),
            "order:727",
            [beside("customer:99", "email:grace@example.com", "phone:49309876")],
        ),
        (
            {"order": woocommerce_order(customer_id=0)},
            "order:727",
            [beside("email:grace@example.com", "phone:49309876")],
        ),
        # What the platform asks for, and what nobody reads yet.
        ({"customer": BOB}, "store:privacy", [record("customer:99", "email:bob@example.com")]),
        ({"customer": BOB}, "delivery:0a", [record("customer:99", "email:bob@example.com")]),
        ({"email": "eve@example.com", "id": 1}, "product:1", []),
        (NOBODY | {"email": "none", "customer": {"id": 0, "email": "bob@example.com"}}, "order:1", []),
        # What no database keeps.
        ({"email": "a\x00@example.com", "phone": "\x0030 123456"}, "checkout:c", [
            beside("email:a@example.com", "phone:30123456")
        ]),
        ({"customer": {"id": 99, "email": "bob\x00@example.com"}}, "store:privacy", [
            record("customer:99", "email:bob@example.com")
        ]),
        (["eve@example.com"], "order:1", []),
        (b'{"email": "eve@example.com", "id": ', "order:1", []),
        ({"customer": [BOB], "billing": "bob", "email": {"a": 1}, "phone": True}, "order:1", []),
    ],
)  # fmt: skip
def test_by_webhooks(payload: Any, root: str, sayings: list[Saying]) -> None:
    assert list(said(payload, root).sayings) == sayings


@pytest.mark.parametrize(
    ("profile", "root", "sayings"),
    [
        (
            {"customer_id": "7", "email": "Eve@example.com"},
            "customer:7",
            [record("customer:7", "email:eve@example.com")],
        ),
        ({"customer_id": "7", "email": "eve@example.com"}, "order:1", [beside("customer:7", "email:eve@example.com")]),
        ({"phone": "+49 30 123456", "cart_token": "T"}, "person:0a", [beside("phone:4930123456")]),
        ({"cart_token": "T"}, "cart:T", []),
        (None, "person:0a", []),
    ],
)
def test_by_events(profile: Any, root: str, sayings: list[Saying]) -> None:
    for platform in ("events", "browser"):
        event = {"id": "1", "profile": profile, "properties": {"email": "adam@example.com"}}
        assert list(said(event, root, platform).sayings) == sayings


def test_objects_are_those_that_it_belongs_to() -> None:
    order = shopify_order(cart_token="c1-abc?key=x", checkout_token="k")
    assert said(order, "order:1").objects == ("order:1", "cart:c1-abc", "checkout:k")
    assert said({"token": "k", "cart_token": None}, "checkout:k").objects == ("checkout:k",)
    assert said({"profile": {"cart_token": "T", "checkout_token": "k"}}, "person:0a", "events").objects == (
        "cart:T",
        "checkout:k",
    )
    assert said(BOB, "customer:99").objects == ()
    assert said(b"half", "order:1").objects == ("order:1",)


KEYS = [
    "profile",
    "customer",
    "customer_id",
    "order",
    "order_id",
    "email",
    "phone",
    "billing",
    "country",
    "cart_token",
    "id",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.just("a@b\x00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
)


@given(VALUES, st.sampled_from([*OBJECTS, "customer", "product", "person"]), st.sampled_from(["events", "shopify"]))
def test_whatever_comes_is_read_and_can_be_kept(payload: Any, of: str, platform: str) -> None:
    found = said(payload, f"{of}:1", platform)
    kept = [*found.names, *found.objects]
    assert all(0 < len(name) < 300 and "\x00" not in name for name in kept)
    assert Subject(set(found.names), set(found.objects)).is_in(found) == bool(kept)
