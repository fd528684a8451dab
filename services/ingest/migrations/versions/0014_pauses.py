"""Stores that are paused and deleted, and the minutes in which something came of each, to tell a silence by."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """ALTER TABLE stores
        ADD COLUMN paused_at timestamptz, ADD COLUMN resumed_at timestamptz, ADD COLUMN deleted_at timestamptz"""
    )
    op.execute("ALTER TABLE stores DROP CONSTRAINT stores_secrets_check")
    op.execute(
        """ALTER TABLE stores ADD CONSTRAINT stores_secrets_check
        CHECK ((deleted_at IS NOT NULL OR platform = 'events') = (secrets = '{}'))"""
    )
    # Whose store was deleted may register its domain again: under another key.
    op.execute("DROP INDEX stores_domain")
    op.execute("CREATE UNIQUE INDEX stores_domain ON stores (tenant, platform, domain) WHERE deleted_at IS NULL")
    # Bit n of `minutes`: something came in minute n of the hour. By journal partition, as outcome_counts are.
    op.execute(
        """CREATE TABLE arrivals (
            tenant text NOT NULL, store text NOT NULL, hour timestamptz NOT NULL, journal_partition int NOT NULL,
            minutes bigint NOT NULL,
            PRIMARY KEY (tenant, store, hour, journal_partition)
        ) WITH (fillfactor = 80)"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE arrivals")
    # What is deleted has no secret, which no version before can read.
    op.execute("DELETE FROM stores WHERE deleted_at IS NOT NULL")
    op.execute("DROP INDEX stores_domain")
    op.execute("CREATE UNIQUE INDEX stores_domain ON stores (tenant, platform, domain)")
    op.execute("ALTER TABLE stores DROP CONSTRAINT stores_secrets_check")
    op.execute(
        """ALTER TABLE stores ADD CONSTRAINT stores_secrets_check
        CHECK ((platform = 'events') = (secrets = '{}'))"""
    )
    op.execute("ALTER TABLE stores DROP COLUMN paused_at, DROP COLUMN resumed_at, DROP COLUMN deleted_at")
