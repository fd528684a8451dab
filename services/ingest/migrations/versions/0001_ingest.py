"""Stores, deliveries, the journal and the topic `commerce`."""

from alembic import op

from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.log.schema import create_consumer_tables, create_log, create_seen

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OWN = [
    """CREATE TABLE stores (
        tenant text NOT NULL, key text NOT NULL,
        platform text NOT NULL CHECK (platform IN ('shopify', 'woocommerce')), domain text NOT NULL,
        name text NOT NULL, currency text NOT NULL, timezone text NOT NULL,
        consent text NOT NULL CHECK (consent IN ('explicit', 'soft_opt_in')),
        secrets bytea[] NOT NULL CHECK (cardinality(secrets) > 0),
        version int NOT NULL DEFAULT 1, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, key)
    )""",
    # The webhook address names no tenant.
    "CREATE UNIQUE INDEX stores_key ON stores (key)",
    "CREATE UNIQUE INDEX stores_domain ON stores (tenant, platform, domain)",
    # What could not be read is in dead_letters, what was not looked at yet in the journal: each delivery in one place.
    """CREATE TABLE deliveries (
        tenant text NOT NULL, id uuid NOT NULL, store text NOT NULL, platform text NOT NULL, topic text NOT NULL,
        delivery_id text NOT NULL, received_at timestamptz NOT NULL, origin text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('observed', 'parked', 'ignored')), reason text, object text,
        journal_partition int NOT NULL, journal_offset bigint NOT NULL,
        PRIMARY KEY (tenant, id)
    )""",
    "CREATE INDEX deliveries_store ON deliveries (tenant, store, id)",
    "CREATE INDEX deliveries_outcome ON deliveries (tenant, outcome, id) WHERE outcome <> 'observed'",
    'CREATE INDEX dead_letters_event ON dead_letters (tenant, event_id COLLATE "C")',
    # By journal partition, since a partition has one normaliser at a time: nobody waits for anybody's row.
    """CREATE TABLE outcome_counts (
        tenant text NOT NULL, store text NOT NULL, outcome text NOT NULL, journal_partition int NOT NULL,
        n bigint NOT NULL,
        PRIMARY KEY (tenant, store, outcome, journal_partition)
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE request_counts (
        tenant text NOT NULL, store text NOT NULL, result text NOT NULL, n bigint NOT NULL,
        PRIMARY KEY (tenant, store, result)
    ) WITH (fillfactor = 50)""",
]


def upgrade() -> None:
    for statement in [*create_log(JOURNAL, COMMERCE), *create_seen(), *create_consumer_tables(), *OWN]:
        op.execute(statement)


def downgrade() -> None:
    for table in ("request_counts", "outcome_counts", "deliveries", "stores"):
        op.execute(f"DROP TABLE {table}")
    for table in ("dead_letters", "workers", "positions", "log_seen", "log_commerce", "log_journal", "log_partitions"):
        op.execute(f"DROP TABLE {table}")
