"""What messaging knows, what it is about to say, and what it has said."""

from alembic import op

from libs.common.contracts.topics import MESSAGES
from libs.common.log.schema import create_consumer_tables, create_log

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KNOWN = (
    """
    CREATE TABLE stores (
        tenant text NOT NULL, store text NOT NULL, name text NOT NULL, domain text NOT NULL, timezone text NOT NULL,
        consent_policy text NOT NULL, revision bigint NOT NULL,
        PRIMARY KEY (tenant, store)
    )
    """,
    # A row may be begun by any fact of the account: whose it is is known once `profile` is.
    """
    CREATE TABLE accounts (
        tenant text NOT NULL, account text NOT NULL, store text NOT NULL,
        profile text, moved_revision bigint NOT NULL DEFAULT 0,
        email text, email_verified bool NOT NULL DEFAULT false, first_name text, timezone text,
        deleted bool NOT NULL DEFAULT false, profile_revision bigint NOT NULL DEFAULT 0,
        active_at timestamptz, active_live_at timestamptz,
        PRIMARY KEY (tenant, account)
    ) WITH (fillfactor = 85)
    """,
    "CREATE INDEX accounts_profile ON accounts (tenant, profile)",
    """
    CREATE TABLE consents (
        tenant text NOT NULL, account text NOT NULL, channel text NOT NULL,
        state text NOT NULL CHECK (state IN ('subscribed', 'unsubscribed', 'pending')),
        at timestamptz NOT NULL, revision bigint NOT NULL,
        PRIMARY KEY (tenant, account, channel)
    )
    """,
    """
    CREATE TABLE orders (
        tenant text NOT NULL, store text NOT NULL, source_id text NOT NULL, account text, counted bool NOT NULL,
        placed_at timestamptz NOT NULL, checkout_token text, cart_token text, live bool NOT NULL,
        revision bigint NOT NULL,
        PRIMARY KEY (tenant, store, source_id)
    )
    """,
    "CREATE INDEX orders_account ON orders (tenant, account, placed_at) INCLUDE (live) WHERE counted",
    "CREATE INDEX orders_checkout ON orders (tenant, store, checkout_token) WHERE checkout_token IS NOT NULL",
    "CREATE INDEX orders_cart ON orders (tenant, store, cart_token) WHERE cart_token IS NOT NULL",
    """
    CREATE TABLE baskets (
        tenant text NOT NULL, store text NOT NULL, kind text NOT NULL CHECK (kind IN ('cart', 'checkout')),
        token text NOT NULL, account text, started_at timestamptz NOT NULL, changed_at timestamptz NOT NULL,
        items int NOT NULL, currency text NOT NULL, total bigint NOT NULL, lines jsonb NOT NULL, cart_token text,
        completed_at timestamptz, recovery_url text, deleted bool NOT NULL, live bool NOT NULL,
        revision bigint NOT NULL,
        PRIMARY KEY (tenant, store, kind, token)
    ) WITH (fillfactor = 85)
    """,
    "CREATE INDEX baskets_account ON baskets (tenant, account)",
    """
    CREATE INDEX baskets_cart ON baskets (tenant, store, cart_token)
        WHERE kind = 'checkout' AND cart_token IS NOT NULL
    """,
    """
    CREATE TABLE suppressions (
        tenant text NOT NULL, channel text NOT NULL, address text NOT NULL,
        reason text NOT NULL CHECK (reason IN ('unsubscribed', 'hard_bounce', 'complaint', 'manual')),
        created_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, channel, address)
    )
    """,
)
SAID = (
    """
    CREATE TABLE flows (
        tenant text NOT NULL, key text NOT NULL, version int NOT NULL, paused bool NOT NULL DEFAULT false,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, key)
    )
    """,
    """
    CREATE TABLE flow_versions (
        tenant text NOT NULL, key text NOT NULL, version int NOT NULL, definition jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, key, version)
    )
    """,
    # `store` is empty where the subject is an account.
    """
    CREATE TABLE timers (
        tenant text NOT NULL, flow text NOT NULL, store text NOT NULL, subject text NOT NULL,
        due_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, flow, store, subject)
    ) WITH (fillfactor = 85)
    """,
    "CREATE INDEX timers_due ON timers (due_at, tenant, flow, store, subject)",
    """
    CREATE TABLE runs (
        tenant text NOT NULL, flow text NOT NULL, run_key text NOT NULL, version int NOT NULL,
        store text NOT NULL, subject text NOT NULL, account text NOT NULL, began_at timestamptz NOT NULL,
        step int NOT NULL, ended_at timestamptz, reason text,
        PRIMARY KEY (tenant, flow, run_key)
    )
    """,
    "CREATE INDEX runs_subject ON runs (tenant, flow, store, subject)",
    "CREATE INDEX runs_account ON runs (tenant, account)",
    # The send ledger. `recipient` is in the key, so it is never null; empty when there was no address.
    """
    CREATE TABLE messages (
        tenant text NOT NULL, id text NOT NULL,
        flow text NOT NULL, version int NOT NULL, step int NOT NULL, run_key text NOT NULL, recipient text NOT NULL,
        store text NOT NULL, subject text NOT NULL, account text NOT NULL, profile text NOT NULL, channel text NOT NULL,
        transactional bool NOT NULL, checkout_token text,
        state text NOT NULL CHECK (
            state IN ('planned', 'claimed', 'held', 'sent', 'failed', 'unknown', 'skipped')),
        reason text, reasons text[] NOT NULL DEFAULT '{}', response text,
        due_at timestamptz NOT NULL, next_at timestamptz, attempts int NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL, claimed_at timestamptz, lease_until timestamptz,
        sent_at timestamptz, settled_at timestamptz,
        PRIMARY KEY (tenant, id)
    ) WITH (fillfactor = 70)
    """,
    "CREATE UNIQUE INDEX messages_intent ON messages (tenant, flow, version, step, run_key, recipient)",
    """
    CREATE INDEX messages_open ON messages (due_at, flow, run_key, step) INCLUDE (next_at)
        WHERE state IN ('planned', 'held')
    """,
    "CREATE INDEX messages_claimed ON messages (lease_until) WHERE state = 'claimed'",
    "CREATE INDEX messages_account ON messages (tenant, account, created_at, id)",
    "CREATE INDEX messages_listed ON messages (tenant, created_at, id)",
)


def upgrade() -> None:
    for statement in (*create_log(MESSAGES), *create_consumer_tables(), *KNOWN, *SAID):
        op.execute(statement)


def downgrade() -> None:
    tables = (
        "messages, runs, timers, flow_versions, flows, suppressions, baskets, orders, consents, accounts, stores,"
        " dead_letters, workers, positions, log_messages, log_partitions"
    )
    op.execute(f"DROP TABLE {tables}")
