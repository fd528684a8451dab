"""The tables that API queries are composed over, as `migrations/` makes them."""

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

_MOMENT = DateTime(timezone=True)

accounts = Table(
    "accounts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("profile", Text),
)

messages = Table(
    "messages",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("flow", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("run_key", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("transactional", Boolean, nullable=False),
    Column("checkout_token", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("reasons", ARRAY(Text), nullable=False),
    Column("response", Text),
    Column("due_at", _MOMENT, nullable=False),
    Column("next_at", _MOMENT),
    Column("attempts", Integer, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("claimed_at", _MOMENT),
    Column("sent_at", _MOMENT),
    Column("settled_at", _MOMENT),
)

runs = Table(
    "runs",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("flow", Text, primary_key=True),
    Column("run_key", Text, primary_key=True),
    Column("began_at", _MOMENT, nullable=False),
    Column("step", Integer, nullable=False),
    Column("ended_at", _MOMENT),
    Column("reason", Text),
)

flows = Table(
    "flows",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
)

flow_versions = Table(
    "flow_versions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", JSONB, nullable=False),
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
)
