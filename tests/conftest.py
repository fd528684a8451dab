"""Shared fixtures: PostgreSQL, a migrated database for each test, a clock that stands still.

Each pytest process (with xdist: each worker) starts one embedded PostgreSQL, migrates a template once, and clones it
for each test that asks for a database. REGULARS_TEST_DATABASE_URL names a server to use instead. Of Kafka there is one
for all processes of a session.
"""

import asyncio
import fcntl
import gc
import itertools
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from sqlalchemy.engine import make_url

from libs.common import access
from libs.common.clock import DrivenClock
from libs.common.db import Database
from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.log.kafka_client import Kafka
from libs.common.migrations import run_migrations
from libs.common.telemetry import configure_logging
from regulars.local_kafka import LocalKafka
from tests.local_kafka import no_kafka
from tests.logged import Lines
from tests.server_folder import server_folder

ROOT = Path(__file__).parents[1]
PROPERTIES = ROOT / "tests" / "property"
SERVICES = ("ingest", "profiles", "metrics", "messaging")
KAFKA_FOLDER = "TEST_KAFKA_FOLDER"
POSTGRES_FOLDER = "TEST_POSTGRES_FOLDER"
START = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""Where the `clock` fixture stands: a Monday noon."""

# What Hypothesis writes for itself does not belong into a checkout that may be somebody else's.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"regulars-hypothesis-{os.getuid()}")
# The same examples on every machine and no folder of past ones: a red test is red for everybody.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("repeatable")

# As in production: JSON lines, shown with a failed test. structlog's own renderer draws whole frames of locals.
configure_logging("info")

# Databases live for a test each; what a crash leaves is tried on servers that wait for the disk.
_FLEETING = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET full_page_writes = off",
    # Segments of the log that nobody needs yet, or any more, would take memory.
    "ALTER SYSTEM SET wal_init_zero = off",
    "ALTER SYSTEM SET wal_recycle = off",
    "SELECT pg_reload_conf()",
)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server on which databases may be made."""
    if given := os.environ.get("REGULARS_TEST_DATABASE_URL"):
        yield given
        return
    folder = Path(os.environ[POSTGRES_FOLDER]) / str(os.getpid())
    server = EmbeddedPostgres(folder)
    # The server is a child of the loop that started it.
    with asyncio.Runner() as loop:
        url = loop.run(server.start())
        loop.run(_execute(url, *_FLEETING, *_cheap_password(url)))
        yield url
        loop.run(server.stop())
    # What it said outlives its data, beside what the tests wrote.
    shutil.copy(folder / "postgres.log", tmp_path_factory.mktemp("postgres"))


@pytest.fixture
def durable(postgres_url: str) -> Iterator[None]:
    """The server waits for the disk, as every other one does."""
    ours = "REGULARS_TEST_DATABASE_URL" not in os.environ
    if ours:
        asyncio.run(_execute(postgres_url, "ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()"))
    yield
    if ours:
        asyncio.run(_execute(postgres_url, *_FLEETING))


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    """Name of a database with every service's schema and no rows."""
    with _database(postgres_url, "template0") as url:
        asyncio.run(_migrate(url))
        yield url.rpartition("/")[2]


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A new database with nothing in it."""
    with _database(postgres_url, "template0") as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A new database with every service's schema, gone after the test."""
    with _database(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def kafka_cluster() -> LocalKafka:
    """A real Kafka of one node, which all tests of a session share, in whatever process they run."""
    if (reason := no_kafka()) is not None:
        pytest.skip(reason)
    folder = Path(os.environ[KAFKA_FOLDER])
    with (folder / "lock").open("w") as lock:
        # Who comes first starts it; `pytest_unconfigure` ends it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = LocalKafka(folder / "kafka")
        if any(node.pid is None for node in cluster.nodes):
            # By a process that ends at once: a child of ours would be one that we leave behind.
            start = "import pathlib, sys, regulars.local_kafka as k; k.LocalKafka(pathlib.Path(sys.argv[1])).start()"
            subprocess.run([sys.executable, "-c", start, str(folder / "kafka")], cwd=ROOT, check=True)
    return cluster


@pytest.fixture
def kafka(kafka_cluster: LocalKafka) -> Iterator[Kafka]:
    """The cluster with topics of the test's own."""
    yield Kafka(servers=(kafka_cluster.servers(),), prefix=f"test-{os.getpid()}-{next(_numbers)}.")
    # What aiokafka has left open is found here, and not in a test that comes later.
    gc.collect()


def pytest_configure(config: pytest.Config) -> None:
    """The process that began the session chooses the folders, and those that it starts inherit them."""
    if not hasattr(config, "workerinput"):
        os.environ[KAFKA_FOLDER] = tempfile.mkdtemp(prefix="regulars-tests-kafka-")
        ended = ExitStack()
        os.environ[POSTGRES_FOLDER] = str(ended.enter_context(server_folder()))
        config.add_cleanup(ended.close)


def pytest_collection() -> None:
    """What is imported stays: to search it for garbage, here and every few tests, takes a fifth of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage, and what is not closed is found by it."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first, or one of several processes is busy with them when the others have nothing left."""
    items.sort(key=lambda item: not item.path.is_relative_to(PROPERTIES))
    # aiokafka may leave a connection open that one of its tasks is about to make while its client is closed.
    for item in items:
        if item.get_closest_marker("kafka") is not None:
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """All tests are over."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(KAFKA_FOLDER))
        LocalKafka(folder / "kafka").stop()
        shutil.rmtree(folder, ignore_errors=True)


def _service_database(schema: str) -> Any:
    async def open_database(database_url: str) -> AsyncIterator[Database]:
        database = Database(database_url, schema=schema)
        yield database
        await database.close()

    return pytest_asyncio.fixture(open_database)


ingest_db = _service_database("ingest")
profiles_db = _service_database("profiles")
metrics_db = _service_database("metrics")
messaging_db = _service_database("messaging")


@pytest.fixture
def clock_path(tmp_path: Path) -> Path:
    """File of the driven clock, for processes that a test starts."""
    return tmp_path / "clock"


@pytest.fixture
def clock(clock_path: Path) -> DrivenClock:
    """A clock that stands at START until the test sets it."""
    return DrivenClock.create(clock_path, START)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """The log of this test alone, whatever others have set."""
    root = logging.getLogger()
    handlers, level, before = list(root.handlers), root.level, structlog.get_config()
    configure_logging("debug")
    yield Lines(capsys)
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@contextmanager
def _database(server: str, template: str) -> Iterator[str]:
    name = f"regulars_test_{os.getpid()}_{next(_numbers)}"
    # Files are copied in half the time that it takes to log each of their pages.
    asyncio.run(_execute(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


def _cheap_password(url: str) -> tuple[str, str]:
    """Thousands of connections are made, and what makes a password hard to guess is half of what each of them takes."""
    given = make_url(url)
    return "SET scram_iterations = 1", f"ALTER ROLE {given.username} PASSWORD '{given.password}'"


async def _execute(server: str, *statements: str) -> None:
    connection = await asyncpg.connect(server)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    await run_migrations(url, access.SCHEMA, access.MIGRATIONS)
    for service in SERVICES:
        if (ROOT / "services" / service / "migrations" / "env.py").exists():
            await run_migrations(url, service, ROOT / "services" / service / "migrations")
