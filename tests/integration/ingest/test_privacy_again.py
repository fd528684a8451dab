"""A request about somebody who was erased before begins with what those redactions knew, though nobody can read it."""

from datetime import timedelta
from typing import Any

import pytest

from libs.common.crypto import new_key
from services.ingest.redacting import PrivacyRequests
from tests.integration.ingest.ground import Ground
from tests.integration.ingest.test_privacy import PATH, redacted, unreadable
from tests.integration.ingest.test_privacy_api import exported
from tests.unit.ingest.payloads import shopify_order

GUEST = {"customer": None, "email": "ada@example.com", "billing_address": None, "phone": None}
PARCEL = {"id": 2, "order_id": 1, "destination": {"first_name": "Ada", "address1": "Ada's street"}}
REFUND = {"id": 3, "order_id": 1, "created_at": "2026-03-01T09:00:00Z", "note": "Ada, of Ada's street"}


async def sent(ground: Ground, store: str, deliveries: list[tuple[str, Any]]) -> set[str]:
    """Ids of these, later than all before."""
    ground.clock.set(ground.clock.now() + timedelta(hours=1))
    before = {row["id"] for row in (await ground.get("/v1/deliveries", store=store, limit=250))["data"]}
    for topic, payload in deliveries:
        answer = await ground.shopify(store, payload, topic=topic, id_=f"{len(before)} {topic} {payload['id']}")
        assert answer.status_code == 200
    await ground.drain()
    return {row["id"] for row in (await ground.get("/v1/deliveries", store=store, limit=250))["data"]} - before


async def found(ground: Ground, store: str, **customer: str) -> set[str]:
    """Ids of what his export holds."""
    asking = {"store": store, "kind": "data_request", "customer": customer}
    id_ = (await ground.http.post(PATH, json=asking)).json()["id"]
    await ground.drain()
    return {line["id"] for line in await exported(ground, f"{PATH}/{id_}/export")}


async def test_what_belongs_to_an_order_of_before_is_his_still(ground: Ground) -> None:
    store = await ground.register()
    first = await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST))])
    await redacted(ground, store, email="ada@example.com")
    assert await unreadable(ground, store) == first
    later = await sent(ground, store, [("fulfillments/create", PARCEL), ("refunds/create", REFUND)])
    await sent(ground, store, [("refunds/create", REFUND | {"id": 4, "order_id": 9})])
    assert await found(ground, store, email="grace@example.com") == set()
    assert await found(ground, store, email="Ada@example.com") == later
    for _ in range(2):
        await redacted(ground, store, email="ADA@example.com")
        assert await unreadable(ground, store) == first | later
        # Each leaves what the one before it knew.
        later |= await sent(ground, store, [("refunds/create", REFUND)])


async def test_names_that_were_learned_are_known_again_and_lead_on(ground: Ground) -> None:
    store = await ground.register()
    record = {"id": 88, "email": "ada@example.com", "phone": None, "updated_at": "2026-03-01T09:00:00Z"}
    hers = await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST))])
    await redacted(ground, store, email="ada@example.com")
    hers |= await sent(ground, store, [("customers/create", record)])
    await redacted(ground, store, email="ada@example.com")
    # By her number alone, which a redaction learned, and the one before that did not.
    hers |= await sent(
        ground, store, [("customers/update", {"id": 88, "note": "moved"}), ("fulfillments/create", PARCEL)]
    )
    bob = {"customer": {"id": 99, "email": "bob@example.com"}, "email": "bob@example.com"}
    await sent(ground, store, [("orders/create", shopify_order(id=7, **bob))])
    await redacted(ground, store, email="ada@example.com")
    assert await unreadable(ground, store) == hers
    later = await sent(ground, store, [("refunds/create", REFUND)])
    assert await found(ground, store, id="88") == later
    assert await found(ground, store, id="99") != set()


async def test_nobody_is_known_by_a_phone_that_he_shares(ground: Ground) -> None:
    store = await ground.register()
    phone = "+49 30 123456"
    first = await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST | {"phone": phone}))])
    await redacted(ground, store, email="ada@example.com", phone=phone)
    assert await unreadable(ground, store) == first
    later = await sent(ground, store, [("refunds/create", REFUND)])
    assert await found(ground, store, email="bob@example.com", phone=phone) == set()
    assert await found(ground, store, email="ada@example.com") == later


async def test_who_is_known_by_a_phone_alone_is_known_again_by_it(ground: Ground) -> None:
    store = await ground.register()
    phone = "+49 30 123456"
    await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST | {"email": None, "phone": phone}))])
    await redacted(ground, store, phone=phone)
    later = await sent(ground, store, [("refunds/create", REFUND)])
    assert await found(ground, store, phone="0049 30 123456") == later


@pytest.mark.parametrize("kept", [True, False])
async def test_the_keys_that_made_marks_have_to_be_in_the_keyring(ground: Ground, *, kept: bool) -> None:
    store = await ground.register()
    first = await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST))])
    await redacted(ground, store, email="ada@example.com")
    later = await sent(ground, store, [("refunds/create", REFUND)])
    async with ground.database.autocommit() as pg:
        [marks] = [row["marks"] for row in await pg.fetch("SELECT marks FROM privacy_requests")]
    assert len(marks) == 1
    before = (ground.settings.data_dir / "secret.key").read_text()
    (ground.settings.data_dir / "secret.key").write_text(f"{new_key()},{before}" if kept else new_key())
    asking = {"store": store, "kind": "redact", "customer": {"email": "ada@example.com"}}
    assert (await ground.http.post(PATH, json=asking)).status_code == 202
    while await PrivacyRequests(ground.database, ground.keyring, rate=100).run(ground.clock.now()):
        pass
    assert await unreadable(ground, store) == (first | later if kept else first)


async def test_another_store_s_are_not_met(ground: Ground) -> None:
    store, other = await ground.register(), await ground.register(domain="other.myshopify.com")
    await sent(ground, store, [("orders/create", shopify_order(id=1, **GUEST))])
    await redacted(ground, store, email="ada@example.com")
    await sent(ground, other, [("refunds/create", REFUND)])
    assert await found(ground, other, email="ada@example.com") == set()
