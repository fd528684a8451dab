"""API keys, and the answers remembered for idempotency keys."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # By id alone: it is the key that tells the tenant.
    op.execute(
        """
        CREATE TABLE api_keys (
            id text PRIMARY KEY,
            tenant text NOT NULL,
            name text NOT NULL,
            scopes text[] NOT NULL,
            secret_sha256 bytea NOT NULL CHECK (length(secret_sha256) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz,
            revoked_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX api_keys_tenant ON api_keys (tenant, created_at)")
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            tenant text NOT NULL,
            key_id text NOT NULL,
            key text NOT NULL,
            route text NOT NULL,
            body_sha256 bytea NOT NULL,
            started_at timestamptz NOT NULL DEFAULT now(),
            status smallint,
            headers text,
            body bytea,
            PRIMARY KEY (tenant, key_id, key, route)
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_started_at ON idempotency_keys (started_at)")


def downgrade() -> None:
    op.execute("DROP TABLE idempotency_keys")
    op.execute("DROP TABLE api_keys")
