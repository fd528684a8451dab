"""A replay may be about one delivery alone."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE replays ADD COLUMN delivery uuid")


def downgrade() -> None:
    op.execute("ALTER TABLE replays DROP COLUMN delivery")
