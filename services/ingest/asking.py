"""How many jobs somebody may have open at one time: each takes its turns with all the others."""

from collections.abc import Sequence
from typing import Literal

from libs.common.db import Tx
from libs.common.problems import FieldError, Problem

MOST_OF_A_STORE = 5
MOST_OF_A_TENANT = 20

Jobs = Literal["replays", "backfills"]


async def alone(tx: Tx, jobs: Jobs, tenant: str) -> None:
    """Nobody else of the tenant asks for such a job until the end of the transaction: what is counted stays so."""
    await tx.pg.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{jobs} of {tenant}")


def admit(jobs: Jobs, stores: Sequence[str], store: str) -> None:
    """Problem 409 unless there may be one more of this store. `stores`: whose are those of the tenant that are open."""
    if stores.count(store) >= MOST_OF_A_STORE:
        raise _too_many(f"{MOST_OF_A_STORE} {jobs} of this store")
    if len(stores) >= MOST_OF_A_TENANT:
        raise _too_many(f"{MOST_OF_A_TENANT} {jobs} of all stores together")


def _too_many(most: str) -> Problem:
    detail = f"At most {most} may be open at one time: wait until one is at its end, or cancel one."
    return Problem(409, "too_many_open", detail, [FieldError("/store", f"At most {most}.")])
