"""The service's tables, as `migrations/` makes them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
)

from services.metrics.algebra import INTERVALS, TOTALS

metadata = MetaData()

_BEYOND_BIGINT = {
    "gross",
    "discounts",
    "returns",
    "shipping",
    "taxes",
    "lifespan",
    "recovered_net",
    "recovered_net_start",
}
_MOMENT = DateTime(timezone=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _integer(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _moment(name: str) -> Column[object]:
    return Column(name, _MOMENT, nullable=False)


def _measure(name: str) -> Column[object]:
    return Column(name, Numeric if name in _BEYOND_BIGINT else BigInteger, nullable=False)


tenants = Table("tenants", metadata, _text("tenant"), PrimaryKeyConstraint("tenant"))

accounts = Table(
    "accounts",
    metadata,
    _text("tenant"),
    _text("account"),
    _text("profile"),
    _integer("revision"),
    PrimaryKeyConstraint("tenant", "account"),
)

orders = Table(
    "orders",
    metadata,
    _text("tenant"),
    _text("store"),
    _text("source_id"),
    _integer("revision"),
    Column("account", Text),
    Column("profile", Text),
    _text("checkout"),
    Column("counted", Boolean, nullable=False),
    _moment("placed_at"),
    _text("currency"),
    _integer("gross"),
    _integer("discounts"),
    _integer("returns"),
    _integer("shipping"),
    _integer("taxes"),
    PrimaryKeyConstraint("tenant", "store", "source_id"),
)

checkouts = Table(
    "checkouts",
    metadata,
    _text("tenant"),
    _text("store"),
    _text("token"),
    _integer("revision"),
    Column("account", Text),
    _moment("started_at"),
    _moment("changed_at"),
    _text("currency"),
    Column("held", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "store", "token"),
)

recoveries = Table(
    "recoveries",
    metadata,
    _text("tenant"),
    _text("store"),
    _text("token"),
    _moment("messaged_at"),
    PrimaryKeyConstraint("tenant", "store", "token"),
)

carts = Table(
    "carts",
    metadata,
    _text("tenant"),
    _text("store"),
    _text("token"),
    _integer("revision"),
    _moment("started_at"),
    _text("currency"),
    Column("held", Boolean, nullable=False),
    PrimaryKeyConstraint("tenant", "store", "token"),
)

totals = Table(
    "totals",
    metadata,
    _text("tenant"),
    _text("store"),
    Column("tier", SmallInteger, nullable=False),
    _text("currency"),
    _integer("at"),
    *(_measure(name) for name in TOTALS),
    PrimaryKeyConstraint("tenant", "store", "tier", "currency", "at"),
)

long_intervals = Table(
    "long_intervals",
    metadata,
    _text("tenant"),
    _text("store"),
    Column("tier", SmallInteger, nullable=False),
    _text("currency"),
    _integer("at"),
    Column("hours", SmallInteger, nullable=False),
    *(_measure(name) for name in INTERVALS),
    PrimaryKeyConstraint("tenant", "store", "tier", "currency", "at", "hours"),
)
