"""The log's tables are vacuumed slowly: see `libs.common.log.schema`."""

from alembic import op

from libs.common.contracts.topics import MESSAGES
from libs.common.log.schema import slow_vacuum

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in slow_vacuum(MESSAGES):
        op.execute(statement)


def downgrade() -> None:
    for statement in slow_vacuum(MESSAGES, reset=True):
        op.execute(statement)
