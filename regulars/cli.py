"""`regulars`: the command. Each command imports what it needs when it runs, so that all of them start fast."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from regulars.connect import connect
from regulars.dead_letters import app as dead_letters
from regulars.integrating import send, tail
from regulars.keys import app as keys
from regulars.options import DatabaseUrl, DataDir
from regulars.replay import replay
from regulars.simulating import shop

app = typer.Typer(
    name="regulars",
    help="From a shop's signed webhook to a returning customer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config = typer.Typer(help="Settings.", no_args_is_help=True)
positions = typer.Typer(help="How far each consumer has read.", no_args_is_help=True)
partitions = typer.Typer(help="How wide a topic is: as many workers share it.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(config, name="config")
app.add_typer(positions, name="positions")
app.add_typer(partitions, name="partitions")
app.add_typer(dead_letters, name="dead-letters")
app.command()(connect)
app.command()(replay)
app.command()(send)
app.command()(shop)
app.command()(tail)


class ServiceName(StrEnum):
    """The four services."""

    ingest = "ingest"
    profiles = "profiles"
    metrics = "metrics"
    messaging = "messaging"


class LogName(StrEnum):
    """The two logs."""

    postgres = "postgres"
    kafka = "kafka"


class TopicName(StrEnum):
    """The topics."""

    journal = "journal"
    commerce = "commerce"
    customers = "customers"
    messages = "messages"


OnlyServices = Annotated[list[ServiceName] | None, typer.Option("--service", help="Only this one; may be given again.")]


@app.command()
def run(
    *,
    data_dir: DataDir = Path("var"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8080,
    database_url: DatabaseUrl = None,
    api_processes: Annotated[int, typer.Option(min=1, help="Processes that answer HTTP.")] = 1,
    worker_processes: Annotated[int, typer.Option(min=1, help="Processes that run all workers.")] = 1,
    log: Annotated[
        LogName, typer.Option(envvar="REGULARS_LOG", help="kafka: that of REGULARS_KAFKA_SERVERS.")
    ] = LogName.postgres,
) -> None:
    """Runs everything: embedded PostgreSQL, the API, the workers. Ends with code 0 on SIGTERM, drained."""
    from regulars.run import Options
    from regulars.run import run as run_all

    options = Options(data_dir.absolute(), host, port, database_url, api_processes, worker_processes, log.value)
    raise typer.Exit(asyncio.run(run_all(options)))


@app.command()
def demo(
    *,
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop, day and message.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Simulated days.")] = 90,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running at the end.")] = False,
    log: Annotated[LogName, typer.Option(help="kafka: on a Kafka of its own, from Maven.")] = LogName.postgres,
    at: Annotated[str | None, typer.Option(help="Address of an installation on the clock REGULARS_CLOCK_PATH.")] = None,
    mail_port: Annotated[int, typer.Option(min=1, max=65535, help="Where that one sends its mail to.")] = 1025,
) -> None:
    """Runs everything against a simulated shop and compares with the shop's own truth."""
    from libs.common.settings import CommonSettings
    from regulars.demo import main as run_demo
    from regulars.demo.elsewhere import Elsewhere

    elsewhere = Elsewhere.from_settings(CommonSettings(), at, mail_port) if at else None
    raise typer.Exit(run_demo(seed=seed, days=days, keep=keep, on_kafka=log is LogName.kafka, at=elsewhere))


@app.command()
def serve(
    service: ServiceName,
    *,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="REGULARS_LISTEN_HOST, 127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="REGULARS_LISTEN_PORT, 8080")] = None,
) -> None:
    """Runs one service's HTTP role. Ends with code 0 on SIGTERM, drained; with 3 where it cannot begin."""
    from regulars.roles import serve_one

    serve_one(service.value, host, port)


@app.command()
def work(service: ServiceName) -> None:
    """Runs one service's worker role; tells how it is where REGULARS_LISTEN_PORT says. Ends on SIGTERM, drained."""
    from regulars.roles import work_one

    work_one(service.value)


@app.command()
def relay(
    *, service: Annotated[list[ServiceName] | None, typer.Option(help="Only this one; may be given again.")] = None
) -> None:
    """Ships the services' logs from PostgreSQL to Kafka (REGULARS_LOG=kafka)."""
    from regulars.roles import relay as run_relays

    run_relays([name.value for name in service or ServiceName])


@app.command()
def migrate(
    *,
    service: Annotated[list[ServiceName] | None, typer.Option(help="Only this one; may be given again.")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Brings the services' schemas to the newest revision, and makes Kafka's topics (REGULARS_LOG=kafka)."""
    from libs.common.settings import CommonSettings
    from libs.common.telemetry import configure_logging
    from regulars.parts import settings_told
    from regulars.prepare import database_at, migrate_all, topics_fit
    from regulars.schemas import Unusable

    configure_logging("info")
    with settings_told():
        settings = CommonSettings()

    async def migrating() -> None:
        await topics_fit(settings, asked=True)
        async with database_at(database_url, data_dir) as url:
            await migrate_all(url, [name.value for name in service or ServiceName])

    try:
        asyncio.run(migrating())
    except Unusable as error:
        print(f"regulars migrate: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


@config.command("check")
def check_config() -> None:
    """Says what is wrong with the settings of this environment, by name."""
    import os

    from regulars.wrong_settings import unknown_settings, wrong_key_file, wrong_settings

    wrong = wrong_settings() or wrong_key_file()
    for setting, reason in wrong.items():
        print(f"{setting}: {reason}")
    unknown = unknown_settings(os.environ)
    for setting in unknown:
        print(f"{setting}: nothing reads it; is it misspelt?")
    if wrong:
        raise typer.Exit(1)
    if not unknown:
        print("settings are in order")


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Looks at everything, changes nothing, and says what to do next. Ends with code 1 when something has failed."""
    from regulars.doctor.report import report

    raise typer.Exit(report(database_url, data_dir.absolute(), as_json=as_json))


@positions.command("show")
def show_positions(
    *, service: OnlyServices = None, database_url: DatabaseUrl = None, data_dir: DataDir = Path("var")
) -> None:
    """One line a partition: consumer, topic[partition], offset of the next record, when it last moved."""
    from regulars.standing import positions as standing

    _tell(standing, service, database_url, data_dir)


@positions.command("reset-after-restore")
def reset_after_restore(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """After PostgreSQL was restored: makes positions fit its log, and deletes Kafka's topics. All roles are stopped."""
    from regulars.restored import reset
    from regulars.schemas import Unusable

    try:
        lines = asyncio.run(reset(database_url, data_dir, dry_run=dry_run))
    except Unusable as error:
        print(f"regulars positions reset-after-restore: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print("\n".join(lines or ["nothing to do"]))


@app.command()
def leases(*, service: OnlyServices = None, database_url: DatabaseUrl = None, data_dir: DataDir = Path("var")) -> None:
    """Whose each partition is: a line a worker with its state, then the partitions that nobody holds."""
    from regulars.standing import leases as standing

    _tell(standing, service, database_url, data_dir)


@partitions.command("grow")
def grow_partitions(
    *,
    topic: Annotated[TopicName, typer.Option(help="Which.")],
    to: Annotated[int, typer.Option(min=1, max=4096, help="Partitions then: a multiple of those that it has.")],
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Gives a topic more partitions, while everything runs. Each key keeps its order; there is no way back."""
    from libs.common.log.growth import Unfit
    from regulars.growing import grow
    from regulars.schemas import Unusable

    try:
        before = asyncio.run(grow(topic.value, to, database_url, data_dir))
    except (Unfit, Unusable) as error:
        print(f"regulars partitions grow: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{topic.value}: {to} partitions, {before} before; workers take the new ones within ten seconds")


def _tell(
    standing: Callable[[str, Sequence[str]], Coroutine[Any, Any, list[str]]],
    services: list[ServiceName] | None,
    url: str | None,
    data_dir: Path,
) -> None:
    from asyncpg import PostgresError

    from libs.common.embedded_postgres import EmbeddedPostgres
    from libs.common.settings import CommonSettings
    from regulars.parts import settings_told
    from regulars.prepare import named

    with settings_told():
        at = url or named(CommonSettings()) or EmbeddedPostgres(data_dir).running()
    if at is None:
        print(
            f"no embedded PostgreSQL runs in {data_dir}: name yours with --data-dir or --database-url", file=sys.stderr
        )
        raise typer.Exit(1)
    try:
        lines = asyncio.run(standing(at, [name.value for name in services or ServiceName]))
    except (OSError, PostgresError) as error:
        print(f"the database does not tell ({type(error).__name__}): see regulars doctor", file=sys.stderr)
        raise typer.Exit(1) from error
    print("\n".join(lines))


@app.command()
def docs(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only say what is not up to date.")] = False,
    accept_breaking: Annotated[bool, typer.Option("--accept-breaking", help="Write even what breaks readers.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the pages are.")] = Path("docs"),
) -> None:
    """Writes the generated pages: contracts, AsyncAPI, OpenAPI, settings, KPIs, events, flows."""
    from regulars.docs import breaks, stale, write

    problems = list(stale(folder) if check else breaks(folder))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and not accept_breaking:
        raise typer.Exit(1)
    if not check:
        write(folder)


@app.command()
def version() -> None:
    """Prints the version."""
    print(f"regulars {version_of('regulars')}")


def _version_asked(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    *,
    _: Annotated[bool, typer.Option("--version", callback=_version_asked, is_eager=True, help="Prints it.")] = False,
) -> None:
    """What the command has without any of its own."""


def main() -> None:
    """The console script."""
    app()
