"""Secrets that end, and who changed a store, and when."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside `secrets`, one for one. Null: a version that knew nothing of them wrote the secrets.
    op.execute("ALTER TABLE stores ADD COLUMN secrets_added timestamptz[], ADD COLUMN secrets_end timestamptz[]")
    op.execute(
        """CREATE TABLE store_changes (
            tenant text NOT NULL, store text NOT NULL, version int NOT NULL,
            at timestamptz NOT NULL, by text NOT NULL, changes jsonb NOT NULL,
            PRIMARY KEY (tenant, store, version)
        )"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE store_changes")
    op.execute("ALTER TABLE stores DROP COLUMN secrets_added, DROP COLUMN secrets_end")
