"""The tables of the schema `profiles`, for composed queries. The migrations make them."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, MetaData, SmallInteger, Table, Text, Uuid

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("store", Text, nullable=False),
    Column("alias", Uuid(as_uuid=False), nullable=False),
    Column("profile", Uuid(as_uuid=False)),
    Column("revision", BigInteger, nullable=False),
    Column("crowded", Boolean, nullable=False),
)

identifiers = Table(
    "identifiers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("identifier", Text, primary_key=True),
    Column("quarantined", Boolean, nullable=False),
)

edges = Table(
    "edges",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("identifier", Text, primary_key=True),
    Column("tier", SmallInteger, nullable=False),
    Column("shared", Boolean, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("first_seen_at", DateTime(timezone=True)),
    Column("last_activity_at", DateTime(timezone=True)),
)

orders = Table(
    "orders",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("source_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("account", Text),
    Column("status", Text),
    Column("placed_at", DateTime(timezone=True)),
    Column("counted", Boolean),
    Column("currency", Text),
    Column("net", BigInteger),
)

checkouts = Table(
    "checkouts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("source_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("account", Text),
)

carts = Table(
    "carts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("source_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("account", Text),
)

products = Table(
    "products",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("source_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
)

stores = Table(
    "stores",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("state", Text, nullable=False),
)

timeline = Table(
    "timeline",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("summary", Text, nullable=False),
)
