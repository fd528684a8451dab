"""Which deliveries are about a person."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.contracts import codec
from libs.common.contracts.commerce import Identifiers
from libs.common.contracts.journal import Delivery, removal_of
from libs.common.contracts.topics import JOURNAL
from services.ingest.statements import asked_for, object_of, told
from services.ingest.subjects import Subject
from tests.unit.ingest.payloads import shopify_order, woocommerce_order

BY_ID = Identifiers(customer_id="88")
BY_EMAIL = Identifiers(email="Ada@example.com")
BY_PHONE = Identifiers(phone="+49 30 123456")
GRACE = Identifiers(email="grace@example.com")


def is_about(who: Identifiers, payload: Any, *, root: str = "", roots: tuple[str, ...] = ()) -> bool:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    delivery = Delivery(store="st_1", platform="shopify", topic="", delivery_id="d-1", headers={}, body=body)
    return Subject(asked_for(who), roots).is_in(told(delivery, root))


@pytest.mark.parametrize(
    ("who", "payload"),
    [
        (BY_ID, shopify_order()),
        (BY_ID, {"customer_id": "88"}),
        (BY_ID, {"customerId": "gid://shopify/Customer/88", "tags": []}),
        (BY_ID, {"order": {"customer": {"id": 88}}}),
        (BY_EMAIL, shopify_order(customer=None)),
        (BY_EMAIL, {"email_address": "ADA@EXAMPLE.COM"}),
        (BY_EMAIL, {"id": "e-1", "type": "custom.quiz", "profile": {"email": "ada@example.com"}}),
        (BY_EMAIL, {"meta_data": [{"key": "_gift_to", "value": "ada@example.com"}]}),
        (BY_EMAIL, ["ada@example.com"]),
        # What nobody can read may name him all the same.
        (BY_EMAIL, b'{"email": "ada@example.com", "id": '),
        (BY_EMAIL, b"email=ada%40example.com&total=1"),
        (BY_EMAIL, b'{"email": "ada@example.com", "note": "\\ud83d"}'),
        (BY_EMAIL, b'{"a": ' + b"[" * 5000 + b'"ada@example.com"' + b"]" * 5000 + b"}"),
        (GRACE, woocommerce_order()),
        # As it is printed for who lives there, and for all the world.
        (BY_PHONE, shopify_order(customer=None, email=None)),
        (BY_PHONE, {"billing": {"phone": "(030) 123-456", "country": "DE"}}),
        (BY_PHONE, {"phone": "0049 30 123456"}),
        (BY_PHONE, {"default_address": {"phone": "4930123456"}}),
        (Identifiers(phone="030 123456"), {"billing_phone": "030/123456"}),
    ],
)
def test_wherever_it_stands(who: Identifiers, payload: Any) -> None:
    assert is_about(who, payload)


@pytest.mark.parametrize(
    ("who", "payload"),
    [
        (BY_ID, woocommerce_order(customer_id=0)),
        (BY_ID, woocommerce_order(customer_id=188)),
        # An id of something else.
        (BY_ID, {"id": 88, "order_id": 88, "product_id": 88, "user_id": 88}),
        (BY_ID, {"customer": {"id": 99}, "line_items": [{"id": 88}]}),
        (BY_EMAIL, woocommerce_order()),
        (BY_EMAIL, {"email": "ada@example.com.example", "contact_email": "da@example.com"}),
        (BY_PHONE, {"phone": "+43 30 123456"}),
        (BY_PHONE, {"billing": {"phone": "030 123456", "country": "AT"}}),
        (BY_PHONE, {"phone": "123456"}),
        # It is no phone.
        (BY_PHONE, {"id": 4930123456, "sku": "+4930123456"}),
        (BY_PHONE, {"phone": None, "phones": [], "telephone": True}),
        (Identifiers(), {"email": "", "phone": "", "customer_id": None, "order_id": None}),
        (Identifiers(email=" "), {"email": "", "note": " "}),
    ],
)
def test_nobody_else_is_meant(who: Identifiers, payload: Any) -> None:
    assert not is_about(who, payload)


def test_what_is_known_to_be_his_names_nobody() -> None:
    refund = {"id": 1, "order_id": 1001}
    assert is_about(BY_EMAIL, refund, root="order:1001", roots=("order:1001",))
    assert is_about(BY_EMAIL, refund | {"id": 5}, root="fulfillment:5", roots=("order:1001",))
    assert not is_about(BY_EMAIL, refund, root="order:1001", roots=("order:1002", "checkout:1001"))
    assert is_about(BY_ID, {"id": 88}, root="customer:88")
    assert not is_about(BY_ID, {"id": 88}, root="product:88")


def test_what_speaks_of_a_cart_and_of_nobody_is_whose_the_cart_is() -> None:
    viewed = {"cart_token": "T", "sku": "TEA"}
    assert is_about(BY_EMAIL, viewed, roots=("cart:T",))
    assert is_about(BY_EMAIL, viewed | {"cart_token": "T?key=1"}, roots=("cart:T",))
    assert not is_about(BY_EMAIL, viewed, roots=("checkout:T", "cart:U"))
    # Devices are lent.
    order = {"id": 5, "email": "grace@example.com", "cart_token": "T"}
    assert not is_about(BY_EMAIL, order, root="order:5", roots=("cart:T",))
    assert is_about(BY_EMAIL, order, root="order:5", roots=("order:5",))


def test_only_what_is_one_person_s_is_his_as_a_whole() -> None:
    roots = ["order:1", "checkout:c", "cart:c", "customer:1", "product:1", "store:privacy", "delivery:0a", "person:1"]
    # A customer's record is his by its number alone.
    assert [object_of(root) for root in roots] == [*roots[:3], None, None, None, None, None]


@given(
    st.builds(
        Delivery,
        store=st.text(max_size=3),
        platform=st.text(max_size=3),
        topic=st.text(max_size=3),
        delivery_id=st.text(max_size=3),
        headers=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        body=st.binary(max_size=300),
    )
)
def test_no_delivery_is_taken_for_one_that_was_removed(delivery: Delivery) -> None:
    kept = codec.encode(JOURNAL.name, delivery)
    assert removal_of(kept) is None
    assert removal_of(b"\x00" + kept) == "redacted"
    assert removal_of(b"\x01" + kept) == "retention"


STRANGER = Identifiers(email="mallory@example.com", phone="+49 690933842")
ADAS = {"email": "ada@example.com", "customer": {"id": 88, "email": "ada@example.com"}}


@pytest.mark.parametrize(
    "told_by_another",
    [
        {"order_status_url": "https://tea.example/690933842/orders/abc/authenticate?key=1"},
        {"landing_site": "/products/cup?variant=49690933842"},
        {"landing_site": "/products/cup?utm_content=mallory%40example.com"},
        {"referring_site": "https://mallory@example.com/"},
        {"note_attributes": [{"name": "ref", "value": "mallory@example.com"}]},
        {"line_items": [{"properties": [{"name": "Recipient", "value": "mallory@example.com"}]}]},
        {"shipping_address": {"phone": "+49 690933842"}},
        {"billing_address": {"phone": "+49 690933842"}},
    ],
)
@pytest.mark.parametrize("root", ["order:1", "cart:T", "checkout:T"])
def test_nobody_makes_another_s_order_his(told_by_another: dict[str, Any], root: str) -> None:
    # The tokens of carts and checkouts may have been read by who passed by.
    assert not is_about(STRANGER, ADAS | told_by_another, root=root, roots=("cart:T", "checkout:T"))


def test_a_household_s_phone_is_whose_name_is_asked_for() -> None:
    order = ADAS | {"billing_address": {"phone": "+49 30 123456"}}
    assert not is_about(Identifiers(email="bob@example.com", phone="+49 30 123456"), order, root="order:1")
    assert is_about(BY_PHONE, order, root="order:1")


@pytest.mark.parametrize("email", ["EUR", "@", "paid", "<EUR>", "a@"])
def test_what_is_no_email_is_nobody(email: str) -> None:
    assert asked_for(Identifiers(email=email)) == set()


@pytest.mark.parametrize("number", ["guest", "Undefined", "null", "-1"])
def test_what_shops_have_for_no_number_is_nobody(number: str) -> None:
    assert asked_for(Identifiers(customer_id=number)) == set()


@pytest.mark.parametrize("root", ["order:5800000000001", "product:5800000000001", "delivery:5800000000001"])
def test_a_platform_s_number_is_no_phone(root: str) -> None:
    asked = Subject(asked_for(Identifiers(phone="+5800000000001")), ())
    assert not asked.is_called(root)
    assert not is_about(Identifiers(phone="+5800000000001"), {"id": 1, "note": None}, root=root)
    assert asked.is_called("customer:+58 0000 000001")
