"""What goes out: each fact once, moves before all else, nothing twice, nothing of one tenant in another."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from libs.common.batch import Batch
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
    Removed,
    StoreObserved,
)
from libs.common.contracts.messages import MessageSkipped, MessageUnsubscribed
from libs.common.contracts.types import Origin
from libs.common.db import Database
from services.profiles.handlers import handle
from services.profiles.identity.accounts import WEAK, Claim
from services.profiles.store import identity
from tests.integration.profiles.driving import RULES, T0, Happened, at, order, record, run


def common(source_id: str, minute: int, **fields: Any) -> dict[str, Any]:
    return {
        "store": "st_one",
        "platform": "shopify",
        "source_id": source_id,
        "updated_at": at(minute),
        "position": minute,
        **fields,
    }


def types(happened: Sequence[Happened]) -> list[str]:
    return [each.type for each in happened]


def moves(happened: Sequence[Happened]) -> dict[str, tuple[str | None, str, int]]:
    return {
        each.fact.account: (each.fact.previous, each.fact.profile, each.fact.revision)
        for each in happened
        if each.type == "account.moved"
    }


def left_out(type_: str) -> float:
    return REGISTRY.get_sample_value("regulars_profiles_nameless_total", {"type": type_}) or 0


async def test_a_new_account_is_moved_in_before_anything_is_said_of_it(profiles_db: Database) -> None:
    happened = await run(profiles_db, [record(order(1, accepts_marketing=True))])
    assert types(happened) == ["account.moved", "profile.changed", "consent.changed", "order.placed"]
    assert {each.key for each in happened} == {"guest:st_one:ada@example.com"}
    [(previous, profile, revision)] = moves(happened).values()
    assert (previous, revision) == (None, 1)
    async with profiles_db.reading() as tx:
        assert str(await tx.pg.fetchval("SELECT alias FROM accounts")) == profile


async def test_what_is_known_is_not_told_again(profiles_db: Database) -> None:
    history = [
        record(order(1, 3, cart_token="c1")),
        record(CartObserved(**common("c1", 1), started_at=at(0), currency="EUR", total=5)),
        record(CustomerObserved(**common("7", 2), person=Person(email="ada@example.com"))),
        record(Removed(**common("8", 4)), "order.removed"),
    ]
    assert await run(profiles_db, history)
    assert await run(profiles_db, history) == []
    assert await run(profiles_db, list(reversed(history)), size=1) == []


async def test_a_merge_moves_the_accounts_to_the_least_id(profiles_db: Database) -> None:
    first = await run(profiles_db, [record(order(1, cart_token="c1"))])
    cart = record(CartObserved(**common("c1", 1), started_at=at(0), currency="EUR", total=5))
    second = await run(profiles_db, [record(order(2, person=Person(email="bob@example.com")))])
    third = await run(profiles_db, [cart])
    fourth = await run(profiles_db, [record(order(2, 5, person=Person(email="bob@example.com"), cart_token="c1"))])
    ids = [next(iter(moves(each).values()))[1] for each in (first, second)]
    homes = {account: move[1] for each in (first, second, third, fourth) for account, move in moves(each).items()}
    assert set(homes) == {"guest:st_one:ada@example.com", "guest:st_one:bob@example.com", "cart:st_one:c1"}
    assert len(set(homes.values())) == 1
    assert min(homes.values()) <= min(ids)
    for move in moves(fourth).values():
        assert move[0] is not None
        assert move[2] == 2


async def test_a_quarantine_splits_what_it_had_joined(profiles_db: Database) -> None:
    def caller(n: int) -> Any:
        return record(order(n, person=Person(email=f"p{n}@example.com", phone="+4915112345601")))

    joined = await run(profiles_db, [caller(n) for n in range(4)])
    assert len({move[1] for move in moves(joined).values()}) == 1
    split = await run(profiles_db, [caller(4)])
    home = next(iter(moves(joined).values()))[1]
    # All leave but the one whose id it was.
    assert len(moves(split)) == 4
    assert len({move[1] for move in moves(split).values()}) == 4
    assert home not in {move[1] for move in moves(split).values()}
    later = await run(profiles_db, [caller(n) for n in range(5, 9)])
    assert [each[0] for each in moves(later).values()] == [None] * 4


@pytest.mark.parametrize("length", [4, 40])
async def test_a_chain_is_walked_in_one_statement_however_long(profiles_db: Database, length: int) -> None:
    def told(n: int, phone: int) -> Any:
        return record(order(n, person=Person(email=f"p{n}@example.com", phone=f"+49151123456{phone:02}")))

    # Each phone is that of two, and so is each e-mail's account that of two phones.
    await run(profiles_db, [told(n, phone) for n in range(length) for phone in (n, n + 1)])
    statements: list[str] = []
    async with profiles_db.transaction() as tx:
        with tx.pg.query_logger(lambda logged: statements.append(logged.query)):
            claim = Claim("st_one", "guest:st_one:new", (("phone:+4915112345600", WEAK),))
            admission = await identity.admit(tx, [("default", claim)], RULES.fanout)
    assert len(admission.homes) == length + 1
    assert len(set(admission.homes.values())) == 1
    assert len(statements) <= 10


async def test_a_visitors_chain_of_tokens_joins_nobody(profiles_db: Database) -> None:
    def link(n: int) -> Any:
        tokens = Identifiers(cart_token=f"c{n // 2}", checkout_token=f"k{(n + 1) // 2}")
        return record(ActivityObserved(**common(f"e{n}", n), identifiers=tokens, activity="product.viewed"))

    facts = await run(profiles_db, [link(n) for n in range(200)], size=7)
    homes = {account: move[1] for account, move in moves(facts).items()}
    async with profiles_db.reading() as tx:
        largest = await tx.pg.fetchval("SELECT max(n) FROM (SELECT count(*) AS n FROM accounts GROUP BY profile) p")
    assert len(homes) == 100
    assert largest == 1


async def test_an_order_goes_to_the_customer_that_its_guest_became(profiles_db: Database) -> None:
    await run(profiles_db, [record(order(1))])
    happened = await run(profiles_db, [record(order(1, 5, customer_id="9"))])
    assert [name for name in types(happened) if name != "account.moved"] == ["profile.changed", "order.revised"]
    revised = happened[-1]
    assert (revised.key, revised.fact.before.account, revised.fact.order.account) == (
        "customer:st_one:9",
        "guest:st_one:ada@example.com",
        "customer:st_one:9",
    )


async def test_a_checkout_without_a_name_finds_its_person(profiles_db: Database) -> None:
    def checkout(minute: int, person: Person) -> Any:
        return record(
            CheckoutObserved(
                **common("t1", minute), started_at=at(1), currency="EUR", total=5, cart_token="c1", person=person
            )
        )

    nobody = await run(profiles_db, [checkout(1, Person())])
    assert [(each.type, each.key) for each in nobody] == [
        ("account.moved", "cart:st_one:c1"),
        ("checkout.started", "cart:st_one:c1"),
    ]
    ada = await run(profiles_db, [checkout(2, Person(email="ada@example.com"))])
    assert types(ada)[-1] == "checkout.changed"
    assert ada[-1].fact.account == "guest:st_one:ada@example.com"
    homes = {**moves(nobody), **moves(ada)}
    assert len({move[1] for move in homes.values()}) == 1


async def test_a_removed_customer_is_told(profiles_db: Database) -> None:
    happened = await run(profiles_db, [record(Removed(**common("9", 5)), "customer.removed")])
    assert types(happened) == ["account.moved", "profile.changed"]
    assert happened[-1].fact.deleted
    assert await run(profiles_db, [record(CustomerObserved(**common("9", 4), person=Person()))]) == []
    back = await run(profiles_db, [record(CustomerObserved(**common("9", 6), person=Person(first_name="Ada")))])
    assert not back[-1].fact.deleted


async def test_a_withdrawal_by_message_holds_for_its_account(profiles_db: Database) -> None:
    await run(profiles_db, [record(order(1, accepts_marketing=True))])
    withdrawn = MessageUnsubscribed(
        message="m1", store="st_one", profile="p", account="guest:st_one:ada@example.com", flow="f", version=1, step=0,
        run_key="t", channel="email", at=at(60),
    )  # fmt: skip
    happened = await run(profiles_db, [record(withdrawn), record(withdrawn)])
    assert [(each.type, each.fact.state, each.fact.revision) for each in happened] == [
        ("consent.changed", "unsubscribed", 2)
    ]
    # The shop repeats in every update of the order that its box was ticked.
    assert types(await run(profiles_db, [record(order(1, 90, gross=9, accepts_marketing=True))])) == ["order.revised"]


async def test_first_party_events_are_told_once(profiles_db: Database) -> None:
    seen = ActivityObserved(
        **common("e1", 1), activity="product.viewed", identifiers=Identifiers(email="Ada@example.com")
    )
    happened = await run(profiles_db, [record(seen), record(seen)])
    assert types(happened) == ["account.moved", "profile.changed", "activity.seen"]
    assert await run(profiles_db, [record(seen)]) == []


async def test_events_of_one_person_tell_him_once(profiles_db: Database) -> None:
    first, second = "+49 151 12345601", "+49 151 12345602"
    seen = [
        ActivityObserved(
            **common(f"e{n}", n),
            activity="product.viewed",
            identifiers=Identifiers(email="Ada@example.com", phone=phone),
        )
        for n, phone in enumerate([first, None, first, second])
    ]
    happened = await run(profiles_db, [record(each) for each in [*seen, *seen]])
    told = [(each.fact.email, each.fact.phone) for each in happened if each.type == "profile.changed"]
    assert told == [("ada@example.com", "+4915112345601"), ("ada@example.com", "+4915112345602")]


async def test_a_token_alone_names_nobody_whoever_has_it(profiles_db: Database) -> None:
    """What junk is left of is a token, too."""
    for who in (Identifiers(cart_token="c1"), Identifiers(cart_token="c1", email="noreply@example.com", phone="0")):
        seen = ActivityObserved(**common("e1", 1), activity="product.viewed", identifiers=who)
        happened = await run(profiles_db, [record(seen)])
        assert "profile.changed" not in types(happened)
    named = Identifiers(cart_token="c1", email="ada@example.com")
    seen = ActivityObserved(**common("e2", 2), activity="product.viewed", identifiers=named)
    happened = await run(profiles_db, [record(seen)])
    # His name stays with his own account, and the token's joins it.
    assert [each.key for each in happened if each.type == "profile.changed"] == ["guest:st_one:ada@example.com"]
    assert len({move[1] for move in moves(happened).values()}) == 1


async def test_stores_and_their_changes(profiles_db: Database) -> None:
    store = StoreObserved(
        **common("st_one", 1), name="One", domain="one.example.com", currency="EUR", timezone="Europe/Berlin",
        consent_policy="explicit",
    )  # fmt: skip
    [told] = await run(profiles_db, [record(store), record(store)])
    assert (told.type, told.key, told.fact.timezone) == ("store.changed", "store:st_one", "Europe/Berlin")


async def test_what_names_nobody_is_left_out_and_what_cannot_be_read_refused(profiles_db: Database) -> None:
    who = Identifiers(email="noreply@example.com")
    consent = Consent(channel="email", state="subscribed", at=at(1), source="api")
    nobodys = ConsentObserved(**common("e1", 1), identifiers=who, consent=consent)
    viewed = ActivityObserved(**common("e2", 1), identifiers=who, activity="product.viewed")
    broken = replace(record(order(2)), data=b"{}")
    message = MessageSkipped(
        message="m", store="st_one", profile="p", account="a", flow="f", version=1, step=0, run_key="t",
        channel="email", at=at(0), reason="capped",
    )  # fmt: skip
    unknown = replace(record(order(2)), type="order.teleported")
    found = [record(nobodys), broken, record(message), record(order(1)), unknown, record(viewed)]
    records = [replace(each, offset=n) for n, each in enumerate(found)]
    before = left_out("consent.observed"), left_out("activity.observed")
    async with profiles_db.transaction() as tx:
        batch = Batch(tx, records, T0, "profiles")
        await handle(batch, RULES)
    assert [offset for _, _, offset in batch.rejected] == [1, 4]
    assert {event.key for _, event in batch.emitted} == {"guest:st_one:ada@example.com"}
    assert "order.placed" in [event.type for _, event in batch.emitted]
    assert (left_out("consent.observed"), left_out("activity.observed")) == (before[0] + 1, before[1] + 1)


async def test_tenants_are_apart(profiles_db: Database) -> None:
    happened = await run(profiles_db, [record(order(1)), record(order(1, gross=7), tenant="other")])
    profiles = {each.tenant: each.fact.profile for each in happened if each.type == "account.moved"}
    assert len(set(profiles.values())) == 2
    nets = {each.tenant: each.fact.order.net for each in happened if each.type == "order.placed"}
    assert nets == {"default": 10_000, "other": 7}


def _draft(number: int, minute: int) -> CheckoutObserved:
    return CheckoutObserved(
        **common(str(number), minute, platform="woocommerce"),
        started_at=at(0),
        currency="EUR",
        total=10_000,
        lines=[Line(title="Tea", quantity=1, price=10_000, total=10_000)],
        person=Person(email="ada@example.com"),
    )


_TRASHED = [
    ("a draft", [], "live", True),
    ("a draft that is purged", [], "reconciled", False),
    ("an order that never counted", [{"status": "pending", "placed": False}], "live", True),
    ("an order that counted", [{}], "live", False),
    ("an order that counted and failed then", [{}, {"status": "failed", "placed": False}], "live", False),
]


@pytest.mark.parametrize(
    ("became", "origin", "deleted"), [each[1:] for each in _TRASHED], ids=[each[0] for each in _TRASHED]
)
async def test_a_draft_in_the_trash_is_a_deleted_checkout_unless_it_was_bought(
    profiles_db: Database,
    became: list[dict[str, Any]],
    origin: Origin,
    deleted: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Whatever comes first."""
    for number, size in ((1, 1), (2, 500)):
        orders = [
            record(order(number, 2 + minute, platform="woocommerce", **fields)) for minute, fields in enumerate(became)
        ]
        tombstone = Removed(**common(str(number), 9, platform="woocommerce", origin=origin))
        history = [record(_draft(number, 1)), *orders, record(tombstone, "order.removed")]
        for turn, arriving in enumerate(permutations(history)):
            tenant = f"{number}-{turn}"
            happened = await run(profiles_db, [replace(each, tenant=tenant) for each in arriving], size=size)
            told = [each.fact for each in happened if each.type.startswith("checkout.")]
            last = max(told, key=lambda fact: fact.revision)
            assert last.deleted is deleted
            # Nobody walked away from what he bought, whatever happened to it then.
            assert (last.completed_at is not None) is any(fields.get("placed", True) for fields in became)


_TOLD: list[tuple[Origin, Origin]] = [
    ("live", "reconciled"),
    ("reconciled", "live"),
    ("backfill", "reconciled"),
    ("backfill", "backfill"),
]


@pytest.mark.parametrize(("first", "second"), _TOLD)
async def test_a_checkout_was_told_live_or_it_was_not_whatever_came_first(
    profiles_db: Database, first: Origin, second: Origin
) -> None:
    """Only its own tellings say so: that of an order, or of a deletion, starts no mail about a draft of old."""
    pending = order(1, 7, platform="woocommerce", status="pending", placed=False)
    tombstone = Removed(**common("1", 3, platform="woocommerce"))
    history = [
        record(replace(_draft(1, 1), origin=first)),
        record(replace(_draft(1, 5), origin=second)),
        record(pending),
        record(tombstone, "order.removed"),
    ]
    for turn, arriving in enumerate(permutations(history)):
        happened = await run(profiles_db, [replace(each, tenant=str(turn)) for each in arriving], size=1)
        told = [each.fact for each in happened if each.type.startswith("checkout.")]
        assert any(fact.origin == "live" for fact in told) is ("live" in {first, second})
        assert max(told, key=lambda fact: fact.revision).deleted is False


async def test_a_deleted_order_of_shopify_is_no_checkout(profiles_db: Database) -> None:
    await run(profiles_db, [record(order(1)), record(Removed(**common("1", 9)), "order.removed")])
    async with profiles_db.reading() as tx:
        assert await tx.pg.fetchval("SELECT count(*) FROM checkouts") == 0
