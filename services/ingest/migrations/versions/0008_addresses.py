"""Where a store's customers write to, by e-mail and by post."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE stores ADD COLUMN email text, ADD COLUMN postal_address text")


def downgrade() -> None:
    op.execute("ALTER TABLE stores DROP COLUMN email, DROP COLUMN postal_address")
