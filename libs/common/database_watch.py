"""What a service tells Prometheus of its database, and of what lies there for somebody to look at."""

from datetime import datetime
from typing import Any

from libs.common.db import Database
from libs.common.telemetry import gauge
from libs.common.worker import Periodic

EVERY_SECONDS = 30.0

SIZE = gauge("regulars_database_size_bytes", "Size of the service's database on disk.", ["service"])
CONNECTIONS = gauge("regulars_database_connections", "Connections that the server has, of everybody.", ["service"])
CONNECTIONS_MAX = gauge("regulars_database_connections_max", "Connections that the server allows.", ["service"])
OLDEST_TRANSACTION = gauge(
    "regulars_database_oldest_transaction_seconds", "Age of the oldest open transaction in the database.", ["service"]
)
DEAD_LETTERS = gauge("regulars_dead_letters_waiting", "Dead letters neither replayed nor discarded.", ["service"])


def database_watch(database: Database) -> Periodic:
    """Looks twice a minute. `run` of several workers tells the same: any of them may be asked."""

    async def run(_now: datetime) -> bool:
        async with database.autocommit() as pg:
            seen: Any = await pg.fetchrow(_LOOK)
        service = database.schema
        SIZE.labels(service).set(seen["size"])
        CONNECTIONS.labels(service).set(seen["connections"])
        CONNECTIONS_MAX.labels(service).set(seen["connections_max"])
        OLDEST_TRANSACTION.labels(service).set(seen["oldest"])
        DEAD_LETTERS.labels(service).set(seen["dead"])
        return False

    return Periodic("database watch", EVERY_SECONDS, run)


# Backends of the server's own (walsender, autovacuum) hold no transaction of anybody's.
_LOOK = """
    SELECT pg_database_size(current_database()) AS size,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
           current_setting('max_connections')::int AS connections_max,
           coalesce((SELECT extract(epoch FROM clock_timestamp() - min(xact_start)) FROM pg_stat_activity
                     WHERE datname = current_database() AND backend_type = 'client backend'
                       AND pid <> pg_backend_pid()), 0)::float8 AS oldest,
           (SELECT count(*) FROM dead_letters WHERE state = 'dead') AS dead
    """
