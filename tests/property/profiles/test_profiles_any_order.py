"""Any order, any duplication and any cut into batches of one history end in the same state and the same facts."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.db import Database
from libs.common.log.base import Record
from tests.integration.profiles.driving import run
from tests.property.profiles.histories import clear, folded, histories, left


@st.composite
def told_twice(draw: st.DrawFn) -> tuple[list[Record], list[Record], int]:
    """A history, the same out of order and with repetitions, and a batch size."""
    history = draw(histories)
    repeated = draw(st.lists(st.sampled_from(history), max_size=4))
    return history, draw(st.permutations([*history, *repeated])), draw(st.integers(1, 6))


@pytest.fixture
def runner() -> asyncio.Runner:
    return asyncio.Runner()


def test_state_and_facts_do_not_depend_on_the_order_of_deliveries(database_url: str, runner: asyncio.Runner) -> None:
    async def both(database: Database, history: Sequence[Record], other: Sequence[Record], size: int) -> None:
        await clear(database)
        in_order = folded(await run(database, history, size=1))
        expected = await left(database)
        await clear(database)
        shuffled = folded(await run(database, other, size=size))
        found = await left(database)
        for table, rows in expected.items():
            assert found[table] == rows, table
        assert shuffled == in_order

    @settings(max_examples=150)
    @given(told_twice())
    def check(example: tuple[list[Record], list[Record], int]) -> None:
        runner.run(both(database, *example))

    with runner:
        database = runner.run(_open(database_url))
        check()
        runner.run(database.close())


async def _open(database_url: str) -> Database:
    return Database(database_url, schema="profiles", pool_size=1)
