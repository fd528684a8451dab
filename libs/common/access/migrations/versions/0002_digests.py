"""Idempotency keys as digests: they are the caller's own words, and may name somebody."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whatever is still under way is finished, or forgotten, by the version that began it, under the name it knows.
    op.execute(
        "UPDATE idempotency_keys SET key = encode(sha256(convert_to(key, 'UTF8')), 'hex') WHERE status IS NOT NULL"
    )


def downgrade() -> None:
    # Nobody can tell them back; they end within a day.
    pass
