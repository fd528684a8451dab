"""Who withdraws consent for an address that several share speaks for all of them: accounts are found by it."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_email ON accounts (tenant, email) WHERE email IS NOT NULL"
        )


def downgrade() -> None:
    op.execute("DROP INDEX accounts_email")
