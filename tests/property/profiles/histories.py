"""Random histories of two small shops, and what they leave behind in a form that two runs can be compared by."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from libs.common.contracts.commerce import (
    ActivityObserved,
    CartObserved,
    CheckoutObserved,
    Consent,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Line,
    OrderObserved,
    Person,
    ProductObserved,
    Refund,
    RefundObserved,
    Removed,
    Variant,
)
from libs.common.contracts.messages import MessageSent, MessageUnsubscribed
from libs.common.db import Database
from libs.common.log.base import Record
from services.profiles.handlers import Rules
from services.profiles.identity.resolve import Edge, alias, crowded, partition, shared_by_too_many
from tests.integration.profiles.driving import Happened, at, record

TABLES = (
    "accounts",
    "identifiers",
    "edges",
    "people",
    "orders",
    "checkouts",
    "carts",
    "products",
    "stores",
    "timeline",
)

stores = st.sampled_from(["st_a", "st_b"])
minutes = st.integers(0, 30)
emails = st.sampled_from([None, "ada@example.com", "Bob@Example.com", "eve@example.com", "noreply@example.com", "junk"])
phones = st.sampled_from([None, None, "+4915112345601", "0151 12345602", "0000000"])
persons = st.builds(
    Person,
    email=emails,
    phone=phones,
    first_name=st.sampled_from([None, "Ada", "Bob"]),
    country=st.just("DE"),
)
customer_ids = st.sampled_from([None, None, "1", "2", "3"])
tokens = st.sampled_from([None, "t1", "t2", "t3"])
some = st.sampled_from(["1", "2", "3"])
maybe_minute = st.none() | minutes.map(at)


def observed(kind: Any, **fields: Any) -> st.SearchStrategy[Any]:
    """Snapshots of `kind` at any minute of the history."""
    common = {"store": stores, "platform": st.just("shopify"), "updated_at": minutes.map(at), "position": st.just(0)}
    return st.builds(kind, **{"source_id": some, **common, **fields})


lines = st.lists(st.builds(Line, title=st.just("Tea"), quantity=st.integers(1, 3), price=st.just(5), total=st.just(5)))
refund = st.builds(
    Refund, source_id=st.sampled_from(["r1", "r2"]), at=maybe_minute, returns=st.integers(0, 9), shipping=st.just(1)
)
ORDER: dict[str, Any] = {
    "number": st.just("#1"),
    "status": st.just("paid"),
    "placed": st.booleans(),
    "placed_at": minutes.map(at),
    "currency": st.just("EUR"),
    "gross": st.integers(0, 99),
    "discounts": st.just(1),
    "shipping": st.just(5),
    "taxes": st.just(3),
    "test": st.sampled_from([False, False, True]),
    "cancelled_at": maybe_minute,
    "fulfilled_at": maybe_minute,
    "refunds": st.lists(refund, max_size=2, unique_by=lambda r: r.source_id),
    "refunds_complete": st.booleans(),
    "person": persons,
    "customer_id": customer_ids,
    "cart_token": tokens,
    "checkout_token": tokens,
    "accepts_marketing": st.sampled_from([None, True, False]),
}
orders = observed(OrderObserved, **ORDER)
checkouts = observed(
    CheckoutObserved,
    started_at=minutes.map(at),
    currency=st.just("EUR"),
    total=st.integers(0, 99),
    lines=lines,
    person=persons,
    customer_id=customer_ids,
    cart_token=tokens,
    accepts_marketing=st.sampled_from([None, True]),
    named_at=maybe_minute,
)
carts = observed(
    CartObserved,
    source_id=st.sampled_from(["t1", "t2", "t3"]),
    started_at=minutes.map(at),
    currency=st.just("EUR"),
    total=st.integers(0, 99),
    lines=lines,
    customer_id=customer_ids,
)
consent = st.builds(
    Consent,
    channel=st.sampled_from(["email", "sms"]),
    state=st.sampled_from(["subscribed", "unsubscribed", "pending"]),
    at=minutes.map(at),
    source=st.sampled_from(["customer", "api"]),
)
customers = observed(
    CustomerObserved,
    person=persons,
    created_at=maybe_minute,
    consents=st.lists(consent, max_size=1),
)
named = st.builds(
    Identifiers, email=emails, phone=phones, customer_id=customer_ids, cart_token=tokens, checkout_token=tokens
)
"""Whom an event speaks of: anybody by any of his names, by junk, by a token alone, and now and then nobody."""
products = observed(
    ProductObserved,
    title=st.just("Tea"),
    status=st.just("active"),
    currency=st.just("EUR"),
    variants=st.lists(
        st.builds(Variant, source_id=some, stock=st.integers(0, 2)), max_size=2, unique_by=lambda v: v.source_id
    ),
    variants_complete=st.booleans(),
)
messages = st.sampled_from(
    [
        kind(
            store="st_a",
            profile="p",
            account=account,
            message=account,
            flow="cart_abandonment",
            version=1,
            step=0,
            run_key="t1",
            channel="email",
            at=at(9),
        )
        for kind in (MessageSent, MessageUnsubscribed)
        for account in ("guest:st_a:ada@example.com", "customer:st_a:1")
    ]
)
moments = st.one_of(
    orders.map(record),
    orders.map(record),
    observed(RefundObserved, refund=refund).map(record),
    checkouts.map(record),
    carts.map(record),
    customers.map(record),
    observed(ConsentObserved, identifiers=named, consent=consent).map(record),
    observed(ActivityObserved, identifiers=named, activity=st.just("product.viewed"), named_at=maybe_minute).map(
        record
    ),
    products.map(record),
    st.tuples(observed(Removed), st.sampled_from(["order", "checkout", "cart", "customer", "product"])).map(
        lambda pair: record(pair[0], f"{pair[1]}.removed")
    ),
    observed(Removed, told_as=st.just("own")).map(lambda removed: record(removed, "checkout.removed")),
    messages.map(record),
)


def positioned(records: Sequence[Record]) -> list[Record]:
    """Each observation gets the place in the journal that decides ties; events sent twice with one id are one."""
    placed = []
    for n, each in enumerate(records):
        data = msgspec.json.decode(each.data)
        if "position" in data:
            data["position"] = n
        if each.type in {"activity.observed", "consent.observed"}:
            data["source_id"] = f"event {n}"
        if each.type == "activity.observed":
            data["activity"] = f"viewed {n}"
        placed.append(msgspec.structs.replace(each, data=msgspec.json.encode(data)))
    return placed


histories = st.lists(moments, min_size=1, max_size=14).map(positioned)

chained_tokens = st.sampled_from([None, *(f"t{n}" for n in range(8))])
visits = observed(
    ActivityObserved,
    store=st.just("st_a"),
    identifiers=st.builds(Identifiers, cart_token=chained_tokens, checkout_token=chained_tokens),
    activity=st.just("product.viewed"),
)
chains = st.lists(
    st.one_of(
        visits.map(record),
        visits.map(record),
        observed(
            OrderObserved,
            **ORDER | {"store": st.just("st_a"), "cart_token": chained_tokens, "checkout_token": chained_tokens},
        ).map(record),
    ),
    min_size=4,
    max_size=24,
).map(positioned)
"""Mostly visitors without a name, who tie carts and checkouts together as no browser does by itself."""


async def clear(database: Database) -> None:
    """Forgets everything."""
    async with database.transaction() as tx:
        for table in TABLES:
            await tx.pg.execute(f"DELETE FROM {table}")


async def left(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, but for how often it changed and in which order things were told."""
    found: dict[str, list[Any]] = {}
    async with database.reading() as tx:
        # What is shared must be marked; what is not may be, when two workers brought one edge at once.
        assert not await tx.pg.fetchval(
            "SELECT count(*) FROM edges a JOIN edges b USING (tenant, identifier)"
            " WHERE a.account <> b.account AND NOT a.shared"
        )
        for table in TABLES:
            rows = []
            for row in await tx.pg.fetch(f"SELECT * FROM {table}"):
                values = {name: value for name, value in row.items() if name not in {"revision", "shared"}}
                if "state" in values:
                    values["state"] = _content(msgspec.json.decode(values["state"]))
                rows.append(values)
            found[table] = sorted(rows, key=str)
    return found


async def is_a_function_of_its_edges(database: Database, rules: Rules) -> set[str]:
    """Holds what is stored of identity against one look at all edges; the accounts that are crowded."""
    async with database.reading() as tx:
        edges = {Edge(*row) for row in await tx.pg.fetch("SELECT account, identifier, tier FROM edges")}
        accounts = await tx.pg.fetch("SELECT account, profile::text AS profile, crowded FROM accounts")
        quarantined = await tx.pg.fetch("SELECT identifier FROM identifiers WHERE quarantined")
    excessive = shared_by_too_many(edges, rules.fanout, most=rules.together)
    assert {row["identifier"] for row in quarantined} == excessive
    alone = crowded(edges, excessive, rules.together)
    assert {row["account"] for row in accounts if row["crowded"]} == alone
    expected: dict[str, str] = {}
    for group in partition((row["account"] for row in accounts), edges, excessive, alone):
        expected |= dict.fromkeys(group, min(alias("default", account) for account in group))
    assert {row["account"]: row["profile"] for row in accounts} == expected
    return alone


def folded(happened: Sequence[Happened]) -> tuple[dict[Any, Any], set[Any]]:
    """What a consumer knows in the end: the last state of each subject, and the moments; none told twice."""
    revisions: dict[Any, int] = {}
    states: dict[Any, Any] = {}
    told: list[Any] = []
    for each in happened:
        fact = msgspec.to_builtins(each.fact)
        revision = fact.get("revision")
        subject = _subject(each.type, fact)
        if each.type == "product.restocked":
            continue
        if revision is None:
            told.append((each.type, subject))
        elif revision > revisions.get(subject, 0):
            revisions[subject] = revision
            states[subject] = _content({k: v for k, v in fact.items() if k not in {"before", "from"}})
        else:
            raise AssertionError(f"revision {revision} of {subject} was told before")
    assert len(told) == len(set(told)), "a moment was told twice"
    return states, set(told)


def _subject(type_: str, fact: dict[str, Any]) -> Any:
    store, root = fact["store"], type_.partition(".")[0]
    match root:
        case "order" if "order" in fact:
            return ("order", store, fact["order"]["source_id"])
        case "order":
            return (store, fact["source_id"], fact.get("refund", {}).get("source_id"))
        case "checkout" | "cart":
            return (root, store, fact["token"])
        case "consent":
            return (root, fact["account"], fact["channel"])
        case "activity":
            return (root, fact["account"], fact["activity"])
        case "product":
            return (root, store, fact["source_id"])
        case _:
            return (root, fact["account"])


def _content(state: Any) -> Any:
    match state:
        case dict():
            return {name: _content(value) for name, value in state.items() if name not in {"revision", "told"}}
        case list():
            return [_content(value) for value in state]
        case _:
            return state
