"""Ingest's tables, for composed queries; the migrations make them."""

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData()

stores = Table(
    "stores",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("consent", Text, nullable=False),
    Column("secrets", ARRAY(LargeBinary), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("email", Text),
    Column("postal_address", Text),
    Column("paused_at", DateTime(timezone=True)),
    Column("resumed_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", UUID(as_uuid=False), primary_key=True),
    Column("store", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("origin", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("object", Text),
    Column("journal_partition", Integer, nullable=False),
    Column("journal_offset", BigInteger, nullable=False),
    Column("cart", Text),
)

log_journal = Table(
    "log_journal",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("appended_at", DateTime(timezone=True), primary_key=True),
    Column("id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("data", LargeBinary, nullable=False),
)

log_partitions = Table(
    "log_partitions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

positions = Table(
    "positions",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", UUID(as_uuid=False), primary_key=True),
    Column("consumer", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_source", Text, nullable=False),
    Column("event_key", Text, nullable=False),
    Column("event_time", DateTime(timezone=True), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False),
)
