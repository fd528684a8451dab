from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.contracts.commerce import Consent, ConsentObserved, CustomerObserved, ProductObserved, Removed
from services.ingest.normalise import Ignored, Parked
from tests.unit.ingest.payloads import observed, outcome

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
UPDATED = datetime(2026, 3, 1, tzinfo=UTC)


def customer(**changes: Any) -> CustomerObserved:
    payload = {
        "id": 88,
        "email": "ada@example.com",
        "phone": "",
        "first_name": "Ada",
        "last_name": None,
        "verified_email": True,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-03-01T00:00:00Z",
        "default_address": {"phone": "030 1", "last_name": "Lovelace", "country_code": "de"},
    } | changes
    return observed(CustomerObserved, "shopify", "customers/update", payload)


def consents(**changes: Any) -> list[tuple[str, str, datetime]]:
    return [(each.channel, each.state, each.at) for each in customer(**changes).consents]


def test_a_customer_of_today_carries_neither_tags_nor_consents() -> None:
    found = customer()
    assert (found.source_id, found.created_at, found.updated_at) == ("88", CREATED, UPDATED)
    assert (found.person.phone, found.person.last_name, found.person.country) == ("030 1", "Lovelace", "DE")
    assert found.email_verified
    assert found.tags is None
    assert found.consents == []


def test_tags_come_as_text_or_list() -> None:
    assert customer(tags="vip, léon,, ").tags == ["vip", "léon"]
    assert customer(tags=["vip", " b "]).tags == ["vip", "b"]
    assert customer(tags="").tags == []


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("subscribed", "subscribed"),
        ("SUBSCRIBED", "subscribed"),
        ("pending", "pending"),
        ("unsubscribed", "unsubscribed"),
        ("redacted", "unsubscribed"),
        ("not_subscribed", None),
        ("invalid", None),
        (None, None),
    ],
)
def test_words_for_consent(word: str | None, state: str | None) -> None:
    told = {"state": word, "consent_updated_at": "2026-02-01T00:00:00Z"}
    at = datetime(2026, 2, 1, tzinfo=UTC)
    assert consents(email_marketing_consent=told) == ([("email", state, at)] if state else [])
    assert consents(sms_marketing_consent=told) == ([("sms", state, at)] if state else [])


def test_an_undated_yes_is_as_old_as_the_record_and_an_undated_no_as_new() -> None:
    told = {"state": "subscribed", "consent_updated_at": None}
    assert consents(email_marketing_consent=told) == [("email", "subscribed", CREATED)]
    assert consents(email_marketing_consent=told | {"state": "unsubscribed"}) == [("email", "unsubscribed", UPDATED)]


def test_accepts_marketing_of_old_versions() -> None:
    later = "2026-02-01T00:00:00Z"
    at = datetime(2026, 2, 1, tzinfo=UTC)
    assert consents(accepts_marketing=True, accepts_marketing_updated_at=later) == [("email", "subscribed", at)]
    assert consents(accepts_marketing=False, accepts_marketing_updated_at=later) == [("email", "unsubscribed", at)]
    default = {"accepts_marketing": False, "accepts_marketing_updated_at": "2026-01-01T00:00:01Z"}
    assert consents(**default) == []
    assert consents(email_marketing_consent={"state": "pending"}, accepts_marketing=True)[0][1] == "pending"


def test_consent_topics() -> None:
    told = {"state": "unsubscribed", "opt_in_level": None, "consent_updated_at": "2026-02-01T00:00:00Z"}
    at = datetime(2026, 2, 1, tzinfo=UTC)
    mail = {"customer_id": 88, "email_address": "ada@example.com", "email_marketing_consent": told}
    found = observed(ConsentObserved, "shopify", "customers_email_marketing_consent/update", mail)
    assert found.consent == Consent(channel="email", state="unsubscribed", at=at, source="customer")
    assert (found.identifiers.customer_id, found.identifiers.email) == ("88", "ada@example.com")
    text = {"id": 88, "phone": "+4930", "sms_marketing_consent": told | {"state": "subscribed"}}
    spoken = observed(ConsentObserved, "shopify", "customers_marketing_consent/update", text)
    assert (spoken.consent.channel, spoken.consent.state, spoken.identifiers.phone) == ("sms", "subscribed", "+4930")
    assert spoken.source_id != found.source_id
    silent = mail | {"email_marketing_consent": {"state": None}}
    assert isinstance(outcome("shopify", "customers_email_marketing_consent/update", silent), Ignored)


def product(**changes: Any) -> ProductObserved:
    payload = {
        "id": 501,
        "title": "Tea & honey",
        "handle": "tea",
        "status": "active",
        "updated_at": "2026-03-01T00:00:00Z",
        "image": None,
        "images": [{"src": "//cdn.example/tea.png"}],
        "variants": [
            {"id": 502, "title": "Default Title", "sku": "T", "price": "30.00", "inventory_quantity": -2},
            {"id": 503, "title": "Large", "sku": "", "price": "50.00", "inventory_management": None},
        ],
    } | changes
    headers = {"x-shopify-shop-domain": "tea.myshopify.com"}
    return observed(ProductObserved, "shopify", "products/update", payload, headers=headers)


def test_a_product_with_its_variants() -> None:
    found = product()
    assert (found.title, found.status, found.currency) == ("Tea & honey", "active", "EUR")
    assert (found.url, found.image) == ("https://tea.myshopify.com/products/tea", "https://cdn.example/tea.png")
    plain, large = found.variants
    assert (plain.source_id, plain.title, plain.price, plain.stock) == ("502", None, 3000, -2)
    assert (large.title, large.sku, large.stock) == ("Large", None, None)
    assert found.variants_complete


def test_more_than_a_hundred_variants_are_not_all_told() -> None:
    assert not product(variant_gids=[{"admin_graphql_api_id": f"gid://{each}"} for each in range(3)]).variants_complete


def test_products_from_before_there_was_a_status() -> None:
    assert product(status=None, published_at="2011-01-01T00:00:00Z").status == "active"
    assert product(status=None, published_at=None).status == "draft"


@pytest.mark.parametrize("kind", ["customer", "product"])
def test_tombstones(kind: str) -> None:
    assert observed(Removed, "shopify", f"{kind}s/delete", {"id": 706405506930370084}).source_id == "706405506930370084"


@pytest.mark.parametrize(
    "topic",
    [
        "inventory_levels/update",
        "collections/create",
        "draft_orders/create",
        "fulfillments/create",
        "customer.tags_added",
        "something/new",
        "",
    ],
)
def test_topics_that_nothing_reads_yet_are_parked_whatever_they_carry(topic: str) -> None:
    found = outcome("shopify", topic, b"<not json>")
    assert isinstance(found, Parked)
    assert (topic or "without topic") in found.reason
