"""The log says where it begins: retention drops what is old, and who comes later must not take that for a loss."""

from alembic import op

from libs.common.contracts.topics import MESSAGES
from libs.common.log.schema import create_beginnings

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in create_beginnings(MESSAGES):
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE log_partitions DROP COLUMN first_offset")
