"""`regulars doctor` on real databases: a healthy installation, and one for each thing that may be wrong with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from libs.common.clock import SystemClock
from libs.common.contracts.topics import COMMERCE
from libs.common.crypto import KEY_FILE, Keyring, new_key
from libs.common.db import Database
from libs.common.log.postgres import PostgresLog, append
from libs.common.settings import CommonSettings
from libs.common.worker import Worker
from regulars.cli import app
from regulars.doctor import CHECKS, Finding, examine
from regulars.doctor.report import report
from regulars.standing import leases, positions
from services.ingest.settings import IngestSettings
from services.ingest.work import worker as ingest
from services.messaging.settings import MessagingSettings
from services.messaging.work import worker as messaging
from services.metrics.settings import MetricsSettings
from services.metrics.work import worker as metrics
from services.profiles.settings import ProfilesSettings
from services.profiles.work import worker as profiles
from tests.contract.logs import event

pytestmark = pytest.mark.usefixtures("durable")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    Keyring.from_settings(CommonSettings(data_dir=tmp_path))
    return tmp_path


@asynccontextmanager
async def all_working(url: str, data_dir: Path) -> AsyncIterator[None]:
    """The four workers, each with its partitions."""
    databases = {
        name: Database(url, schema=name, pool_size=2) for name in ("ingest", "profiles", "metrics", "messaging")
    }
    logs = {name: PostgresLog(database) for name, database in databases.items()}
    clock = SystemClock()
    working: list[Worker] = [
        ingest(IngestSettings(), databases["ingest"], clock, logs["ingest"]),
        profiles(ProfilesSettings(), databases["profiles"], clock, logs["profiles"]),
        metrics(MetricsSettings(), databases["metrics"], clock, logs["metrics"]),
        messaging(MessagingSettings(data_dir=data_dir), databases["messaging"], clock, logs["messaging"]),
    ]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for worker in working:
            group.create_task(worker.run(stop))
        try:
            for worker in working:
                await worker.joined.wait()
            yield
        finally:
            stop.set()
    for name, database in databases.items():
        await logs[name].close()
        await database.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def of(findings: list[Finding], check: str, level: str = "failed") -> list[str]:
    return [finding.detail for finding in findings if finding.check == check and finding.level == level]


def amiss(findings: list[Finding]) -> list[Finding]:
    # How full this machine's disk is, and whether mail leaves it, is no affair of the product.
    return [finding for finding in findings if finding.level != "ok" and finding.check not in {"disk", "mail"}]


async def test_healthy(database_url: str, data_dir: Path) -> None:
    async with all_working(database_url, data_dir):
        findings = await examine(database_url, data_dir)
    assert amiss(findings) == []
    subjects = {finding.check for finding in findings}
    assert subjects >= {
        "settings",
        "secret key",
        "database",
        "clocks",
        "schemas",
        "workers",
        "lag",
        "messages",
        "stores",
    }


async def test_mail_that_nobody_takes_or_may_answer_to(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = [each for each in CHECKS if each.name == "mail"]
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("REGULARS_SMTP_PORT", str(port))
    async with server:
        found = await examine(None, data_dir, (check,))
        assert of(found, "mail", "warning") == [
            "it comes from shop@regulars.example",
            "its links lead to http://127.0.0.1:8080",
            "it names no postal address where a store has none",
        ]
        monkeypatch.setenv("REGULARS_MAIL_FROM", "hello@shop.test")
        monkeypatch.setenv("REGULARS_PUBLIC_URL", "https://regulars.shop.test")
        monkeypatch.setenv("REGULARS_POSTAL_ADDRESS", "Shop, Street 1, Town")
        assert of(await examine(None, data_dir, (check,)), "mail", "ok") == [f"127.0.0.1:{port} answers"]
    assert of(await examine(None, data_dir, (check,)), "mail", "warning") == [f"no relay answers at 127.0.0.1:{port}"]


async def test_nobody_works(database_url: str, data_dir: Path) -> None:
    found = amiss(await examine(database_url, data_dir))
    assert {finding.detail for finding in found} == {
        f"nobody runs {consumer}" for consumer in ("normalise", "profiles", "metrics", "messaging")
    }
    assert "`regulars work ingest`" in found[0].next_step


RELAY_AT_WORK = "INSERT INTO {}.workers VALUES ('relay', 'r', now() + interval '1 h', 'running', NULL)"


async def test_kafka_is_away_and_all_else_is_told(
    database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with all_working(database_url, data_dir):
        monkeypatch.setenv("REGULARS_LOG", "kafka")
        monkeypatch.setenv("REGULARS_KAFKA_SERVERS", "127.0.0.1:1")
        await execute(database_url, RELAY_AT_WORK.format("profiles"))
        findings = await examine(database_url, data_dir)
    assert len(of(findings, "kafka")) == 1
    assert {told.split(":")[0] for told in of(findings, "workers", "ok")} >= {
        "normalise", "profiles", "metrics", "messaging", "relay"
    }  # fmt: skip
    assert of(findings, "workers") == ["nobody runs relay"] * 2
    assert {f.next_step for f in findings if f.detail == "nobody runs relay"} == {
        "start `regulars relay` (or `regulars run`)"
    }
    assert "normalise on journal: 0 behind, the oldest for 0 s" in of(findings, "lag", "ok")
    assert of(findings, "lag", "warning") == [
        f"{consumer}: not known, Kafka does not answer"
        for consumer in (
            "profiles on commerce", "profiles on messages",
            "metrics on customers", "metrics on messages", "messaging on customers",
        )
    ]  # fmt: skip


async def test_a_line_on_kafka_that_this_shell_knows_nothing_of(database_url: str, data_dir: Path) -> None:
    async with all_working(database_url, data_dir):
        assert of(await examine(database_url, data_dir), "kafka", "ok") == ["not in use (REGULARS_LOG)"]
        for service in ("ingest", "profiles", "messaging"):
            await execute(database_url, RELAY_AT_WORK.format(service))
        findings = await examine(database_url, data_dir)
    (kafka,) = [finding for finding in findings if finding.check == "kafka"]
    assert kafka.level == "warning"
    assert "REGULARS_LOG" in kafka.next_step
    assert of(findings, "workers") == []
    assert "profiles on commerce: not known, these settings do not name Kafka" in of(findings, "lag", "warning")


async def test_a_relay_that_is_behind(database_url: str, data_dir: Path) -> None:
    await execute(
        database_url,
        RELAY_AT_WORK.format("ingest"),
        "INSERT INTO ingest.positions (consumer, topic, partition) VALUES ('relay', 'commerce', 0)",
    )
    database = Database(database_url, schema="ingest", pool_size=1)
    async with database.transaction() as tx:
        await append(tx, COMMERCE, [event(f"key {n}") for n in range(50)])
        await tx.pg.execute("UPDATE log_commerce SET appended_at = now() - interval '5 min'")
    await database.close()
    findings = await examine(database_url, data_dir)
    (told,) = [finding for finding in findings if finding.detail.startswith("relay on commerce: 50 behind")]
    assert told.level == "warning"
    assert "RelayBehind" in told.next_step


async def test_mail_settings_are_looked_at_where_they_are(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = [each for each in CHECKS if each.name == "mail"]
    (told,) = await examine(None, data_dir, (check,))
    assert told.level == "ok"
    assert "`regulars run` or `regulars work messaging`" in told.detail
    monkeypatch.setenv("REGULARS_MAIL_FROM", "hello@shop.test")
    assert of(await examine(None, data_dir, (check,)), "mail", "warning")


def test_every_command_finds_the_database_that_a_file_names(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "database_url").write_text(database_url, encoding="utf-8")
    monkeypatch.delenv("REGULARS_DATABASE_URL", raising=False)
    monkeypatch.setenv("REGULARS_DATABASE_URL_FILE", str(tmp_path / "database_url"))
    for words in (["leases"], ["positions", "show"], ["keys", "list"], ["doctor"]):
        told = CliRunner().invoke(app, [*words, "--data-dir", str(tmp_path / "none")])
        assert "no embedded PostgreSQL" not in told.output, words
        assert told.exit_code == (1 if words == ["doctor"] else 0), (words, told.output)


async def test_a_halted_consumer_and_its_reason(database_url: str, data_dir: Path) -> None:
    async with all_working(database_url, data_dir):
        await execute(
            database_url,
            "INSERT INTO profiles.workers VALUES ('profiles', 'another', now() + interval '1 h', 'halted',"
            " 'commerce[3] goes on at 7, not at 5: records are missing')",
        )
        findings = await examine(database_url, data_dir)
    assert "profiles is halted: commerce[3] goes on at 7, not at 5: records are missing" in of(findings, "workers")


async def test_mail_that_is_late(database_url: str, data_dir: Path) -> None:
    (check,) = [each for each in CHECKS if each.name == "messages"]

    def message(minutes: int, state: str = "planned") -> str:
        return (
            "INSERT INTO messaging.messages (tenant, id, flow, version, step, run_key, recipient, store, subject,"
            f" account, profile, channel, transactional, state, due_at, created_at) VALUES ('default', '{minutes}',"
            f" 'f', 1, 1, '{minutes}', '', 's', 't', 'a', 'p', 'email', false, '{state}',"
            f" now() - interval '{minutes} min', now())"
        )

    await execute(database_url, message(1), message(60, "held"))
    assert amiss(await examine(database_url, data_dir, (check,))) == []
    await execute(
        database_url,
        message(10),
        "INSERT INTO messaging.timers VALUES ('default', 'f', 's', 't', now() - interval '6 min')",
    )
    found = amiss(await examine(database_url, data_dir, (check,)))
    assert [each.level for each in found] == ["warning"] * 2
    assert [each.detail.split(",")[0] for each in found] == ["1 timers due", "2 messages due"]
    assert all("MessagesOverdue" in each.next_step for each in found)


async def test_mail_that_the_relay_did_not_take_is_told_at_once(database_url: str, data_dir: Path) -> None:
    (check,) = [each for each in CHECKS if each.name == "messages"]
    await execute(
        database_url,
        "INSERT INTO messaging.messages (tenant, id, flow, version, step, run_key, recipient, store, subject, account,"
        " profile, channel, transactional, state, reason, due_at, created_at) VALUES ('default', '1', 'f', 1, 1, '1',"
        " '', 's', 't', 'a', 'p', 'email', false, 'planned', 'provider_away', now(), now())",
    )
    (told,) = amiss(await examine(database_url, data_dir, (check,)))
    assert (told.level, told.detail) == ("warning", "1 wait: the mail relay did not take them")
    assert "MailRelayFailing" in told.next_step


async def test_whose_each_partition_is(database_url: str, data_dir: Path) -> None:
    async with all_working(database_url, data_dir):
        held = await leases(database_url, ["profiles"])
        read = await positions(database_url, ["profiles", "metrics"])
    (line,) = held
    assert " running: commerce[0] commerce[1]" in line
    assert len(read) == 32
    assert read[0].startswith("profiles commerce[0] 0 2")
    (line,) = await leases(database_url, ["messaging"])
    assert line.startswith("messaging nobody: customers[0] ")


async def test_an_old_revision_a_new_one_and_none(database_url: str, data_dir: Path) -> None:
    await execute(
        database_url,
        "DELETE FROM ingest.alembic_version",
        "UPDATE metrics.alembic_version SET version_num = 'metrics_9999'",
        "DROP TABLE profiles.alembic_version",
    )
    findings = await examine(database_url, data_dir)
    steps = {f.detail.split()[0]: f.next_step for f in findings if f.check == "schemas" and f.level == "failed"}
    assert steps.keys() == {"ingest", "metrics", "profiles"}
    assert steps["ingest"] == steps["profiles"] == "`regulars migrate`"
    assert "older" in steps["metrics"]


async def test_before_the_first_migration(empty_database_url: str, data_dir: Path) -> None:
    findings = await examine(empty_database_url, data_dir)
    assert len(of(findings, "schemas")) == 5
    assert {finding.check for finding in amiss(findings)} == {"schemas"}


async def test_database_away(database_url: str, data_dir: Path) -> None:
    away = make_url(database_url).set(port=1).render_as_string(hide_password=False)
    findings = await examine(away, data_dir)
    assert of(findings, "database") == ["does not answer: ConnectionRefusedError"]
    assert {finding.check for finding in findings} == {"settings", "secret key", "disk", "mail", "database", "kafka"}


async def test_no_embedded_database_runs_and_none_is_started(tmp_path: Path) -> None:
    findings = await examine(None, tmp_path)
    assert len(of(findings, "database")) == 1
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_another_key_than_the_stores_were_sealed_with(database_url: str, data_dir: Path) -> None:
    sealed = Keyring.from_settings(CommonSettings(data_dir=data_dir)).seal(b"of a shop", b"anything").hex()
    await execute(
        database_url,
        "INSERT INTO ingest.stores (tenant, key, platform, domain, name, currency, timezone, consent, secrets, version,"
        " created_at, updated_at) VALUES ('default', 'k', 'shopify', 'a.example', 'a', 'EUR', 'UTC', 'explicit',"
        f" ARRAY['\\x{sealed}'::bytea], 1, now(), now())",
    )
    assert of(await examine(database_url, data_dir), "stores", "ok") == [
        "1 registered, their secrets open with this key"
    ]
    (data_dir / KEY_FILE).write_text(new_key())
    assert of(await examine(database_url, data_dir), "stores") == [
        "1 of 1 stores have a secret that this key does not open"
    ]


async def test_wrong_and_unknown_settings_by_name(
    database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGULARS_SMTP_PORT", "mail")
    monkeypatch.setenv("REGULARS_SMPT_HOST", "mail.example")
    findings = await examine(database_url, data_dir)
    assert [detail.split(":")[0] for detail in of(findings, "settings")] == ["REGULARS_SMTP_PORT"]
    assert of(findings, "settings", "warning") == ["REGULARS_SMPT_HOST is read by nothing"]


def test_report_for_machines(database_url: str, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(database_url, data_dir, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert all({*finding} == {"check", "level", "detail", "next_step"} for finding in told["findings"])
    assert all(finding["next_step"] for finding in told["findings"] if finding["level"] != "ok")


def test_one_warning_is_no_warnings(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGULARS_SMPT_HOST", "mail.example")
    report("postgresql://nobody@127.0.0.1:1/none", data_dir, as_json=False)
    told = capsys.readouterr().out.splitlines()
    warnings = sum(line.startswith("WARNING") for line in told)
    assert f" {warnings} warning{'s' if warnings != 1 else ''}, " in told[-1]
