"""Everything of the schema `profiles`."""

from alembic import op

from libs.common.contracts.topics import CUSTOMERS
from libs.common.log.schema import create_consumer_tables, create_log

revision = "0001"
down_revision = None

TABLES = [
    """CREATE TABLE accounts (
        tenant text NOT NULL, account text NOT NULL, store text NOT NULL,
        alias uuid NOT NULL, profile uuid, revision bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, account)
    ) WITH (fillfactor = 80)""",
    "CREATE INDEX ON accounts (tenant, profile)",
    "CREATE INDEX ON accounts (tenant, alias)",
    """CREATE TABLE identifiers (
        tenant text NOT NULL, identifier text NOT NULL, quarantined boolean NOT NULL DEFAULT false,
        PRIMARY KEY (tenant, identifier)
    )""",
    """CREATE TABLE edges (
        tenant text NOT NULL, account text NOT NULL, identifier text NOT NULL, tier smallint NOT NULL,
        shared boolean NOT NULL,
        PRIMARY KEY (tenant, account, identifier)
    ) WITH (fillfactor = 80)""",
    # An identifier that names one account only joins nobody: closures never look at it.
    "CREATE INDEX ON edges (tenant, account) WHERE shared",
    "CREATE INDEX ON edges (tenant, identifier)",
    """CREATE TABLE people (
        tenant text NOT NULL, account text NOT NULL, state text NOT NULL,
        first_seen_at timestamptz, last_activity_at timestamptz,
        PRIMARY KEY (tenant, account)
    ) WITH (fillfactor = 80)""",
    """CREATE TABLE orders (
        tenant text NOT NULL, store text NOT NULL, source_id text NOT NULL, state text NOT NULL,
        account text, status text, placed_at timestamptz, counted boolean, currency text, net bigint,
        PRIMARY KEY (tenant, store, source_id)
    ) WITH (fillfactor = 80)""",
    "CREATE INDEX ON orders (tenant, placed_at DESC, store, source_id)",
    "CREATE INDEX ON orders (tenant, account)",
    """CREATE TABLE checkouts (
        tenant text NOT NULL, store text NOT NULL, source_id text NOT NULL, state text NOT NULL, account text,
        PRIMARY KEY (tenant, store, source_id)
    ) WITH (fillfactor = 80)""",
    """CREATE TABLE carts (
        tenant text NOT NULL, store text NOT NULL, source_id text NOT NULL, state text NOT NULL, account text,
        PRIMARY KEY (tenant, store, source_id)
    ) WITH (fillfactor = 80)""",
    """CREATE TABLE products (
        tenant text NOT NULL, store text NOT NULL, source_id text NOT NULL, state text NOT NULL,
        PRIMARY KEY (tenant, store, source_id)
    )""",
    """CREATE TABLE stores (
        tenant text NOT NULL, store text NOT NULL, state text NOT NULL,
        PRIMARY KEY (tenant, store)
    )""",
    """CREATE TABLE timeline (
        tenant text NOT NULL, key text NOT NULL, account text NOT NULL, at timestamptz NOT NULL, kind text NOT NULL,
        store text NOT NULL, subject text NOT NULL, summary text NOT NULL,
        PRIMARY KEY (tenant, key)
    )""",
    "CREATE INDEX ON timeline (tenant, account, at DESC, key)",
]


def upgrade() -> None:
    for statement in [*TABLES, *create_log(CUSTOMERS), *create_consumer_tables()]:
        op.execute(statement)


def downgrade() -> None:
    tables = (
        "timeline, stores, products, carts, checkouts, orders, people, edges, identifiers, accounts,"
        " dead_letters, workers, positions, log_customers, log_partitions"
    )
    op.execute(f"DROP TABLE {tables}")
