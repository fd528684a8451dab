"""In whose name a store's mail goes out, and until when a link brings a basket back."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE stores ADD COLUMN email text, ADD COLUMN postal_address text")
    op.execute("ALTER TABLE baskets ADD COLUMN recovery_ends_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE stores DROP COLUMN email, DROP COLUMN postal_address")
    op.execute("ALTER TABLE baskets DROP COLUMN recovery_ends_at")
