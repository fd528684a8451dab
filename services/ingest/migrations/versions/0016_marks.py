"""What is left of whom a redaction was about, so that a later request about him begins where that ended."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE privacy_requests ADD COLUMN marks bytea[] NOT NULL DEFAULT '{}'")
    op.execute("CREATE INDEX privacy_requests_marks ON privacy_requests USING gin (marks) WHERE marks <> '{}'")


def downgrade() -> None:
    op.execute("DROP INDEX privacy_requests_marks")
    op.execute("ALTER TABLE privacy_requests DROP COLUMN marks")
