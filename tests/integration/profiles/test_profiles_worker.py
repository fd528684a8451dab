"""The service's own worker on the real log: observations in at one end, facts out at the other."""

import asyncio

from libs.common.clock import DrivenClock
from libs.common.contracts.topics import COMMERCE
from libs.common.db import Database
from libs.common.log import postgres
from libs.common.log.postgres import PostgresLog
from services.profiles.settings import ProfilesSettings
from services.profiles.work import worker
from tests.integration.profiles.driving import order, record
from tests.waiting import eventually


async def test_the_worker_turns_commerce_into_facts(
    ingest_db: Database, profiles_db: Database, clock: DrivenClock
) -> None:
    async with ingest_db.transaction() as tx:
        await postgres.append(tx, COMMERCE, [record(order(n)) for n in range(3)])
    log = PostgresLog(profiles_db)
    stop = asyncio.Event()
    running = asyncio.create_task(worker(ProfilesSettings(), profiles_db, clock, log).run(stop))

    async def types() -> list[str]:
        async with profiles_db.reading() as tx:
            return [row["type"] for row in await tx.pg.fetch('SELECT type FROM log_customers ORDER BY "offset"')]

    async def all_told() -> bool:
        return (await types()).count("order.placed") == 3

    await eventually(all_told)
    stop.set()
    await running
    await log.close()
    assert sorted(await types()) == ["account.moved", "order.placed", "order.placed", "order.placed", "profile.changed"]
