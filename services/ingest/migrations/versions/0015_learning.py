"""Whom a privacy request turned out to be about, and how far the search for that has come."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """ALTER TABLE privacy_requests
        ADD COLUMN names text[] NOT NULL DEFAULT '{}', ADD COLUMN learning jsonb NOT NULL DEFAULT 'null'"""
    )


def downgrade() -> None:
    op.execute("ALTER TABLE privacy_requests DROP COLUMN names, DROP COLUMN learning")
