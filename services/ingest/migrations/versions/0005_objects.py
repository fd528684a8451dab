"""Deliveries are found by the object that they speak of."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_object ON deliveries (tenant, object, id)"
            " WHERE object IS NOT NULL"
        )


def downgrade() -> None:
    op.execute("DROP INDEX deliveries_object")
