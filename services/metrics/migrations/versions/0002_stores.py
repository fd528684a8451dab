"""Which stores there are: one in which nothing has happened yet is not the same as none."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE stores (tenant text NOT NULL, store text NOT NULL, PRIMARY KEY (tenant, store))")
    op.execute(
        """
        INSERT INTO stores
        SELECT tenant, store FROM orders UNION SELECT tenant, store FROM checkouts UNION SELECT tenant, store FROM carts
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE stores")
