"""When a store was paused last, and that it was deleted."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """ALTER TABLE stores
        ADD COLUMN paused_at timestamptz, ADD COLUMN resumed_at timestamptz, ADD COLUMN deleted_at timestamptz"""
    )


def downgrade() -> None:
    op.execute("ALTER TABLE stores DROP COLUMN paused_at, DROP COLUMN resumed_at, DROP COLUMN deleted_at")
