"""The webhooks of the simulated shop, as they lie in the journal."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from libs.common.contracts.journal import Delivery
from libs.common.ids import new_id
from libs.common.log.base import Event
from regulars.shop import catalog
from regulars.shop.delivery import EVENTS, deliveries, request
from regulars.shop.world import make_world
from services.ingest import headers
from services.ingest.journal import digest_of, event_of
from services.ingest.normalise import root_key
from services.ingest.webhooks import changed_at

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 90
EACH_SENDS = 40
"""Webhooks that a person is good for in so many days, at least."""


class Sent(NamedTuple):
    """A webhook that the route would take."""

    delivery: Delivery
    event: Event
    digest: bytes


def sent(many: int, keys: Mapping[str, str]) -> Iterator[Sent]:
    """So many, in the order of their coming. `keys`: the stores' by platform."""
    world = make_world(seed=1, start=START, days=DAYS, how_many=max(10, many // EACH_SENDS))
    specs = {store.name: store for store in catalog.STORES}
    taken = (d for d in deliveries(world) if d.topic != EVENTS and d.outcome not in {"refused", "pinged", "duplicate"})
    for each in islice(taken, many):
        body, head = request(each, specs[each.store])
        delivery = Delivery(
            store=keys[each.store],
            platform=each.store,
            topic=each.topic,
            delivery_id=each.webhook_id,
            headers=headers.kept([(name.lower().encode(), value.encode()) for name, value in head.items()]),
            body=body,
        )
        root = root_key(each.store, each.topic, body)
        event = event_of(delivery, id=new_id(), tenant="default", root=root, time=each.at, traceparent=None)
        identity = (keys[each.store], each.topic, each.webhook_id, str(each.at))
        yield Sent(delivery, event, digest_of(*identity, changed=changed_at(each.store, body)))
