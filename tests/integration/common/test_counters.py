"""The log's counters, while somebody holds a snapshot that is older than all that is appended: a dump does."""

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.common.contracts.topics import JOURNAL
from libs.common.log.postgres import append_unique
from tests.contract.logs import Written, event, postgres_log

_LOOKED_AT = "SELECT heap_blks_hit + idx_blks_hit FROM pg_statio_user_tables WHERE relname = 'log_partitions'"


@pytest_asyncio.fixture
async def written(empty_database_url: str) -> AsyncIterator[Written]:
    async with postgres_log(empty_database_url) as log:
        yield log


async def test_no_append_comes_by_the_versions_of_those_before(written: Written) -> None:
    holder, writer = await written.database.session(), await written.database.session()
    digests = iter(range(10**6))

    held = holder.transaction(isolation="repeatable_read")

    async def looked_at(appends: int) -> int:
        before: int = await writer.fetchval(_LOOKED_AT)
        for _ in range(appends):
            await append_unique(writer, JOURNAL, [event("key")], [next(digests).to_bytes(16)])
        # One more statement: what was counted is there behind the end of the one that asks for it.
        await writer.execute("SELECT pg_stat_force_next_flush()")
        after: int = await writer.fetchval(_LOOKED_AT)
        return after - before

    try:
        await holder.execute("SET idle_in_transaction_session_timeout = 0")
        await held.start()
        await holder.fetchval("SELECT count(*) FROM log_partitions")
        few = await looked_at(50)
        await looked_at(2_000)
        # Coming by all of them would be some 2,000 looks with each append, and few were 9. The server's own upkeep is
        # counted, too: on a busy machine it came to 15.
        assert await looked_at(50) < 4 * few
        assert sum((await written.log.end_offsets("journal")).values()) == 2_100
    finally:
        await holder.close()
        await writer.close()
