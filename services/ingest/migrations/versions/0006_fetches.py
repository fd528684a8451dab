"""What is asked of the platforms themselves: with which credentials, and how far it has come."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # When the source says that the object changed. Null: a version that did not note it wrote the row.
    op.execute("ALTER TABLE deliveries ADD COLUMN dated timestamptz")
    op.execute(
        """CREATE TABLE credentials (
            tenant text NOT NULL, store text NOT NULL, url text NOT NULL, sealed bytea NOT NULL,
            set_at timestamptz NOT NULL, set_by text NOT NULL,
            state text NOT NULL CHECK (state IN ('unchecked', 'good', 'refused')), reason text,
            next_call_at timestamptz NOT NULL,
            PRIMARY KEY (tenant, store)
        )"""
    )
    op.execute(
        """CREATE TABLE fetches (
            tenant text NOT NULL, id uuid NOT NULL, store text NOT NULL,
            purpose text NOT NULL CHECK (purpose IN ('backfill', 'reconcile', 'sweep')),
            kinds text[] NOT NULL, since timestamptz, until timestamptz NOT NULL,
            state text NOT NULL CHECK (state IN ('waiting', 'running', 'paused', 'done', 'cancelled', 'failed')),
            asked_at timestamptz NOT NULL, asked_by text NOT NULL,
            step int NOT NULL DEFAULT 0, following text,
            counts jsonb NOT NULL DEFAULT '{}', reasons jsonb NOT NULL DEFAULT '{}',
            failures int NOT NULL DEFAULT 0, reason text,
            not_before timestamptz NOT NULL, lease uuid,
            PRIMARY KEY (tenant, id)
        )"""
    )
    op.execute("CREATE INDEX fetches_open ON fetches (not_before) WHERE state IN ('waiting', 'running')")
    op.execute("CREATE INDEX fetches_store ON fetches (tenant, store, purpose, until)")
    op.execute(
        "CREATE UNIQUE INDEX fetches_one ON fetches (tenant, store, purpose)"
        " WHERE purpose <> 'backfill' AND state IN ('waiting', 'running')"
    )


def downgrade() -> None:
    op.execute("DROP TABLE fetches")
    op.execute("DROP TABLE credentials")
    op.execute("ALTER TABLE deliveries DROP COLUMN dated")
