"""The rest of the twenty-five cases: money, dates, people, carts, refunds, and what nobody has heard of."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.conftest import START
from tests.e2e.cases.ground import Ground
from tests.unit.ingest.payloads import shopify_line, shopify_order, woocommerce_line, woocommerce_order

OBSERVED = "observed"


def checkout(**different: Any) -> dict[str, Any]:
    """As `checkouts/create` has it from 2026-04 on: no id."""
    return {
        "token": "chk-1",
        "cart_token": "c1-1",
        "email": "ada@example.com",
        "created_at": "2026-03-02T09:00:00Z",
        "updated_at": "2026-03-02T09:00:00Z",
        "completed_at": None,
        "currency": "EUR",
        "total_price": "60.00",
        "abandoned_checkout_url": "https://case.myshopify.com/checkouts/chk-1/recover",
        "line_items": [shopify_line()],
    } | different


def cart(**different: Any) -> dict[str, Any]:
    return {
        "id": "c1-1?key=abc",
        "token": "c1-1?key=abc",
        "created_at": "2026-03-02T09:00:00.000Z",
        "updated_at": "2026-03-02T09:00:00.000Z",
        "line_items": [{"id": 1, "quantity": 1, "title": "Tea", "price": "30.00", "line_price": "30.00"}],
    } | different


def refunded(n: int, amount: float, **different: Any) -> dict[str, Any]:
    """A refund of goods by itself, in Shopify's numbers."""
    return {
        "id": n,
        "order_id": 9007199254740993,
        "created_at": "2026-03-01T12:00:00Z",
        "processed_at": "2026-03-01T12:00:00Z",
        "refund_line_items": [{"id": n, "line_item_id": 14, "quantity": 1, "subtotal": amount, "total_tax": 0.0}],
        "transactions": [],
        "order_adjustments": [],
    } | different


async def test_17_money_in_every_form(ground: Ground) -> None:
    store = await ground.store("shopify")
    for n, price in enumerate((30, 30.5, "30.555", "-30.00", "example string", "1,5", "1e400", 10**30)):
        await store.send("orders/create", shopify_order(id=n + 1, line_items=[shopify_line(price=price, quantity=1)]))
    outcomes = await store.outcomes()
    assert [outcome for _, outcome, _ in outcomes] == [OBSERVED] * 4 + ["dead"] * 4
    assert all(str(reason).startswith("line_items[0].price: ") for _, _, reason in outcomes[4:])
    gross = {order["source_id"]: order["gross"]["amount"] for order in await store.orders()}
    assert gross == {"1": "30.00", "2": "30.50", "3": "30.56", "4": "-30.00"}
    # The decimals are the shop's, and a yen has none.
    yen = await ground.store("woocommerce", currency="JPY")
    await yen.send("order.created", woocommerce_order(currency="JPY", total="35.58"))
    assert (await yen.order(727))["total"] == {"amount": "36", "currency": "JPY"}


async def test_18_dates_in_every_form(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    await shopify.send("orders/create", shopify_order(processed_at="2026-03-01T09:00:00.123456789+01:00"))
    await shopify.send(
        "orders/create", shopify_order(id=2, processed_at="1970-01-01T00:00:00Z", created_at="1970-01-01T00:00:00Z")
    )
    await shopify.send("orders/create", shopify_order(id=3, processed_at=None))
    naive = {"date_created_gmt": None, "date_modified_gmt": None, "date_paid_gmt": None}
    await woocommerce.send("order.created", woocommerce_order(date_created="2026-03-01T10:00:00", **naive))
    assert {order["source_id"]: order["placed_at"] for order in await shopify.orders()} == {
        "9007199254740993": "2026-03-01T08:00:00.123456Z",
        "2": "1970-01-01T00:00:00Z",
        "3": "2026-03-01T09:00:00Z",
    }
    # Without a suffix they are the shop's own: Berlin, in winter.
    (local,) = await woocommerce.orders()
    assert (local["placed_at"], local["updated_at"]) == ("2026-03-01T09:00:00Z", "2026-03-01T09:05:00Z")


async def test_19_orders_of_nobody(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    nobody: dict[str, Any] = {"customer": None, "email": "", "phone": None, "billing_address": None}
    await shopify.send("orders/create", shopify_order(id=1, user_id=12, **nobody))
    absent = shopify_order(id=2, user_id=12, **nobody)
    del absent["customer"]
    await shopify.send("orders/create", absent)
    await woocommerce.send(
        "order.created", woocommerce_order(customer_id=0, billing={"email": "", "phone": ""}, shipping={})
    )
    orders = [*await shopify.orders(), *await woocommerce.orders()]
    assert len(orders) == 3
    for order in orders:
        # Sold, and to nobody: user_id 12 sold it.
        assert (order["profile_id"], order["customer_source_id"], order["email"]) == (None, None, None)
        assert order["counted"]
    assert (await ground.get("/v1/profiles"))["data"] == []
    kpis = await shopify.kpis()
    assert (kpis["orders"], kpis["customers"]) == (2, 0)


async def test_20_a_checkout_without_id_and_a_customer_without_tags_or_consent(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("checkouts/create", checkout())
    customer = {"id": 88, "email": "ada@example.com", "created_at": "2026-03-01T09:00:00Z"}
    consent = {"state": "subscribed", "consent_updated_at": "2026-03-01T09:00:00Z", "opt_in_level": "single_opt_in"}
    await store.send(
        "customers/create",
        {**customer, "updated_at": "2026-03-01T09:00:00Z", "tags": "vip", "email_marketing_consent": consent},
    )
    await store.send("customers/update", {**customer, "updated_at": "2026-03-01T10:00:00Z"})
    found = await ground.get(f"/v1/checkouts/{store.key}:chk-1")
    assert (found["cart_token"], found["total"]["amount"]) == ("c1-1", "60.00")
    ada = await ground.get("/v1/profiles/email:ada@example.com")
    assert found["profile_id"] == ada["id"]
    # What a later version leaves out has not been withdrawn.
    assert ada["consent"]["email"]["state"] == "subscribed"


async def test_21_carts_with_no_identity_no_items_or_a_suffix(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("carts/create", cart())
    await store.send("carts/update", cart(updated_at="2026-03-02T09:05:00.000Z", line_items=[]))
    await store.send("carts/create", cart(id="c1-2", token="c1-2"))
    assert [outcome for _, outcome, _ in await store.outcomes()] == [OBSERVED] * 3
    profiles = (await ground.get("/v1/profiles"))["data"]
    tokens = {identifier["value"] for profile in profiles for identifier in profile["identifiers"]}
    assert tokens == {"c1-1", "c1-2"}, "a key behind the token is no part of it"
    assert {profile["traits"]["email"] for profile in profiles} == {None}
    assert (await store.kpis())["carts"] == 1, "one holds nothing any more"
    await ground.line.advance(START + timedelta(hours=3))
    assert (await ground.get("/v1/messages"))["data"] == []


async def test_22_test_and_voided_orders(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order(id=1, test=True))
    await store.send("orders/create", shopify_order(id=2), headers={"X-Shopify-Test": "true"})
    await store.send("orders/create", shopify_order(id=3, financial_status="voided"))
    await store.send("orders/create", shopify_order(id=4))
    counted = {order["source_id"]: (order["test"], order["counted"]) for order in await store.orders()}
    assert counted == {"1": (True, False), "2": (True, False), "3": (False, False), "4": (False, True)}
    kpis = await store.kpis()
    assert (kpis["orders"], kpis["gross_sales"]["amount"]) == (1, "80.00")


async def test_23_refunds_partial_repeated_deleted_and_without_money(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    await shopify.send("orders/create", shopify_order())
    for n, amount in ((1, 10.0), (1, 10.0), (2, 5.5)):
        await shopify.send("refunds/create", refunded(n, amount))
    await shopify.send("refunds/create", refunded(3, 0.0, refund_line_items=[]))
    order = await shopify.order(9007199254740993)
    assert (order["returns"]["amount"], order["net"]["amount"]) == ("15.50", "56.50")
    assert sorted(refund["returns"]["amount"] for refund in order["refunds"]) == ["0.00", "10.00", "5.50"]
    assert (await shopify.kpis())["returns"]["amount"] == "15.50"
    await woocommerce.send("order.created", woocommerce_order())
    back = []
    for minute, refunds in ((10, ["-10.00"]), (11, ["-10.00", "-5.50"]), (12, ["-5.50"]), (13, [])):
        told = [{"id": 900 + n, "reason": "", "total": total} for n, total in enumerate(refunds)]
        await woocommerce.send(
            "order.updated", woocommerce_order(date_modified_gmt=f"2026-03-01T09:{minute}:00", refunds=told)
        )
        order = await woocommerce.order(727)
        parts = [sum(Decimal(r[name]["amount"]) for r in order["refunds"]) for name in ("returns", "shipping", "tax")]
        back.append((str(sum(parts)), order["returns"]["amount"]))
    # What was given back, and what of it were goods; a deleted refund is gone.
    assert [whole for whole, _ in back] == ["10.00", "15.50", "5.50", "0"]
    assert back[-1][1] == "0.00"


async def test_24_redaction_with_only_an_e_mail_and_events_after_it(ground: Ground) -> None:
    store = await ground.store("shopify")
    await store.send("orders/create", shopify_order(id=1, customer=None))
    await store.send("refunds/create", refunded(1, 10.0, order_id=1))
    await store.send("orders/create", shopify_order(id=2, email="bob@example.com", customer=None))
    await ground.line.drained()
    request = {"shop_id": 1, "shop_domain": "case.myshopify.com", "customer": {"email": "ADA@example.com"}}
    assert await store.send("customers/redact", request | {"orders_to_redact": []}) == 200
    [asked] = (await ground.get(f"/v1/privacy-requests?store={store.key}"))["data"]
    assert (asked["kind"], asked["state"], asked["receipts"][0]["found"]) == ("redact", "done", 3)
    assert asked["due_at"] == f"{START + timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    # What is received after it is new.
    await ground.line.advance(START + timedelta(hours=1))
    await store.send("orders/create", shopify_order(id=3, customer=None))
    rows = (await ground.get(f"/v1/deliveries?store={store.key}"))["data"]
    whole = [(await ground.get(f"/v1/deliveries/{row['id']}")) for row in rows]
    assert [(one["topic"], one["removed"], one["body"] is None) for one in whole] == [
        ("orders/create", None, False),
        ("customers/redact", "redacted", True),
        ("orders/create", None, False),
        ("refunds/create", "redacted", True),
        ("orders/create", "redacted", True),
    ]
    # Nobody behind us stumbles over what was asked for.
    for service in ("ingest", "profiles"):
        assert (await ground.get(f"/v1/dead-letters/{service}"))["data"] == []
    assert sorted(order["source_id"] for order in await store.orders()) == ["1", "2", "3"]


async def test_25_what_nobody_has_heard_of(ground: Ground) -> None:
    shopify, woocommerce = await ground.store("shopify"), await ground.store("woocommerce")
    await shopify.send(
        "orders/create", shopify_order(financial_status="on_the_moon"), headers={"X-Shopify-API-Version": "2031-07"}
    )
    baking = woocommerce_order(status="wc-baking", customer_note="a\x00b", line_items=[woocommerce_line(name="a\x00b")])
    await woocommerce.send("order.created", baking)
    await woocommerce.send("order.created", {**baking, "id": 729, "date_paid_gmt": None})
    await shopify.send("moons/rise", {"id": 1})
    await woocommerce.send("moon.risen", {"id": 1})
    variants = [{"id": n, "title": f"No. {n}", "price": "1.00", "sku": f"S-{n}"} for n in range(1, 101)]
    product = {"id": 501, "title": "Tea", "updated_at": "2026-03-01T09:00:00Z", "variants": variants}
    product["variant_gids"] = [{"admin_graphql_api_id": f"gid://shopify/ProductVariant/{n}"} for n in range(1, 251)]
    await shopify.send("products/update", product)
    large = woocommerce_order(
        id=728, line_items=[woocommerce_line(id=n, meta_data=[{"value": "x" * 3100}]) for n in range(400)]
    )
    assert len(json.dumps(large)) > 1_300_000
    await woocommerce.send("order.created", large)
    assert [outcome for _, outcome, _ in await shopify.outcomes()] == [OBSERVED, "parked", OBSERVED]
    assert [outcome for _, outcome, _ in await woocommerce.outcomes()] == [OBSERVED, OBSERVED, "parked", OBSERVED]
    assert (await shopify.order(9007199254740993))["status"] == "on_the_moon"
    # A status that a plugin made counts as a sale once it is paid.
    paid, unpaid = await woocommerce.order(727), await woocommerce.order(729)
    assert (paid["status"], paid["counted"], unpaid["counted"]) == ("baking", True, False)
    assert "\x00" not in paid["lines"][0]["title"]
    assert len((await woocommerce.order(728))["lines"]) == 400
    assert len((await ground.get(f"/v1/products/{shopify.key}:501"))["variants"]) == 100


async def test_a_consent_of_the_future_outruns_no_withdrawal(ground: Ground) -> None:
    store = await ground.store("shopify", consent="soft_opt_in")
    later = "2199-01-01T00:00:00Z"
    ticked = {"buyer_accepts_marketing": True, "created_at": later}
    await store.send("orders/create", shopify_order(processed_at="2026-03-02T13:00:00Z", **ticked))
    await store.send("checkouts/create", checkout(**ticked))
    customer = {"id": 88, "email": "ada@example.com", "created_at": "2026-03-01T09:00:00Z"}
    for minute, state, at in ((0, "subscribed", later), (1, "unsubscribed", "2026-03-02T11:59:00Z")):
        consent = {"state": state, "consent_updated_at": at}
        changed = {"updated_at": f"2026-03-02T11:5{minute}:00Z", "email_marketing_consent": consent}
        await store.send("customers/update", customer | changed)
    ada = await ground.get("/v1/profiles/email:ada@example.com")
    assert ada["consent"]["email"]["state"] == "unsubscribed"


async def test_a_consent_that_stands_alone_is_of_no_future_either(ground: Ground) -> None:
    store = await ground.store("shopify")
    customer = {"id": 88, "email": "ada@example.com", "created_at": "2026-03-01T09:00:00Z"}
    await store.send("customers/create", customer)
    for state, at in (("subscribed", "2150-01-01T00:00:00Z"), ("unsubscribed", "2026-03-02T11:59:00Z")):
        said = {"state": state, "opt_in_level": None, "consent_updated_at": at}
        told = {"customer_id": 88, "email_address": "ada@example.com", "email_marketing_consent": said}
        await store.send("customers_email_marketing_consent/update", told)
    ada = await ground.get("/v1/profiles/email:ada@example.com")
    assert ada["consent"]["email"]["state"] == "unsubscribed"


async def test_a_date_of_the_future_outlasts_nothing(ground: Ground) -> None:
    store = await ground.store("woocommerce")
    await store.send("order.updated", woocommerce_order(status="processing", date_modified_gmt="2199-01-01T00:00:00"))
    now = START + timedelta(minutes=1)
    await ground.line.advance(now)
    cancelled = woocommerce_order(status="cancelled", date_modified_gmt=f"{now:%Y-%m-%dT%H:%M:%S}")
    await store.send("order.updated", cancelled)
    assert (await store.order(727))["status"] == "cancelled"
