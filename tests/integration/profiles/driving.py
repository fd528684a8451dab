"""Drives the handler of profiles by hand: observations in, facts out, every batch in a transaction of its own."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from libs.common.batch import Batch
from libs.common.contracts import codec, commerce, messages
from libs.common.contracts.commerce import Line, Observed, OrderObserved, Person
from libs.common.db import Database
from libs.common.ids import new_id
from libs.common.junk import Junk
from libs.common.log.base import Record
from services.profiles.handlers import Rules, handle

T0 = datetime(2026, 3, 1, tzinfo=UTC)
RULES = Rules(
    junk=Junk(frozenset({"noreply@", "test@test.com"}), frozenset({"1234567890"})),
    fanout={"email": 4, "phone": 4, "cart": 4, "checkout": 4},
)


class Happened(NamedTuple):
    """A published fact."""

    type: str
    key: str
    tenant: str
    fact: Any


def at(minutes: float) -> datetime:
    """So many minutes into the history."""
    return T0 + timedelta(minutes=minutes)


def record(data: msgspec.Struct, type_: str | None = None, *, tenant: str = "default") -> Record:
    """An observation or message fact as a record of its topic."""
    if type_ is None:
        known = {**messages.TYPES, **commerce.TYPES}
        type_ = next(name for name, struct in known.items() if struct is type(data))
    topic = "commerce" if isinstance(data, Observed) else "messages"
    return Record(
        id=new_id(),
        type=type_,
        source="/test",
        tenant=tenant,
        key="",
        time=data.updated_at if isinstance(data, Observed) else T0,
        data=codec.encode(topic, data),
        topic=topic,
        partition=0,
        offset=0,
        appended_at=T0,
    )


async def run(
    database: Database, records: Sequence[Record], *, rules: Rules = RULES, size: int = 500
) -> list[Happened]:
    """Handles the records in batches of `size`; the facts published, in order."""
    happened: list[Happened] = []
    for start in range(0, len(records), size):
        async with database.transaction() as tx:
            batch = Batch(tx, records[start : start + size], T0, "profiles")
            await handle(batch, rules)
        happened += [
            Happened(event.type, event.key, event.tenant, codec.decode(topic.name, event.type, event.data))
            for topic, event in batch.emitted
        ]
    return happened


def order(number: int, minute: float = 0, **fields: Any) -> OrderObserved:
    """An order of 100.00 EUR and 5.00 shipping, placed in minute 0."""
    whole: dict[str, Any] = {
        "store": "st_one",
        "platform": "shopify",
        "source_id": str(number),
        "updated_at": at(minute),
        "position": int(minute),
        "number": f"#{number}",
        "status": "paid",
        "placed": True,
        "placed_at": at(0),
        "currency": "EUR",
        "gross": 10_000,
        "discounts": 0,
        "shipping": 500,
        "taxes": 0,
        "lines": [Line(title="Tea", quantity=2, price=5_000, total=10_000, sku="TEA", product_id="7")],
        "person": Person(email="ada@example.com", first_name="Ada"),
    }
    return OrderObserved(**{**whole, **fields})
