"""Bodies and events that no shop should ever send."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import cycle, islice
from typing import Any

from libs.common.contracts.topics import Topic
from regulars.shop import shopify
from tests.faults.scene import PLACED
from tests.faults.traffic import Webhook, order

FIRST = 300_000_000
"""Number of the first poisonous order."""
DEEP = 100_000
HUGE = "9" * 400

Spoil = Callable[[dict[str, Any]], object]

SPOILED: tuple[Spoil, ...] = (
    lambda body: body.update(email="a\0b@example.com"),
    lambda body: body.update(email="\ud800@example.com"),
    lambda body: body.update(name="\udfff" * 50),
    lambda body: body.update(total_price="1e400"),
    lambda body: body.update(total_price=HUGE),
    lambda body: body.update(total_price={"amount": "1"}),
    lambda body: body.update(id=int(HUGE)),
    lambda body: body.update(id=None),
    lambda body: body.update(id=-1.5),
    lambda body: body.update(line_items="none"),
    lambda body: body.update(line_items=[None, 1, []]),
    lambda body: body["line_items"][0].update(quantity=10**30),
    lambda body: body["line_items"][0].update(price="NaN"),
    lambda body: body["line_items"][0].update(price="-Infinity"),
    lambda body: body.update(customer=5),
    lambda body: body.update(currency="€"),
    lambda body: body.update(created_at="9999-99-99T99:99:99Z"),
    lambda body: body.update(created_at="0001-01-01T00:00:00+14:00"),
    lambda body: body.update(updated_at=10**18),
    lambda body: body.update(note="x" * 500_000),
    lambda body: body.clear(),
)
BODIES: tuple[tuple[str, bytes], ...] = (
    ("orders/create", b""),
    ("orders/create", b"null"),
    ("orders/create", b"[]"),
    ("orders/create", b'{"id": 1'),
    ("orders/create", b"\xff\xfe\xfd"),
    ("orders/create", b'{"id": 1, "id": 2, "total_price": NaN}'),
    ("orders/create", b"[" * DEEP),
    ("orders/create", b'{"id":' * DEEP + b"1" + b"}" * DEEP),
    ("orders/create", b'{"id": 1, "note_attributes": ' + b"[" * DEEP + b"]" * DEEP + b"}"),
    ("refunds/create", b'{"id": 1, "order_id": "\\u0000"}'),
    ("customers/update", b'{"id": 1, "email": ["a@example.com"], "updated_at": {}}'),
    ("carts/update", b'{"id": "\\ud83d", "token": "\\ud83d", "line_items": {}}'),
    ("orders/exploded", b"{}"),
    ("' OR 1=1 --", b"{}"),
)


def poisoned(least: int) -> Iterator[Webhook]:
    """At least so many, and each kind at least once."""
    kinds: list[Spoil | tuple[str, bytes]] = [*SPOILED, *BODIES]
    for n, kind in enumerate(islice(cycle(kinds), max(least, len(kinds)))):
        at = PLACED + timedelta(seconds=n)
        state = order(FIRST + n, at)
        if isinstance(kind, tuple):
            topic, raw = kind
        else:
            topic = "orders/create"
            body = json.loads(shopify.body(state))
            kind(body)
            raw = json.dumps(body).encode()
        yield Webhook(topic, state, at, f"poison-{n}", raw)


def broken_events(topic: Topic) -> Iterator[tuple[str, bytes]]:
    """Type and data of events that are none."""
    known = next(iter(topic.types))
    yield known, b""
    yield known, b"{}"
    yield known, b"\xff"
    yield known, b"[" * DEEP
    yield known, b'{"store": 5}'
