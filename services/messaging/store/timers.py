"""Timers and runs: what is to be looked at when, and how far each run has come."""

from collections.abc import Sequence
from datetime import datetime

from libs.common.db import Tx
from services.messaging.rules import Run
from services.messaging.store.looks import Subject


async def claim(tx: Tx, now: datetime, limit: int) -> list[Subject]:
    """The timers that are due longest, for this transaction alone."""
    rows = await tx.pg.fetch(
        """
        SELECT tenant, flow, store, subject FROM timers WHERE due_at <= $1
        ORDER BY due_at, tenant, flow, store, subject LIMIT $2 FOR UPDATE SKIP LOCKED
        """,
        now,
        limit,
    )
    return [Subject(**dict(row)) for row in rows]


async def sleep(tx: Tx, until: Sequence[tuple[Subject, datetime]]) -> None:
    """Sets claimed timers to later looks."""
    if until:
        await tx.pg.execute(
            """
            UPDATE timers t SET due_at = u.due
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
                AS u(tenant, flow, store, subject, due)
            WHERE (t.tenant, t.flow, t.store, t.subject) = (u.tenant, u.flow, u.store, u.subject)
            """,
            *zip(*(subject for subject, _ in until), strict=True),
            [due for _, due in until],
        )


async def disarm(tx: Tx, subjects: Sequence[Subject]) -> None:
    """Takes claimed timers away; a later fact arms them again."""
    if subjects:
        await tx.pg.execute(
            """
            DELETE FROM timers t
            USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(tenant, flow, store, subject)
            WHERE (t.tenant, t.flow, t.store, t.subject) = (u.tenant, u.flow, u.store, u.subject)
            """,
            *zip(*subjects, strict=True),
        )


async def begin_or_advance(tx: Tx, runs: Sequence[tuple[Subject, Run]], now: datetime) -> None:
    """Writes runs as they are now: new ones, and those that came a step further. One that `ended` has said it all."""
    if runs:
        await tx.pg.execute(
            """
            INSERT INTO runs (tenant, flow, store, subject, run_key, version, account, began_at, step, ended_at, reason)
            SELECT tenant, flow, store, subject, run_key, version, account, began_at, step,
                   CASE WHEN ended THEN $11::timestamptz END, CASE WHEN ended THEN 'finished' END
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[],
                        $8::timestamptz[], $9::int[], $10::bool[])
                 AS u(tenant, flow, store, subject, run_key, version, account, began_at, step, ended)
            ON CONFLICT (tenant, flow, run_key) DO UPDATE
            SET step = excluded.step, ended_at = excluded.ended_at, reason = excluded.reason
            WHERE runs.ended_at IS NULL
            """,
            *zip(*(subject for subject, _ in runs), strict=True),
            [run.run_key for _, run in runs],
            [run.version for _, run in runs],
            [run.account for _, run in runs],
            [run.began_at for _, run in runs],
            [run.step for _, run in runs],
            [run.ended for _, run in runs],
            now,
        )


async def end(tx: Tx, runs: Sequence[tuple[str, str, str, str]], now: datetime) -> None:
    """Ends runs: tenant, flow, run key, reason. Those that have ended keep their first reason."""
    if runs:
        await tx.pg.execute(
            """
            UPDATE runs r SET ended_at = $5, reason = u.reason
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(tenant, flow, run_key, reason)
            WHERE (r.tenant, r.flow, r.run_key) = (u.tenant, u.flow, u.run_key) AND r.ended_at IS NULL
            """,
            *zip(*runs, strict=True),
            now,
        )
