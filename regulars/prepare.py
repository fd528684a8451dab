"""What must be there before anything runs: schemas and the first key. A process of its own in `regulars run`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from libs.common import access, auth
from libs.common.db import Database
from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.log.base import Halted
from libs.common.migrations import run_migrations
from libs.common.settings import CommonSettings
from libs.common.telemetry import configure_logging, get_logger
from regulars.parts import settings_told
from regulars.schemas import SERVICES, Unusable, connect, trees

log = get_logger(__name__)


@asynccontextmanager
async def database_at(database_url: str | None, data_dir: Path, *, made: bool = False) -> AsyncIterator[str]:
    """The given database, or that of the settings, or the embedded one: adopted, else started for as long as needed.

    `made`: Unusable when there is no embedded one yet, which would be made otherwise. Unusable, too, while it does not
    start, as when somebody else is just starting or stopping it.
    """
    with settings_told():
        url = database_url or named(CommonSettings())
    if url is not None:
        yield url
    elif made and not (data_dir / "postgres").exists():
        raise Unusable(f"there is no database in {data_dir}: name yours with --data-dir or --database-url")
    else:
        server = EmbeddedPostgres(data_dir)
        try:
            url = await server.start()
        except (RuntimeError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unusable(str(error) or f"the database in {data_dir} does not start") from error
        try:
            yield url
        finally:
            await server.stop()


def named(settings: CommonSettings) -> str | None:
    """The database that a setting or its file names; None when there is only the default."""
    return settings.database_url if "database_url" in settings.model_fields_set else None


async def migrate_all(url: str, services: Sequence[str] = SERVICES) -> None:
    """Brings the schemas of these services, and the one that all share, to their newest revision.

    Unusable, before anything is written, when the database cannot be reached or is too old.
    """
    await (await connect(url)).close()
    for schema, tree in trees(services):
        await run_migrations(url, schema, tree)


async def topics_fit(settings: CommonSettings, *, asked: bool = False) -> None:
    """Makes what Kafka has not of our topics. SystemExit when one is otherwise than it must be.

    Kafka being away is no reason not to start: webhooks are journalled all the same, and relays make topics too. Nor is
    a login that it does not take; but who has `asked` for just this is told so by SystemExit.
    """
    if settings.log != "kafka":
        return
    from libs.common.log.kafka_client import Kafka, KafkaAway, KafkaRefuses
    from libs.common.log.kafka_topics import make_topics

    try:
        for name in await make_topics(Kafka.from_settings(settings)):
            log.info("topic made", topic=name)
    except KafkaRefuses as error:
        log.critical("Kafka does not take what we ask", reason=str(error))
        if asked:
            raise SystemExit(1) from error
    except KafkaAway as error:
        log.warning("Kafka is away; starting all the same", error=str(error))
    except Halted as error:
        log.critical("Kafka's topics do not fit", reason=str(error))
        raise SystemExit(1) from error


async def prepare(settings: CommonSettings) -> None:
    """Migrates, and sees to the administrator's key; a new one is printed, this once."""
    await topics_fit(settings)
    await migrate_all(settings.database_url)
    database = Database(settings.database_url, schema=access.SCHEMA, pool_size=1)
    try:
        given = settings.admin_key
        await auth.set_admin_key(database, given.get_secret_value() if given else None)
        if not await auth.any_key(database):
            key = await auth.create_key(database, auth.DEFAULT_TENANT, [auth.EVERYTHING], "first key")
            print(f"admin key: {key}", flush=True)
    finally:
        await database.close()


def main() -> None:
    """`python -m regulars.prepare`: with the settings of the environment."""
    configure_logging("info")
    with settings_told():
        settings = CommonSettings()
    configure_logging(settings.log_level)
    asyncio.run(prepare(settings))


if __name__ == "__main__":
    main()
