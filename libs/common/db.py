"""PostgreSQL: one pool, one kind of transaction, two views of it.

`Tx.pg` is the raw asyncpg connection, for everything hot (unnest, COPY, one statement a table). `Tx.sql` is SQLAlchemy
on the same connection and in the same transaction, for composed API queries. SQLAlchemy runs in AUTOCOMMIT, so that
`Database.transaction` alone begins and ends transactions.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs.common.clock import monotonic
from libs.common.log.bell import ring
from libs.common.own_time import OwnTime

TRANSIENT_STATES = (
    "08",  # connection
    "40",  # serialisation failure, deadlock
    "53",  # out of disk, memory, connections
    "57P",  # shutdown, crash, cancelled by the operator
    "57014",  # statement timeout
    "55P03",  # lock timeout
    "58",  # I/O error
    "25006",  # read-only: a failover is under way
    "25P03",  # idle in transaction for too long
    "25P04",  # transaction took too long
)

OLDEST_POSTGRES = 17
"""It brought `transaction_timeout`, which ends who hangs in the midst of a statement."""
IDLE_IN_TRANSACTION = 10.0
"""Seconds; as long as a worker's lease: then another one has its partitions."""
LOCK_TIMEOUT = "30s"
"""Shorter than a transaction may last: who waits for others' locks is told so, and not that he took too long."""
LONGEST_TRANSACTION = "60s"
"""Who hangs between two messages of one statement counts as busy, not as idle: only this ends him."""

# Types of array that are always the same, by element: PostgreSQL's numbers for both (`pg_type.dat`).
_ARRAYS = {
    "bool": (1000, 16),
    "bytea": (1001, 17),
    "int2": (1005, 21),
    "int4": (1007, 23),
    "int8": (1016, 20),
    "float8": (1022, 701),
    "timestamptz": (1185, 1184),
    "date": (1182, 1082),
    "interval": (1187, 1186),
    "uuid": (2951, 2950),
    "jsonb": (3807, 3802),
}
_KNOWN_TYPES = [
    {
        "oid": array,
        "ns": "pg_catalog",
        "name": f"_{name}",
        "kind": b"b",
        "basetype": None,
        "elemtype": element,
        "elemtype_name": name,
        "elemdelim": ",",
        "range_subtype": None,
        "attrtypoids": None,
    }
    for name, (array, element) in _ARRAYS.items()
]


class TookTooLong(Exception):
    """The server ended a transaction that took longer than it may, by its own doing: transient, or poison."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it takes longer than {seconds:g} s")


@dataclass(frozen=True, slots=True)
class Tx:
    """An open transaction."""

    pg: "asyncpg.Connection[Any]"
    sql: AsyncConnection
    appended: set[str] = field(default_factory=set)
    """Topics appended to; their readers are woken after the commit."""
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Called, in order, once the transaction has committed."""
    own: OwnTime = field(default_factory=OwnTime)
    """Of the handler that works in it."""


LAST: ContextVar[Callable[[Tx], Awaitable[None]] | None] = ContextVar("last", default=None)
"""What each transaction of who sets it does last, before it commits: with its effects, or not at all."""


class Database:
    """A service's connections to its own schema."""

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        pool_size: int = 5,
        role: str | None = None,
        timeout: float = 10.0,
        idle: float = IDLE_IN_TRANSACTION,
    ) -> None:
        """`url` is `postgresql://…`. `role`: taken on by every connection. `timeout`: seconds to get a connection.

        `idle`: seconds that a transaction may let the server wait.
        """
        self.idle = idle
        self.url = make_url(url).set(drivername="postgresql+asyncpg")
        self.schema = schema
        server = {
            "search_path": schema,
            "application_name": f"regulars {schema}",
            "timezone": "UTC",
            "jit": "off",
            # Who hangs within a transaction (stopped, swapped out) must not keep others from its rows.
            "idle_in_transaction_session_timeout": f"{idle * 1000:.0f}ms",
            "lock_timeout": LOCK_TIMEOUT,
            "transaction_timeout": LONGEST_TRANSACTION,
        }
        if role is not None:
            server["role"] = role
        self._server = server
        self._engine: AsyncEngine = create_async_engine(
            self.url,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout,
            pool_reset_on_return=None,
            # Each connection costs the server some MB for the plans of what was asked there: few are kept busy.
            pool_use_lifo=True,
            connect_args={"server_settings": server, "timeout": timeout, "statement_cache_size": 512},
        )
        event.listen(self._engine.sync_engine, "connect", lambda dbapi, _: _tell_types(dbapi.driver_connection))

    @property
    def dsn(self) -> str:
        """The address as asyncpg takes it."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """READ COMMITTED, read-write. Commits at the end, rolls back when the body raises.

        Raises TookTooLong.
        """
        begun, own = None, OwnTime()
        try:
            async with self._begin("read_committed", readonly=False) as tx:
                begun, own = monotonic(), tx.own
                yield tx
                if (last := LAST.get()) is not None:
                    await last(tx)
        except Exception as error:
            # Clocks differ a little.
            if begun is None or monotonic() - begun < 0.9 * self.idle or not was_ended(error):
                raise
            if is_lengthy(own, self.idle) or has_run_out(error):
                raise TookTooLong(self.idle) from error
            raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Tx]:
        """REPEATABLE READ, read-only: several queries see one moment."""
        async with self._begin("repeatable_read", readonly=True) as tx:
            yield tx

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A connection on which each statement is a transaction of its own."""
        async with self._connection() as (_, pg):
            yield pg

    @asynccontextmanager
    async def _begin(
        self, isolation: Literal["read_committed", "repeatable_read"], *, readonly: bool
    ) -> AsyncIterator[Tx]:
        async with self._connection() as (sql, pg):
            tx = Tx(pg=pg, sql=sql)
            try:
                async with pg.transaction(isolation=isolation, readonly=readonly):
                    yield tx
                for call in tx.after_commit:
                    call()
            finally:
                # They hold on to the batch, and it to them: without a cut its megabytes wait for the garbage collector.
                tx.after_commit.clear()
            if tx.appended:
                # Committed already: a lost bell only delays the readers, who look for themselves each second.
                with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await ring(pg, tx.appended)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[AsyncConnection, "asyncpg.Connection[Any]"]]:
        async with self._engine.connect() as sql:
            pg = await _driver(sql)
            if pg.is_closed():  # the server went away while it lay in the pool
                await sql.invalidate()
                pg = await _driver(sql)
            try:
                yield sql, pg
            except asyncpg.InternalClientError:
                pg.terminate()
                raise
            finally:
                # A connection whose transaction did not end is of no use to the next one.
                if pg.is_closed() or pg.is_in_transaction():
                    await sql.invalidate()

    async def session(self) -> "asyncpg.Connection[Any]":
        """A connection of its own, outside the pool: for LISTEN and session locks. The caller closes it."""
        connection = await asyncpg.connect(self.dsn, timeout=10, command_timeout=10, server_settings=self._server)
        _tell_types(connection)
        return connection

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        async with self.reading() as tx:
            await tx.pg.fetchval("SELECT 1")

    async def close(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()


def _tell_types(pg: "asyncpg.Connection[Any]") -> None:
    """Or asyncpg asks for them, on each connection, by a query whose plan takes the server 2 MB."""
    pg.get_settings().register_data_types(_KNOWN_TYPES)


async def _driver(sql: AsyncConnection) -> "asyncpg.Connection[Any]":
    return cast("asyncpg.Connection[Any]", (await sql.get_raw_connection()).driver_connection)


def cause_of(error: BaseException) -> BaseException:
    """What the driver said, of an error that SQLAlchemy has wrapped."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def is_lengthy(own: OwnTime, idle: float) -> bool:
    """Whether it is its own doing that the server had to wait for so long: others may have kept it waiting, too.

    By half, since the handler is not all that works for a record.
    """
    return own.seconds >= idle / 2


def has_run_out(error: BaseException | None) -> bool:
    """Whether the server has ended the transaction since it lasted too long.

    asyncpg tells last that the connection is closed, before it that it was closed in the middle, and first why.
    """
    while error is not None:
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == "25P04":
            return True
        error = error.__cause__ or error.__context__
    return False


def was_ended(error: BaseException) -> bool:
    """Whether it may say that the server has ended a transaction for its length: often only that a connection is gone.

    A server that is stopped says so; one that is away refuses; locks, memory and disks have reasons of their own.
    """
    error = cause_of(error)
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(("08", "25P03", "25P04"))
    if isinstance(error, asyncpg.InterfaceError):
        return is_transient(error)
    return isinstance(error, (ConnectionResetError, BrokenPipeError, asyncpg.InternalClientError, TookTooLong))


def is_transient(error: BaseException) -> bool:
    """Whether to wait and try again: the database is away, busy or gave up a lock; never a fault of the data."""
    error = cause_of(error)
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(TRANSIENT_STATES)
    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in str(error)  # "connection is closed", "was closed in the middle of operation"
    # InternalClientError: the connection was lost in the middle of asyncpg's own exchange.
    return isinstance(error, (OSError, TimeoutError, PoolTimeoutError, asyncpg.InternalClientError, TookTooLong))
