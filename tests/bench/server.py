"""A PostgreSQL for a benchmark: embedded, in a folder that goes away, with nothing in it."""

import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from libs.common.embedded_postgres import EmbeddedPostgres

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@asynccontextmanager
async def fresh_database(*, as_composed: bool = False) -> AsyncIterator[str]:
    """Address of an empty database. REGULARS_TEST_DATABASE_URL names a server to use instead.

    `as_composed`: on a server with the settings of docker-compose.yml, in place of one that spares memory.
    """
    if given := os.environ.get("REGULARS_TEST_DATABASE_URL"):
        yield await _create(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder), _composed() if as_composed else {}) as server:
            yield await _create(server)


def _composed() -> dict[str, str]:
    return dict(re.findall(r"-c, (\w+)=([^],]+)", COMPOSE.read_text()))


async def _create(server: str) -> str:
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("DROP DATABASE IF EXISTS regulars_bench WITH (FORCE)")
        await connection.execute("CREATE DATABASE regulars_bench")
    finally:
        await connection.close()
    return make_url(server).set(database="regulars_bench").render_as_string(hide_password=False)
