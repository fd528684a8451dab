"""Accounts that hang together with too many are marked; those that do already, when one of them is next looked at."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE accounts ADD COLUMN crowded boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE accounts DROP COLUMN crowded")
