"""Any sequence of appends and retention runs leaves offsets without a gap, and every body that is to be kept."""

import asyncio
from datetime import timedelta
from typing import NamedTuple

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.contracts.topics import JOURNAL
from libs.common.db import Database
from libs.common.log.postgres import append
from services.ingest.settings import SCHEMA
from tests.integration.ingest.aged import NOW, age, gapless, keep, read_all, rows
from tests.integration.ingest.test_retention_under_way import events

DAY = timedelta(days=1)


class Run(NamedTuple):
    """Retention with these days, after so many days."""

    after: int
    days: int
    acme: int


class Append(NamedTuple):
    """So many records, dated so long ago as nothing younger was appended before them."""

    many: int
    back: int
    read: bool


DAYS = st.sampled_from([7, 14, 30, 90])
STEPS = st.lists(
    st.one_of(
        st.builds(Append, st.integers(1, 12), st.integers(0, 40), st.booleans()),
        st.builds(Run, st.integers(0, 40), DAYS, DAYS),
    ),
    min_size=2,
    max_size=10,
)


@settings(max_examples=25)
@given(steps=STEPS)
def test_offsets_stay_gapless(database_url: str, steps: list[Append | Run]) -> None:
    asyncio.run(_play(database_url, steps))


async def _play(url: str, steps: list[Append | Run]) -> None:
    database = Database(url, schema=SCHEMA)
    await _empty(url)
    now = NOW - 800 * DAY
    kept: dict[str, tuple[bytes, str, float]] = {}
    read: set[str] = set()
    for step in steps:
        if isinstance(step, Append):
            now += step.back * DAY
            some = events(step.many, 50)
            async with database.transaction() as tx:
                await append(tx, JOURNAL, some)
            await age(database, (NOW - now).days, [event.id for event in some], shortest=7)
            kept |= {event.id: (event.data, event.tenant, now.timestamp()) for event in some}
            if step.read:
                await read_all(database)
                read = set(kept)
        else:
            now += step.after * DAY
            await keep(database, now, days=step.days, acme=step.acme)
            least = {"acme": step.acme}
            assert await gapless(database)
            there = {row.id: row.data for row in await rows(database)}
            for id_, (data, tenant, at) in list(kept.items()):
                days = (now.timestamp() - at) / DAY.total_seconds()
                if id_ not in read or days < least.get(tenant, step.days):
                    assert there[id_] == data
                elif there.get(id_) != data:
                    del kept[id_]
                else:
                    # At most a table's span later, or somebody has still to read something.
                    assert days < least.get(tenant, step.days) + 28 or not kept.keys() <= read
    await database.close()


async def _empty(url: str) -> None:
    """As migrated."""
    pg = await asyncpg.connect(url)
    children = await pg.fetch("SELECT inhrelid::regclass::text AS name FROM pg_inherits"
                              " WHERE inhparent = 'ingest.log_journal'::regclass")  # fmt: skip
    for child in children:
        if not child["name"].endswith("_rest"):
            await pg.execute(f"DROP TABLE {child['name']}")
    await pg.execute(
        "TRUNCATE ingest.log_journal, ingest.positions, ingest.log_seen;"
        " UPDATE ingest.log_partitions SET next_offset = 0, first_offset = 0"
    )
    await pg.close()
