"""The log's tables are vacuumed slowly: see `libs.common.log.schema`."""

from alembic import op

from libs.common.contracts.topics import CUSTOMERS
from libs.common.log.schema import slow_vacuum

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in slow_vacuum(CUSTOMERS):
        op.execute(statement)


def downgrade() -> None:
    for statement in slow_vacuum(CUSTOMERS, reset=True):
        op.execute(statement)
