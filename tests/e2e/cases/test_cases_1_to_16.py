"""Twenty-five cases that a good ingest survives, from a webhook over HTTP to what the API says in the end."""

import json

from tests.e2e.cases.ground import SECRET, Ground, signature
from tests.unit.ingest.payloads import shopify_line, shopify_order, woocommerce_line, woocommerce_order

OBSERVED = "observed"


async def test_01_ids_beyond_two_to_the_53(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    await shopify.send("orders/create", shopify_order(id=2**53 + 1))
    await shopify.send("orders/create", shopify_order(id=2**53))
    await woocommerce.send("order.created", woocommerce_order(id=2**62 + 1))
    assert (await shopify.order(2**53 + 1))["source_id"] == "9007199254740993"
    assert (await shopify.order(2**53))["source_id"] == "9007199254740992"
    assert (await woocommerce.order(2**62 + 1))["source_id"] == str(2**62 + 1)


async def test_02_the_same_bytes_under_several_topics(ground: Ground) -> None:
    store = await ground.store("shopify")
    for topic in ("orders/create", "orders/paid", "orders/cancelled"):
        assert await store.send(topic, shopify_order()) == 200
    assert await store.outcomes() == [
        (topic, OBSERVED, None) for topic in ("orders/create", "orders/paid", "orders/cancelled")
    ]
    assert (await store.kpis())["orders"] == 1
    # What an order is stands in its body; the topic says what made the shop tell of it.
    assert (await store.order(9007199254740993))["cancelled_at"] is None


async def test_03_updated_before_created_and_cancelled_first(ground: Ground) -> None:
    store = await ground.store("shopify")
    cancelled = "2026-03-01T11:00:00Z"
    await store.send("orders/cancelled", shopify_order(updated_at=cancelled, cancelled_at=cancelled))
    await store.send("orders/updated", shopify_order(updated_at="2026-03-01T10:30:00Z"))
    await store.send("orders/create", shopify_order(updated_at="2026-03-01T10:00:00Z"))
    found = await store.order(9007199254740993)
    assert (found["cancelled_at"], found["counted"]) == (cancelled, False)
    assert (await store.kpis())["orders"] == 0


async def test_04_a_retry_hours_later_with_stale_state(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/updated", shopify_order(updated_at="2026-03-01T15:00:00Z", financial_status="voided"))
    await store.send("orders/create", shopify_order(updated_at="2026-03-01T10:00:00Z", financial_status="pending"))
    assert (await store.order(9007199254740993))["status"] == "voided"


async def test_05_one_event_id_across_topics_and_none_at_all(ground: Ground) -> None:
    store = await ground.store("shopify")
    shared = {"X-Shopify-Event-Id": "one-action-of-the-merchant"}
    await store.send("orders/create", shopify_order(financial_status="pending"), headers=shared)
    paid = shopify_order(updated_at="2026-03-01T11:00:00Z")
    await store.send("orders/paid", paid, headers=shared)
    await store.send(
        "orders/fulfilled", shopify_order(updated_at="2026-03-01T12:00:00Z", fulfillment_status="fulfilled")
    )
    assert [outcome for _, outcome, _ in await store.outcomes()] == [OBSERVED] * 3
    assert (await store.order(9007199254740993))["status"] == "paid"
    assert (await store.counts())["duplicates"] == 0


async def test_06_two_deliveries_of_woocommerce_with_one_delivery_id(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    placed, done = woocommerce_order(), woocommerce_order(status="completed", date_modified_gmt="2026-03-01T09:05:00")
    for body in (placed, done, done):
        assert await store.send("order.updated", body, id_="1f0c") == 200
    # Of one second both, and the later delivery wins; the same bytes again are the same delivery.
    assert (await store.order(727))["status"] == "completed"
    counts = await store.counts()
    assert (counts["observed"], counts["duplicates"]) == (2, 1)


async def test_07_headers_of_both_families_in_any_case(ground: Ground) -> None:
    store = await ground.store("shopify")
    for n, prefix in enumerate(("X-Shopify-", "Shopify-", "x-shopify-", "SHOPIFY-")):
        body = json.dumps(shopify_order(id=n + 1)).encode()
        # What stands behind the signature before its line ends is no part of it.
        named = {"Topic": "orders/create", "Hmac-Sha256": signature(body) + " \t", "Webhook-Id": f"w-{n}"}
        assert await store.send_lines(body, {prefix + name: value for name, value in named.items()}) == 200
    assert await store.outcomes() == [("orders/create", OBSERVED, None)] * 4
    assert len(await store.orders()) == 4


async def test_08_both_secrets_during_rotation_and_no_empty_one(ground: Ground) -> None:
    store = await ground.store("shopify", secrets=["the new secret", "the old secret"])
    answers = []
    for n, secret in enumerate(("the new secret", "the old secret", "another secret")):
        body = shopify_order(id=n + 1)
        answers.append(await store.send("orders/create", body, signed=signature(json.dumps(body).encode(), secret)))
    assert answers == [200, 200, 401]
    await ground.store("shopify", secrets=["the new secret"])
    late = json.dumps(shopify_order(id=9)).encode()
    assert await store.send("orders/create", late, signed=signature(late, "the old secret")) == 401
    assert len(await store.orders()) == 2
    refused = await ground.http.post(
        "/v1/stores",
        json={
            "platform": "woocommerce",
            "domain": "empty.example",
            "currency": "EUR",
            "timezone": "UTC",
            "secrets": [""],
        },
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/secrets/0"


async def test_09_bodies_that_are_no_object(ground: Ground) -> None:
    store = await ground.store("shopify")
    for body in (b'"string"', b"[]", b"", b"<order><id>1</id></order>"):
        assert await store.send("orders/create", body) == 200
    await store.send("orders/create", shopify_order())
    *bad, good = await store.outcomes()
    assert good == ("orders/create", OBSERVED, None)
    assert [outcome for _, outcome, _ in bad] == ["dead"] * 4
    assert all(reason for _, _, reason in bad)
    letters = (await ground.get("/v1/dead-letters/ingest"))["data"]
    assert sorted(letter["reason"] for letter in letters) == sorted(str(reason) for _, _, reason in bad)


async def test_10_bytes_are_verified_and_not_what_they_mean(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    title = "Tee & Glück / 茶"
    text = json.dumps(woocommerce_order(line_items=[woocommerce_line(name=title)]))
    escaped = text.replace("/", "\\/").replace("&", "\\u0026").encode()
    raw = json.dumps(woocommerce_order(id=728, line_items=[woocommerce_line(name=title)]), ensure_ascii=False).encode()
    for body in (escaped, raw):
        assert await store.send("order.created", body) == 200
        # The same meaning in other bytes is another body.
        assert await store.send("order.created", body + b" ", signed=signature(body)) == 401
    for id_ in (727, 728):
        assert (await store.order(id_))["lines"][0]["title"] == title


async def test_11_signatures_that_are_none(ground: Ground) -> None:
    store = await ground.store("shopify")
    for signed in ("not base64 !!", "bmluZSBieXRl", "A" * 4000, signature(b"other"), SECRET, "=", "0" * 64):
        assert await store.send("orders/create", shopify_order(), signed=signed) == 401, signed
    assert await store.send("orders/create", shopify_order(), signed="") == 401
    assert await store.outcomes() == []
    assert sum((await store.counts())["refused"].values()) == 8


async def test_12_the_unsigned_ping(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert await store.send_bare(b"webhook_id=7", form) == 200
    assert await store.outcomes() == []
    assert await store.send_bare(b"webhook_id=7&order=1", form) == 401


async def test_13_an_error_in_place_of_the_order(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    error = {"code": "woocommerce_rest_shop_order_invalid_id", "message": "Invalid ID.", "data": {"status": 404}}
    assert await store.send("order.created", error) == 200
    ((_, outcome, reason),) = await store.outcomes()
    assert outcome == "ignored"
    assert "woocommerce_rest_shop_order_invalid_id" in str(reason)
    assert await store.orders() == []


async def test_14_a_legacy_envelope(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    legacy = {
        "id": 645,
        "order_number": "645",
        "created_at": "2026-03-01T09:00:00Z",
        "updated_at": "2026-03-01T09:05:00Z",
        "status": "processing",
        "currency": "EUR",
        "total": "79.87",
        "customer_id": 0,
        "billing_address": {"email": "grace@example.com", "country": "DE"},
        "line_items": [],
    }
    assert await store.send("order.created", {"order": legacy}) == 200
    assert await store.outcomes() == [("order.created", OBSERVED, None)]
    found = await store.order(645)
    assert found["placed_at"] == "2026-03-01T09:00:00Z"
    assert (found["total"]["amount"], found["email"]) == ("79.87", "grace@example.com")


async def test_15_deletions_of_what_was_never_seen(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    told = {"X-Shopify-Triggered-At": "2026-03-01T12:00:00.123456789Z"}
    assert await shopify.send("orders/delete", {"id": 9007199254740993}, headers=told) == 200
    assert await woocommerce.send("order.deleted", {"id": 727}) == 200
    # It comes late, and is of before: what was deleted stays so.
    await shopify.send("orders/create", shopify_order())
    await woocommerce.send("order.created", woocommerce_order())
    for store, id_ in ((shopify, 9007199254740993), (woocommerce, 727)):
        found = await store.order(id_)
        assert (found["deleted"], found["counted"]) == (True, False)
        assert (await store.kpis())["orders"] == 0


async def test_16_properties_of_any_shape(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    shapes: list[object] = [None, {}, [], True, {"a": {"b": []}}, "text", 5, [{"name": "n", "value": None}]]
    for n, shape in enumerate(shapes):
        order = shopify_order(id=n + 1, note_attributes=shape, line_items=[shopify_line(properties=shape)])
        await shopify.send("orders/create", order)
        meta = woocommerce_order(id=n + 1, meta_data=shape, line_items=[woocommerce_line(meta_data=shape)])
        await woocommerce.send("order.created", meta)
    for store in (shopify, woocommerce):
        assert [outcome for _, outcome, _ in await store.outcomes()] == [OBSERVED] * len(shapes)
        assert len(await store.orders()) == len(shapes)
