"""What callers can rely on: the exact fields, the references, the pages, the errors, and nobody else's rows."""

from datetime import datetime
from typing import Any

import httpx

from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    Consent,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Line,
    Person,
    ProductObserved,
    Refund,
    RefundObserved,
    Removed,
    StoreObserved,
    Variant,
)
from libs.common.contracts.messages import MessageSent, MessageUnsubscribed
from libs.common.db import Database
from tests.integration.profiles.driving import at, order, record, run

EUR = "EUR"


def common(source_id: str, minute: int, **fields: Any) -> dict[str, Any]:
    return {
        "store": "st_one",
        "platform": "shopify",
        "source_id": source_id,
        "updated_at": at(minute),
        "position": minute,
        **fields,
    }


ADA = CustomerObserved(
    **common("9", 1),
    person=Person(email="Ada@example.com", phone="+4915112345601", first_name="Ada", last_name="Lovelace"),
    created_at=at(0),
    consents=[Consent(channel="email", state="subscribed", at=at(1), source="customer")],
)


async def seed(database: Database) -> None:
    await run(
        database,
        [
            record(ADA),
            record(CartObserved(**common("c1", 2), started_at=at(2), currency=EUR, total=10_000)),
            record(
                CheckoutObserved(
                    **common("t1", 3),
                    started_at=at(3),
                    currency=EUR,
                    total=10_000,
                    cart_token="c1",
                    recovery_url="https://one.example.com/r/t1",
                    lines=[Line(title="Tea", quantity=2, price=5_000, total=10_000)],
                    person=Person(email="ada@example.com"),
                )
            ),
            record(
                order(
                    1,
                    5,
                    placed_at=at(4),
                    customer_id="9",
                    checkout_token="t1",
                    taxes=1_900,
                    refunds=[Refund(source_id="r1", at=at(5), returns=5_000, taxes=950)],
                )
            ),
            record(order(2, 6, placed_at=at(6), customer_id="9", cancelled_at=at(6))),
            record(order(3, 7, store="st_two", placed_at=at(7), status="pending")),
            record(
                ActivityObserved(**common("e1", 8), identifiers=Identifiers(customer_id="9"), activity="product.viewed")
            ),
        ],
    )


async def get(api: httpx.AsyncClient, path: str, status: int = 200, /, **params: Any) -> Any:
    answer = await api.get(path, params=params)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_order_is_shown_as_the_ledger_has_it(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await seed(profiles_db)
    found = await get(api, "/v1/orders/st_one:1")
    profile = await get(api, "/v1/profiles/shopify:st_one:9")
    money = {name: value["amount"] for name, value in found.items() if isinstance(value, dict)}
    assert money == {
        "gross": "100.00",
        "discounts": "0.00",
        "returns": "50.00",
        "net": "50.00",
        "shipping": "5.00",
        "tax": "9.50",
        "total": "64.50",
    }
    assert {name: found[name] for name in ("source_id", "number", "status", "counted", "deleted", "test")} == {
        "source_id": "1",
        "number": "#1",
        "status": "paid",
        "counted": True,
        "deleted": False,
        "test": False,
    }
    assert found["profile_id"] == profile["id"]
    assert found["customer_source_id"] == "9"
    assert found["email"] == "ada@example.com"
    assert datetime.fromisoformat(found["placed_at"]) == at(4)
    assert found["refunds"] == [
        {
            "source_id": "r1",
            "at": "2026-03-01T00:05:00Z",
            "returns": {"amount": "50.00", "currency": "EUR"},
            "shipping": {"amount": "0.00", "currency": "EUR"},
            "tax": {"amount": "9.50", "currency": "EUR"},
            "reason": None,
        }
    ]
    assert found["lines"][0]["price"] == {"amount": "50.00", "currency": "EUR"}
    assert found["lines"][0]["sku"] == "TEA"


async def test_orders_are_listed_latest_first(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await seed(profiles_db)
    profile = await get(api, "/v1/profiles/email:ada@example.com")
    assert [o["source_id"] for o in (await get(api, "/v1/orders"))["data"]] == ["3", "2", "1"]
    assert [o["source_id"] for o in (await get(api, "/v1/orders", store="st_one"))["data"]] == ["2", "1"]
    assert [o["source_id"] for o in (await get(api, "/v1/orders", status="pending"))["data"]] == ["3"]
    assert len((await get(api, "/v1/orders", profile=profile["id"]))["data"]) == 3
    nobody = await get(api, "/v1/orders", 404, profile="00000000-0000-7000-8000-000000000000")
    assert nobody["errors"][0]["parameter"] == "profile"
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await get(api, "/v1/orders", limit=1, **cursor)
        seen += [o["source_id"] for o in page["data"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == ["3", "2", "1"]


async def test_a_store_that_is_not_there_is_not_one_without_orders(
    profiles_db: Database, api: httpx.AsyncClient
) -> None:
    named = {"name": "A", "domain": "a.example", "currency": EUR, "timezone": "UTC", "consent_policy": "explicit"}
    here = StoreObserved(**common("st_one", 1, **named))
    await run(profiles_db, [record(here), record(here, tenant="other"), record(order(1, 5, store="st_two"))])
    for path in ("/v1/orders", "/v1/profiles"):
        assert (await get(api, path, store="st_one"))["data"] == []
        answer = await get(api, path, 404, store="st_none")
        assert (answer["code"], answer["errors"][0]["parameter"]) == ("not_found", "store")
    # An order may come before its store does: each has its own partition.
    assert len((await get(api, "/v1/orders", store="st_two"))["data"]) == 1


async def test_a_profile_by_any_reference(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await seed(profiles_db)
    profile = await get(api, "/v1/profiles/email:ADA@example.com")
    numbers = ("phone:+4915112345601", "phone:004915112345601")
    for reference in (profile["id"], *numbers, "shopify:st_one:9", profile["id"].upper()):
        assert await get(api, f"/v1/profiles/{reference}") == profile
    assert {account["account"] for account in profile["accounts"]} == {
        "customer:st_one:9",
        "guest:st_one:ada@example.com",
        "guest:st_two:ada@example.com",
        "cart:st_one:c1",
    }
    assert profile["traits"]["first_name"] == "Ada"
    assert profile["traits"]["email"] == "ada@example.com"
    assert profile["consent"] == {"email": {"state": "subscribed", "at": "2026-03-01T00:01:00Z", "source": "customer"}}
    assert profile["totals"] == {
        "orders": 2,
        "net": [{"amount": "150.00", "currency": "EUR"}],
        "first_order_at": "2026-03-01T00:04:00Z",
        "last_order_at": "2026-03-01T00:07:00Z",
    }
    assert profile["created_at"] == "2026-03-01T00:00:00Z"
    assert profile["last_activity_at"] == "2026-03-01T00:08:00Z"
    kinds = {(i["kind"], i["value"], i["store"], i["tier"]) for i in profile["identifiers"]}
    assert {
        ("email", "ada@example.com", None, "strong"),
        ("phone", "+4915112345601", None, "weak"),
        ("cart", "c1", "st_one", "weak"),
        ("checkout", "t1", "st_one", "weak"),
    } == kinds


async def test_an_old_id_answers_for_the_person(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await run(profiles_db, [record(order(1, person=Person(email="ada@example.com")))])
    await run(profiles_db, [record(order(2, person=Person(email="bob@example.com")))])
    ada = await get(api, "/v1/profiles/email:ada@example.com")
    bob = await get(api, "/v1/profiles/email:bob@example.com")
    assert ada["id"] != bob["id"]
    shared = Person(email="ada@example.com", phone="+4915112345601")
    await run(profiles_db, [record(order(3, person=shared))])
    await run(profiles_db, [record(order(4, person=Person(email="bob@example.com", phone="+4915112345601")))])
    merged = await get(api, f"/v1/profiles/{ada['id']}")
    assert merged == await get(api, f"/v1/profiles/{bob['id']}")
    assert merged["id"] == min(ada["id"], bob["id"])
    assert merged["totals"]["orders"] == 4


async def test_a_shared_phone_names_nobody_and_lists_all(profiles_db: Database, api: httpx.AsyncClient) -> None:
    for n in (1, 2):
        person = Person(email=f"p{n}@example.com", phone="+4915112345601")
        await run(profiles_db, [record(order(n, customer_id=str(n), person=person))])
    problem = await get(api, "/v1/profiles/phone:+4915112345601", 409)
    assert problem["code"] == "ambiguous"
    assert len((await get(api, "/v1/profiles", phone="+4915112345601"))["data"]) == 2


async def test_profiles_are_listed_in_pages(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await run(profiles_db, [record(order(n, person=Person(email=f"p{n}@example.com"))) for n in range(5)])
    await run(profiles_db, [record(order(9, store="st_two", person=Person(email="p1@example.com")))])
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await get(api, "/v1/profiles", limit=2, **cursor)
        seen += [profile["id"] for profile in page["data"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(seen) == 5
    assert seen == sorted(set(seen))
    [two] = (await get(api, "/v1/profiles", store="st_two"))["data"]
    assert two["traits"]["email"] == "p1@example.com"
    [same] = (await get(api, "/v1/profiles", email="P1@example.com"))["data"]
    assert same == two


async def test_the_timeline_holds_what_happened(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await seed(profiles_db)
    message: dict[str, Any] = {
        "message": "m1",
        "store": "st_one",
        "profile": "p",
        "account": "customer:st_one:9",
        "flow": "cart_abandonment",
        "version": 1,
        "step": 0,
        "run_key": "t1",
        "channel": "email",
    }
    await run(
        profiles_db,
        [
            record(MessageSent(**message, at=at(60))),
            record(MessageUnsubscribed(**message, at=at(61))),
            record(RefundObserved(**common("1", 62), refund=Refund(source_id="r2", at=at(62), returns=1_000))),
            record(
                ConsentObserved(
                    **common("e2", 63),
                    identifiers=Identifiers(customer_id="9"),
                    consent=Consent(channel="sms", state="subscribed", at=at(63), source="api"),
                )
            ),
        ],
    )
    entries = (await get(api, "/v1/profiles/shopify:st_one:9/timeline", limit=250))["data"]
    assert [entry["kind"] for entry in entries] == [
        "consent.subscribed",
        "order.refunded",
        "consent.unsubscribed",
        "message.unsubscribed",
        "message.sent",
        "product.viewed",
        "order.placed",
        "order.refunded",
        "order.placed",
        "checkout.started",
        "cart.started",
        "consent.subscribed",
        "customer.registered",
    ]
    assert entries[1]["summary"] == {"number": "#1", "amount": {"amount": "10.00", "currency": "EUR"}}
    paged: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await get(api, "/v1/profiles/shopify:st_one:9/timeline", limit=4, **cursor)
        paged += [entry["kind"] for entry in page["data"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert paged == [entry["kind"] for entry in entries]
    profile = await get(api, "/v1/profiles/shopify:st_one:9")
    assert {channel: held["state"] for channel, held in profile["consent"].items()} == {
        "email": "unsubscribed",
        "sms": "subscribed",
    }


async def test_checkouts_and_products(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await seed(profiles_db)
    product = ProductObserved(
        **common("77", 1), title="Tea", status="active", currency=EUR,
        variants=[Variant(source_id="a", sku="TEA", price=500, stock=3)],
    )  # fmt: skip
    await run(profiles_db, [record(product)])
    checkout = await get(api, "/v1/checkouts/st_one:t1")
    assert (checkout["token"], checkout["items"], checkout["total"]["amount"]) == ("t1", 2, "100.00")
    assert checkout["profile_id"] == (await get(api, "/v1/profiles/shopify:st_one:9"))["id"]
    found = await get(api, "/v1/products/st_one:77")
    assert found["variants"] == [
        {"source_id": "a", "title": None, "sku": "TEA", "price": {"amount": "5.00", "currency": "EUR"}, "stock": 3}
    ]
    await run(profiles_db, [record(Removed(**common("77", 2)), "product.removed")])
    assert (await get(api, "/v1/products/st_one:77"))["deleted"] is True


BAD = [
    ("/v1/orders/st_one:404", 404),
    ("/v1/orders/1001", 422),
    ("/v1/orders/:1001", 422),
    ("/v1/orders/st_one:", 422),
    ("/v1/orders?profile=ada", 422),
    ("/v1/orders?limit=251", 422),
    ("/v1/orders?limit=0", 422),
    ("/v1/orders?cursor=nonsense", 422),
    ("/v1/checkouts/st_one:404", 404),
    ("/v1/checkouts/t1", 422),
    ("/v1/products/st_one:404", 404),
    ("/v1/products/77", 422),
    ("/v1/profiles/00000000-0000-7000-8000-000000000000", 404),
    ("/v1/profiles/ada", 422),
    ("/v1/profiles/email:ada", 422),
    ("/v1/profiles/email:nobody@example.com", 404),
    ("/v1/profiles/phone:911", 422),
    ("/v1/profiles/phone:+4915112345699", 404),
    ("/v1/profiles/shopify:9", 422),
    ("/v1/profiles/shopify:st_one:404", 404),
    ("/v1/profiles/woocommerce:st_one:9", 404),
    ("/v1/profiles/magento:st_one:9", 422),
    ("/v1/profiles/ada/timeline", 422),
    ("/v1/profiles/email:nobody@example.com/timeline", 404),
    ("/v1/profiles/shopify:st_one:9/timeline?cursor=x", 422),
    ("/v1/profiles?email=ada", 422),
    ("/v1/profiles?phone=1", 422),
    ("/v1/profiles?cursor=WzFd", 422),
    ("/v1/orders/st_one:%00", 422),
    ("/v1/orders?status=%00", 422),
    ("/v1/profiles?store=%00", 422),
]


async def test_bad_references(profiles_db: Database, api: httpx.AsyncClient) -> None:
    await run(profiles_db, [record(ADA)])
    for path, status in BAD:
        answer = await api.get(path)
        assert answer.status_code == status, f"{path}: {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json"
        assert status != 422 or answer.json()["errors"], path


async def test_nobody_sees_anothers_rows(
    profiles_db: Database, api: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await seed(profiles_db)
    profile = await get(api, "/v1/profiles/shopify:st_one:9")
    for path in (
        "/v1/orders/st_one:1",
        "/v1/checkouts/st_one:t1",
        f"/v1/profiles/{profile['id']}",
        f"/v1/profiles/{profile['id']}/timeline",
        "/v1/profiles/email:ada@example.com",
        "/v1/profiles/shopify:st_one:9",
    ):
        await get(stranger, path, 404)
    for path in ("/v1/orders", "/v1/profiles", "/v1/profiles?email=ada@example.com"):
        assert await get(stranger, path) == {"data": [], "next": None}
    await run(profiles_db, [record(order(1, gross=1), tenant="stranger")])
    mine = await get(stranger, "/v1/profiles/email:ada@example.com")
    assert mine["id"] != profile["id"]
    assert (await get(api, "/v1/orders/st_one:1"))["gross"]["amount"] == "100.00"
