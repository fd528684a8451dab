"""Every topic once: what its key is, who writes it, who reads it, how long it is kept."""

from typing import Any

from msgspec import Struct

from libs.common.contracts import commerce, customers, journal, messages

PARTITIONS = 8
"""Partitions of a new topic."""


class Topic(Struct, frozen=True, kw_only=True):
    """One topic. It has exactly one producer."""

    name: str
    key: str
    producer: str
    consumers: tuple[str, ...]
    retention_days: int
    types: dict[str, Any]
    """Event type -> Struct of its data."""
    partitions: int = PARTITIONS


JOURNAL = Topic(
    name="journal",
    key="store and root object of the delivery",
    producer="ingest",
    consumers=("ingest",),
    retention_days=400,
    types=journal.TYPES,
)
COMMERCE = Topic(
    name="commerce",
    key="store and root object (a refund goes with its order)",
    producer="ingest",
    consumers=("profiles",),
    retention_days=30,
    types=commerce.TYPES,
)
CUSTOMERS = Topic(
    name="customers",
    key="account; stores and products by their own id",
    producer="profiles",
    consumers=("metrics", "messaging"),
    retention_days=30,
    types=customers.TYPES,
)
MESSAGES = Topic(
    name="messages",
    key="profile",
    producer="messaging",
    consumers=("profiles", "metrics"),
    retention_days=30,
    types=messages.TYPES,
)

TOPICS: dict[str, Topic] = {topic.name: topic for topic in (JOURNAL, COMMERCE, CUSTOMERS, MESSAGES)}

RELAYED = tuple(topic for topic in TOPICS.values() if topic != JOURNAL)
"""What goes to Kafka where there is one. The journal is ingest's own and stays in PostgreSQL."""


def relayed(producer: str) -> tuple[Topic, ...]:
    """The topics that a service's relay ships to Kafka."""
    return tuple(topic for topic in RELAYED if topic.producer == producer)
