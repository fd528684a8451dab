"""Replays: the journal read again, by rules that have learned something since."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE replays (
            tenant text NOT NULL, id uuid NOT NULL, store text NOT NULL, topic text, outcome text,
            since timestamptz, until timestamptz NOT NULL, dry_run boolean NOT NULL,
            state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'cancelled')),
            asked_at timestamptz NOT NULL, asked_by text NOT NULL, worked_at timestamptz NOT NULL,
            reached uuid, total bigint, counts jsonb NOT NULL DEFAULT '{}', reasons jsonb NOT NULL DEFAULT '{}',
            PRIMARY KEY (tenant, id)
        )"""
    )
    op.execute("CREATE INDEX replays_open ON replays (worked_at, id) WHERE state IN ('waiting', 'running')")


def downgrade() -> None:
    op.execute("DROP TABLE replays")
