"""Who asks a store's API right now, and when what was asked for was done."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # While it is set, `next_call_at` is when it lapses.
    op.execute("ALTER TABLE credentials ADD COLUMN lease uuid")
    op.execute("ALTER TABLE fetches ADD COLUMN done_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE fetches DROP COLUMN done_at")
    op.execute("ALTER TABLE credentials DROP COLUMN lease")
