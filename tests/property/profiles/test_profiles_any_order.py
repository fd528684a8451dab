"""Any order, any duplication and any cut into batches of one history end in the same state and the same facts."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.db import Database
from libs.common.log.base import Record
from tests.integration.profiles.driving import RULES, run
from tests.property.profiles.histories import chains, clear, folded, histories, is_a_function_of_its_edges, left


@st.composite
def told_twice(draw: st.DrawFn, told: st.SearchStrategy[list[Record]]) -> tuple[list[Record], list[Record], int]:
    """A history, the same out of order and with repetitions, and a batch size."""
    history = draw(told)
    repeated = draw(st.lists(st.sampled_from(history), max_size=4))
    return history, draw(st.permutations([*history, *repeated])), draw(st.integers(1, 6))


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


@pytest.fixture
def runner() -> asyncio.Runner:
    return asyncio.Runner()


def test_state_and_facts_do_not_depend_on_the_order_of_deliveries(database_url: str, runner: asyncio.Runner) -> None:
    @settings(max_examples=100)
    @given(told_twice(histories))
    def check(example: tuple[list[Record], list[Record], int]) -> None:
        runner.run(both(database, *example))

    with runner:
        database = runner.run(_open(database_url))
        check()
        runner.run(database.close())


def test_chains_of_tokens_end_as_one_look_at_all_edges_would_have_it(database_url: str, runner: asyncio.Runner) -> None:
    @settings(max_examples=50)
    @given(told_twice(chains))
    def check(example: tuple[list[Record], list[Record], int]) -> None:
        runner.run(both(database, *example))
        runner.run(is_a_function_of_its_edges(database, RULES))

    with runner:
        database = runner.run(_open(database_url))
        check()
        runner.run(database.close())


async def _open(database_url: str) -> Database:
    return Database(database_url, schema="profiles", pool_size=1)
