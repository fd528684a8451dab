"""The list of checks, and how they are asked."""

import asyncio
import os
from pathlib import Path

import asyncpg

from libs.common.embedded_postgres import EmbeddedPostgres
from libs.common.settings import CommonSettings
from regulars.doctor import database, machine, pipeline
from regulars.doctor.finding import Check, Finding, Ground
from regulars.prepare import named
from regulars.wrong_settings import wrong_settings

PATIENCE_SECONDS = 20.0

CHECKS = (
    Check("settings", machine.settings, needs_database=False),
    Check("secret key", machine.secret_key, needs_database=False),
    Check("disk", machine.disk, needs_database=False),
    Check("mail", machine.mail, needs_database=False),
    Check("database", database.server),
    Check("clocks", database.clocks),
    Check("schemas", database.schemas),
    Check("kafka", pipeline.topics, needs_database=False),
    Check("stores", database.sealed, needs_schemas=True),
    Check("workers", pipeline.workers, needs_schemas=True),
    Check("dead letters", pipeline.dead_letters, needs_schemas=True),
    Check("messages", pipeline.messages, needs_schemas=True),
)
"""In the order in which they are told: what others stand on comes first."""


async def examine(url: str | None, data_dir: Path, checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    """Every check's findings. `url`: None for the embedded database, which is looked for and not started."""
    settings = None if wrong_settings() else CommonSettings()
    found: list[Finding] = []
    at = url or (named(settings) if settings is not None else None) or _embedded(data_dir)
    reachable = None
    if at is None:
        step = f"start it: `regulars run --data-dir {os.fspath(data_dir)}`; or name yours: --data-dir or --database-url"
        reachable = Finding("database", "failed", f"no embedded PostgreSQL runs in {data_dir}", step)
    ground = Ground(settings, data_dir, at or "")
    if at is not None:
        reachable = await _reached(ground)
    missing = False
    for check in checks:
        if check.needs_database and reachable is not None:
            if reachable not in found:
                found.append(reachable)
        elif not (check.needs_schemas and missing):
            findings = await _asked(check, ground)
            found += findings
            missing = missing or any(one.check == "schemas" and one.level == "failed" for one in findings)
    return found


def _embedded(data_dir: Path) -> str | None:
    try:
        return EmbeddedPostgres(data_dir).running()
    except OSError:
        return None


async def _reached(ground: Ground) -> Finding | None:
    try:
        async with database.connected(ground.url) as pg:
            await pg.fetchval("SELECT 1")
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        step = "is the server up, its address right (REGULARS_DATABASE_URL), its network open, the password right?"
        return Finding("database", "failed", f"does not answer: {type(error).__name__}", step)
    return None


async def _asked(check: Check, ground: Ground) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await check.look(ground)
    except TimeoutError:
        step = "see what holds it up: pg_stat_activity, the server's log"
        return [Finding(check.name, "failed", f"no answer in {PATIENCE_SECONDS:g} s", step)]
    except Exception as error:  # noqa: BLE001 (a check that breaks is what somebody wanted to know)
        told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no words'}"[:300]
        return [Finding(check.name, "failed", told, "look into this first, then ask again")]
