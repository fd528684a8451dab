"""The log's tables are vacuumed slowly: see `libs.common.log.schema`."""

from alembic import op

from libs.common.contracts.topics import COMMERCE, JOURNAL
from libs.common.log.schema import slow_vacuum

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in slow_vacuum(COMMERCE, JOURNAL):
        op.execute(statement)


def downgrade() -> None:
    for statement in slow_vacuum(COMMERCE, JOURNAL, reset=True):
        op.execute(statement)
