"""A store that tells of itself by first-party events."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE stores DROP CONSTRAINT stores_platform_check, DROP CONSTRAINT stores_secrets_check")
    op.execute(
        """ALTER TABLE stores
        ADD CONSTRAINT stores_platform_check CHECK (platform IN ('shopify', 'woocommerce', 'events')),
        ADD CONSTRAINT stores_secrets_check CHECK ((platform = 'events') = (secrets = '{}'))"""
    )


def downgrade() -> None:
    op.execute("ALTER TABLE stores DROP CONSTRAINT stores_platform_check, DROP CONSTRAINT stores_secrets_check")
    op.execute(
        """ALTER TABLE stores
        ADD CONSTRAINT stores_platform_check CHECK (platform IN ('shopify', 'woocommerce')),
        ADD CONSTRAINT stores_secrets_check CHECK (cardinality(secrets) > 0)"""
    )
