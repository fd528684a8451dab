"""How far a platform is in preparing all of a kind, and of which cart's checkout a delivery tells."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE fetches ADD COLUMN bulk jsonb NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE deliveries ADD COLUMN cart text")
    with op.get_context().autocommit_block():
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_cart ON deliveries (tenant, store, cart)"
            " WHERE cart IS NOT NULL"
        )


def downgrade() -> None:
    op.execute("DROP INDEX deliveries_cart")
    op.execute("ALTER TABLE deliveries DROP COLUMN cart")
    op.execute("ALTER TABLE fetches DROP COLUMN bulk")
