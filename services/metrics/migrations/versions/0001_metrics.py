"""Facts of orders, checkouts, carts and accounts; the sums of their points."""

from alembic import op

from libs.common.log.schema import create_consumer_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in create_consumer_tables():
        op.execute(statement)
    # Locked by every batch: what it folds is a difference to what it read.
    op.execute("CREATE TABLE tenants (tenant text PRIMARY KEY)")
    op.execute(
        """
        CREATE TABLE accounts (
            tenant text NOT NULL,
            account text NOT NULL,
            profile text NOT NULL,
            revision bigint NOT NULL,
            PRIMARY KEY (tenant, account)
        )
        """
    )
    # Secondary indexes begin with what they are for: while a young table has no statistics, one that begins with the
    # tenant looks as good as the primary key to the planner, and the other way round.
    op.execute("CREATE INDEX accounts_profile ON accounts (profile, tenant)")
    op.execute(
        """
        CREATE TABLE orders (
            tenant text NOT NULL,
            store text NOT NULL,
            source_id text NOT NULL,
            revision bigint NOT NULL,
            account text,
            profile text,
            checkout text NOT NULL,
            counted boolean NOT NULL,
            placed_at timestamptz NOT NULL,
            currency text NOT NULL,
            gross bigint NOT NULL,
            discounts bigint NOT NULL,
            returns bigint NOT NULL,
            shipping bigint NOT NULL,
            taxes bigint NOT NULL,
            PRIMARY KEY (tenant, store, source_id)
        )
        """
    )
    op.execute("CREATE INDEX orders_account ON orders (account, tenant)")
    op.execute("CREATE INDEX orders_checkout ON orders (checkout, store, tenant)")
    op.execute(
        """
        CREATE INDEX orders_profile ON orders (profile, tenant, currency, placed_at) INCLUDE (store)
        WHERE counted AND profile IS NOT NULL
        """
    )
    op.execute(
        """
        CREATE TABLE checkouts (
            tenant text NOT NULL,
            store text NOT NULL,
            token text NOT NULL,
            revision bigint NOT NULL,
            account text,
            started_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL,
            currency text NOT NULL,
            held boolean NOT NULL,
            PRIMARY KEY (tenant, store, token)
        )
        """
    )
    op.execute("CREATE INDEX checkouts_account ON checkouts (account, tenant)")
    op.execute(
        """
        CREATE TABLE recoveries (
            tenant text NOT NULL,
            store text NOT NULL,
            token text NOT NULL,
            messaged_at timestamptz NOT NULL,
            PRIMARY KEY (tenant, store, token)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE carts (
            tenant text NOT NULL,
            store text NOT NULL,
            token text NOT NULL,
            revision bigint NOT NULL,
            started_at timestamptz NOT NULL,
            currency text NOT NULL,
            held boolean NOT NULL,
            PRIMARY KEY (tenant, store, token)
        )
        """
    )
    # The columns are those of TOTALS and INTERVALS in algebra.py. Sums of money and of lifespans outgrow a bigint.
    # Coarse rows are updated again and again: room for that on their page.
    op.execute(
        """
        CREATE TABLE totals (
            tenant text NOT NULL,
            store text NOT NULL,
            tier smallint NOT NULL,
            currency text NOT NULL,
            at bigint NOT NULL,
            orders bigint NOT NULL,
            gross numeric NOT NULL,
            discounts numeric NOT NULL,
            returns numeric NOT NULL,
            shipping numeric NOT NULL,
            taxes numeric NOT NULL,
            bought bigint NOT NULL,
            first_orders bigint NOT NULL,
            second_orders bigint NOT NULL,
            lifespan numeric NOT NULL,
            carts bigint NOT NULL,
            checkouts bigint NOT NULL,
            pairs bigint NOT NULL,
            pairs_start bigint NOT NULL,
            triples bigint NOT NULL,
            triples_start bigint NOT NULL,
            converted bigint NOT NULL,
            converted_start bigint NOT NULL,
            abandoned bigint NOT NULL,
            abandoned_start bigint NOT NULL,
            messaged bigint NOT NULL,
            messaged_start bigint NOT NULL,
            recovered bigint NOT NULL,
            recovered_start bigint NOT NULL,
            recovered_net numeric NOT NULL,
            recovered_net_start numeric NOT NULL,
            PRIMARY KEY (tenant, store, tier, currency, at)
        ) WITH (fillfactor = 80)
        """
    )
    op.execute(
        """
        CREATE TABLE long_intervals (
            tenant text NOT NULL,
            store text NOT NULL,
            tier smallint NOT NULL,
            currency text NOT NULL,
            at bigint NOT NULL,
            hours smallint NOT NULL,
            pairs bigint NOT NULL,
            pairs_start bigint NOT NULL,
            triples bigint NOT NULL,
            triples_start bigint NOT NULL,
            converted bigint NOT NULL,
            converted_start bigint NOT NULL,
            abandoned bigint NOT NULL,
            abandoned_start bigint NOT NULL,
            messaged bigint NOT NULL,
            messaged_start bigint NOT NULL,
            recovered bigint NOT NULL,
            recovered_start bigint NOT NULL,
            recovered_net numeric NOT NULL,
            recovered_net_start numeric NOT NULL,
            PRIMARY KEY (tenant, store, tier, currency, at, hours)
        ) WITH (fillfactor = 80)
        """
    )


def downgrade() -> None:
    for table in (
        "long_intervals",
        "totals",
        "carts",
        "recoveries",
        "checkouts",
        "orders",
        "accounts",
        "tenants",
        "dead_letters",
        "workers",
        "positions",
    ):
        op.execute(f"DROP TABLE {table}")
