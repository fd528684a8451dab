"""The normaliser: deliveries in, observations out."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import assert_never, cast

from libs.common.batch import Batch, Reject
from libs.common.contracts.commerce import PrivacyRequested
from libs.common.contracts.journal import Delivery, removal_of
from libs.common.contracts.topics import COMMERCE
from libs.common.contracts.types import Origin
from libs.common.ids import derived_id
from libs.common.log.base import Record
from services.ingest import events, naming, privacy, registering, seen, store
from services.ingest.journal import SOURCE, origin_of
from services.ingest.naming import Read
from services.ingest.normalise import (
    Ignored,
    Observations,
    Outcome,
    Parked,
    Uninstalled,
    Unreadable,
    kind_of,
    normalise,
)
from services.ingest.outcome import Arrival, StoreFacts
from services.ingest.store import DeliveryRow


async def on_deliveries_received(batch: Batch) -> None:
    """Emits what each delivery shows, and writes what it turned out to be.

    A dead one leaves no row: its dead letter is the only place that says so, until its replay succeeds.
    """
    received: list[tuple[Record, Delivery]] = []
    rows: list[DeliveryRow] = []
    for record in batch.records:
        if removal_of(record.data):
            rows.append(row_of(record, _removed(record), Ignored("its body was removed before it was read")))
            continue
        try:
            received.append((record, batch.data(record)))
        except Reject as error:
            batch.reject(record, error.reason)
    await seen.note_arrivals(batch.tx, minutes_of(received))
    stores = await store.store_facts(batch.tx, ((record.tenant, delivery.store) for record, delivery in received))
    read: list[Read] = []
    for record, delivery in received:
        facts = stores.get((record.tenant, delivery.store))
        if facts is None:
            batch.reject(record, "no such store")
            continue
        try:
            outcome = outcome_of(record, delivery, facts)
        except Unreadable as error:
            batch.reject(record, error.reason)
            continue
        read.append((record, delivery, outcome))
    read, again = await naming.under_own_names(batch.tx, read, stores)
    for each in (*read, *again):
        emit(batch, *each)
    rows += [row_of(*each) for each in read]
    await store.save_deliveries(batch.tx, rows)
    await act(batch, read)


def kind_of_record(record: Record) -> str:
    """`shopify orders/create`. Never raises: who asks is about to bury the record."""
    platform, _, rest = record.source.removeprefix(f"{SOURCE}/").partition("/")
    return kind_of(platform, rest.partition("/")[2])


async def act(batch: Batch, read: Sequence[Read]) -> None:
    """Does what deliveries ask of ourselves: once, however often they come or are replayed."""
    requests: list[privacy.Request] = []
    for record, delivery, outcome in read:
        match outcome:
            case Observations(observations):
                requests += [
                    privacy.of_observed(each.observed, record.tenant, delivery.platform)
                    for each in observations
                    if isinstance(each.observed, PrivacyRequested)
                ]
            case Uninstalled():
                told = await registering.uninstalled(
                    batch.tx, record.tenant, delivery.store, at=record.time, traceparent=record.traceparent
                )
                batch.emitted += [] if told is None else [(COMMERCE, told)]
            case _:
                pass
    await privacy.take(batch.tx, requests)


def minutes_of(received: Iterable[tuple[Record, Delivery]]) -> dict[seen.Arrival, int]:
    """In which minutes something came by itself: neither fetched nor read again by us."""
    minutes: dict[seen.Arrival, int] = {}
    for record, delivery in received:
        if delivery.origin == "live":
            hour = record.time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            place = seen.Arrival(record.tenant, delivery.store, hour, record.partition, delivery.platform)
            minutes[place] = minutes.get(place, 0) | 1 << record.time.minute
    return minutes


def outcome_of(record: Record, delivery: Delivery, facts: StoreFacts) -> Outcome:
    """What a delivery turns out to be. Raises Unreadable."""
    if delivery.platform not in events.SENDERS:
        return normalise(delivery, store=facts, received_at=record.time, position=record.offset, delivery_ref=record.id)
    return events.observe(
        Arrival(
            store=facts,
            platform="events",
            headers=delivery.headers,
            body=delivery.body,
            received_at=record.time,
            position=record.offset,
            origin=cast("Origin", delivery.origin),
            delivery=record.id,
        )
    )


def emit(
    batch: Batch,
    record: Record,
    delivery: Delivery,
    outcome: Outcome,
    *,
    replay: str | None = None,
    again: bool = False,
) -> None:
    """Emits what was observed.

    `replay`: id of the one that reads the delivery again: its events are its own. `again`: it tells the delivery for
    another's sake, under a name that was not known before; what it tells when it comes to the delivery is apart.
    """
    if isinstance(outcome, Observations):
        for n, (type_, root, observed) in enumerate(outcome.observations):
            key = f"{delivery.store}:{root}"
            id_ = None if replay is None else derived_id(replay, record.id, root if again else str(n))
            batch.emit(COMMERCE, type_, observed, key=key, time=observed.updated_at, cause=record, id=id_)


def row_of(record: Record, delivery: Delivery, outcome: Outcome) -> DeliveryRow:
    """What is written of a delivery that could be read."""
    name, reason, root, dated = _told(outcome)
    return DeliveryRow(
        tenant=record.tenant,
        id=record.id,
        store=delivery.store,
        platform=delivery.platform,
        topic=delivery.topic,
        delivery_id=delivery.delivery_id,
        received_at=record.time,
        origin=delivery.origin,
        outcome=name,
        reason=reason,
        object=root,
        journal_partition=record.partition,
        journal_offset=record.offset,
        dated=dated,
        cart=naming.cart_token(outcome),
    )


def _removed(record: Record) -> Delivery:
    """What is known of a delivery without its data."""
    platform, store_key, topic = origin_of(record.source)
    return Delivery(store=store_key, platform=platform, topic=topic, delivery_id="", headers={}, body=b"")


def _told(outcome: Outcome) -> tuple[str, str | None, str | None, datetime | None]:
    match outcome:
        case Observations([first, *_]):
            return "observed", None, first.root, first.observed.updated_at
        case Observations():
            return "observed", None, None, None
        case Parked(reason):
            return "parked", reason, None, None
        case Ignored(reason) | Uninstalled(reason):
            return "ignored", reason, None, None
    assert_never(outcome)
