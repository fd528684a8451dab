"""`regulars positions show` and `regulars leases`: where each consumer is, and whose each partition is. Only reads."""

from collections.abc import Iterator, Sequence

import asyncpg


async def positions(url: str, services: Sequence[str]) -> list[str]:
    """One line a partition: consumer, topic[partition], offset of the next record, when it last moved."""
    return [
        f"{row['consumer']} {row['topic']}[{row['partition']}] {row['next_offset']} {row['updated_at']:%FT%TZ}"
        for row in await _rows(url, "SELECT * FROM {0}.positions ORDER BY 1, 2, 3", services)
    ]


async def leases(url: str, services: Sequence[str]) -> list[str]:
    """One line a worker: consumer, worker, state and reason, its partitions; then the partitions that nobody holds."""
    return [
        *_held(await _rows(url, _WORKERS, services)),
        *(f"{row['consumer']} nobody: {' '.join(row['free'])}" for row in await _rows(url, _FREE, services)),
    ]


def _held(workers: Sequence[asyncpg.Record]) -> Iterator[str]:
    for row in workers:
        state = row["state"] if row["alive"] else "lapsed"
        reason = f" ({row['reason']})" if row["reason"] else ""
        yield f"{row['consumer']} {row['worker']} {state}{reason}: {' '.join(row['held'] or ['nothing'])}"


_WORKERS = """
    SELECT w.consumer, w.worker, w.state, w.reason, w.seen_until > now() AS alive,
           (SELECT array_agg(format('%s[%s]', p.topic, p.partition) ORDER BY p.topic, p.partition) FROM {0}.positions p
            WHERE p.consumer = w.consumer AND p.owner = w.worker AND p.lease_until > now()) AS held
    FROM {0}.workers w ORDER BY 1, 2
    """
_FREE = """
    SELECT consumer, array_agg(format('%s[%s]', topic, partition) ORDER BY topic, partition) AS free
    FROM {0}.positions WHERE owner IS NULL OR lease_until <= now() GROUP BY 1 ORDER BY 1
    """


async def _rows(url: str, query: str, services: Sequence[str]) -> list[asyncpg.Record]:
    options = {"default_transaction_read_only": "on", "timezone": "UTC", "application_name": "regulars standing"}
    connection = await asyncpg.connect(url, timeout=5, server_settings=options)
    try:
        return [row for service in services for row in await connection.fetch(query.format(service))]
    finally:
        await connection.close(timeout=2)
