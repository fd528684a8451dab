"""Which webhooks a store's platform has for us, as they were last seen."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE subscriptions (
            tenant text NOT NULL, store text NOT NULL, topic text NOT NULL,
            state text NOT NULL CHECK (
                state IN ('active', 'disabled', 'elsewhere', 'gone', 'missing', 'unwanted')
            ),
            since timestamptz NOT NULL, reason text,
            -- Of the secret that we had it signed by; null: somebody else chose one, or nobody chooses.
            signed bytea,
            PRIMARY KEY (tenant, store, topic)
        )"""
    )
    op.execute("ALTER TABLE credentials ADD COLUMN looked_at timestamptz, ADD COLUMN unseen text")


def downgrade() -> None:
    op.execute("ALTER TABLE credentials DROP COLUMN looked_at, DROP COLUMN unseen")
    op.execute("DROP TABLE subscriptions")
