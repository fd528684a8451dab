"""Keys with which a store's pages send events: no secret, so each is bound to one store and to some origins."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE public_keys (
            tenant text NOT NULL, store text NOT NULL, key text NOT NULL,
            origins text[] NOT NULL CHECK (cardinality(origins) > 0),
            created_at timestamptz NOT NULL, created_by text NOT NULL,
            PRIMARY KEY (tenant, store, key), UNIQUE (key)
        )"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE public_keys")
