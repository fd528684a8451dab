"""Whether a request with an idempotency key has done something, though nobody knows its answer."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE idempotency_keys ADD COLUMN committed boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE idempotency_keys DROP COLUMN committed")
