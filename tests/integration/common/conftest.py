"""A bench for workers, on both logs."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common.db import Database
from tests.contract.logs import kafka_log, postgres_log
from tests.integration.common.workbench import Bench


@pytest_asyncio.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
async def bench(request: pytest.FixtureRequest, empty_database_url: str) -> AsyncIterator[Bench]:
    opened = (
        postgres_log(empty_database_url)
        if request.param == "postgres"
        else kafka_log(empty_database_url, request.getfixturevalue("kafka"))
    )
    async with opened as written:
        database = Database(empty_database_url, schema="profiles", pool_size=8)
        async with database.autocommit() as pg:
            await pg.execute("CREATE TABLE effects (id text NOT NULL)")
        yield Bench(written, database)
        await database.close()
