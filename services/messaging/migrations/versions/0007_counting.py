"""The log's counters are found newest first: see `libs.common.log.schema`."""

from alembic import op

from libs.common.log.schema import create_counting, drop_counting

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in create_counting():
        op.execute(statement)


def downgrade() -> None:
    for statement in drop_counting():
        op.execute(statement)
