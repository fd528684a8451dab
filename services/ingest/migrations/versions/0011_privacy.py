"""Privacy requests and how far ingest has come with them; credentials that the shop took back."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE privacy_requests (
            tenant text NOT NULL, id uuid NOT NULL, store text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('data_request', 'redact', 'redact_store')),
            subject jsonb NOT NULL, received_at timestamptz NOT NULL, due_at timestamptz NOT NULL,
            asked_by text NOT NULL, taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done')),
            worked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            step text NOT NULL CHECK (step IN ('look', 'act')), reached uuid, roots text[] NOT NULL DEFAULT '{}',
            receipts jsonb NOT NULL DEFAULT '{}',
            PRIMARY KEY (tenant, id)
        )"""
    )
    op.execute("CREATE INDEX privacy_requests_received ON privacy_requests (tenant, received_at DESC, id DESC)")
    op.execute("CREATE INDEX privacy_requests_open ON privacy_requests (worked_at, id) WHERE state <> 'done'")
    op.execute("ALTER TABLE credentials DROP CONSTRAINT credentials_state_check")
    op.execute(
        """ALTER TABLE credentials ADD CONSTRAINT credentials_state_check
        CHECK (state IN ('unchecked', 'good', 'refused', 'gone'))"""
    )


def downgrade() -> None:
    op.execute("UPDATE credentials SET state = 'refused' WHERE state = 'gone'")
    op.execute("ALTER TABLE credentials DROP CONSTRAINT credentials_state_check")
    op.execute(
        """ALTER TABLE credentials ADD CONSTRAINT credentials_state_check
        CHECK (state IN ('unchecked', 'good', 'refused'))"""
    )
    op.execute("DROP TABLE privacy_requests")
