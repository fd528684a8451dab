"""Identity as another product's published tests have it: the cases that speak of who somebody is.

Each Shopify payload goes through our normaliser; what it names must be what they expected: the customer's id, his
e-mail and phone, one person for one cart token, and nobody where they too name nobody but the shop's own staff.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.common.contracts.commerce import Observed
from libs.common.contracts.journal import Delivery
from libs.common.junk import Junk
from services.ingest.normalise import Observations, StoreFacts, Unreadable, normalise
from services.profiles import people
from services.profiles.identity.accounts import STRONG, Claim, claim
from services.profiles.people import PersonState
from tests.contract.corpus import FOLDER

pytestmark = pytest.mark.corpus

EXPECTATIONS = FOLDER / "identity_expectations.json"
if not EXPECTATIONS.exists():
    pytest.skip(f"NO CORPUS in {FOLDER}: foreign identity cases are not tested", allow_module_level=True)

TOPICS = {
    "carts_create": "carts/create",
    "carts_update": "carts/update",
    "checkouts_create": "checkouts/create",
    "checkouts_update": "checkouts/update",
    "customers_create": "customers/create",
    "orders_updated": "orders/updated",
    "fulfillments_create": "fulfillments/create",
    "fulfillments_update": "fulfillments/update",
}
"""Deletes are tombstones here, which name nobody, and the sender's own identifier events are no Shopify topic."""
STORE = StoreFacts(key="st", domain="demo.myshopify.com", currency="EUR", timezone="UTC")
CASES = [case for case in json.loads(EXPECTATIONS.read_text())["cases"] if case["topic"] in TOPICS]


def observed(case: dict[str, Any]) -> list[Observed]:
    body = {name: value for name, value in case["input"].items() if name != "query_parameters"}
    delivery = Delivery(
        store="st",
        platform="shopify",
        topic=TOPICS[case["topic"]],
        delivery_id="1",
        headers={},
        body=json.dumps(body).encode(),
    )
    try:
        outcome = normalise(
            delivery, store=STORE, received_at=datetime(2026, 1, 1, tzinfo=UTC), position=0, delivery_ref="1"
        )
    except Unreadable:
        return []
    return [seen.observed for seen in outcome.observations] if isinstance(outcome, Observations) else []


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["description"]).strip())
def test_who_it_is(case: dict[str, Any]) -> None:
    given, expected = case["input"], case["expected"]
    for each in observed(case):
        named = claim(each, Junk())
        if expected.get("userId") == "shopify-admin":
            assert named is None
            continue
        if expected.get("type") == "identify":
            _check_customer(each, named, expected)
        token = given.get("cart_token") or (given.get("token") if case["topic"].startswith("carts") else None)
        if token and named is not None:
            assert f"cart:st:{token}" in dict(named.edges)


def _check_customer(each: Observed, named: Claim | None, expected: dict[str, Any]) -> None:
    assert named is not None
    assert named.account == f"customer:st:{expected['userId']}"
    traits = expected["traits"]
    assert dict(named.edges)[f"email:{traits['email']}"] == STRONG
    assert f"phone:{traits['phone']}" in dict(named.edges)
    said = people.traits(people.on_observed(PersonState(), each, Junk()))
    assert (said["first_name"], said["last_name"]) == (traits["firstName"], traits["lastName"])


def test_the_cases_are_read() -> None:
    read = [case for case in CASES if observed(case)]
    assert len(read) >= 5, f"only {len(read)} of {len(CASES)} cases are observations to us"


def test_one_cart_token_is_one_account() -> None:
    found: dict[str, set[str]] = {}
    for case in CASES:
        for each in observed(case):
            named = claim(each, Junk())
            anonymous = case["expected"].get("anonymousId")
            if named is not None and anonymous and named.account.startswith("cart:"):
                token = case["input"].get("cart_token") or case["input"].get("token")
                if token:
                    found.setdefault(str(token), set()).add(named.account)
    assert found
    assert all(len(accounts) == 1 for accounts in found.values())
