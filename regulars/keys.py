"""`regulars keys`: who may call the API. Works in the database itself, so that it needs no key."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from regulars.options import DatabaseUrl, DataDir

if TYPE_CHECKING:
    from libs.common.db import Database

T = TypeVar("T")
app = typer.Typer(help="API keys.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose data the key opens.")]
DEFAULT = "default"


@app.command("create")
def create(
    *,
    tenant: Tenant = DEFAULT,
    scope: Annotated[
        list[str] | None, typer.Option(help="May be given again; `*` is every scope.", show_default="*")
    ] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "created by regulars keys create",
    expires: Annotated[
        datetime | None, typer.Option(help="From when on it opens nothing (UTC).", show_default="never")
    ] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Makes an API key and prints it: nobody can see it again."""
    from datetime import UTC

    from libs.common import auth

    if not re.fullmatch(auth.TENANT, tenant):
        print(f"--tenant: not a tenant's name, which is letters, digits and `._-`: {tenant!r}", file=sys.stderr)
        raise typer.Exit(2)
    unknown = sorted({*(scope or ())} - auth.SCOPES - {auth.EVERYTHING})
    if unknown:
        print(
            f"--scope: no such scope: {', '.join(unknown)}. Known: *, {', '.join(sorted(auth.SCOPES))}", file=sys.stderr
        )
        raise typer.Exit(2)
    until = expires.replace(tzinfo=UTC) if expires else None
    key = _with_keys(
        lambda database: auth.create_key(database, tenant, scope or [auth.EVERYTHING], name, until),
        database_url,
        data_dir,
    )
    print(key)


@app.command("list")
def list_all(*, tenant: Tenant = DEFAULT, database_url: DatabaseUrl = None, data_dir: DataDir = Path("var")) -> None:
    """One line for each key of a tenant: id, state, since when, scopes, name."""
    from libs.common import auth
    from libs.common.clock import SystemClock

    now = SystemClock().now()
    for key in _with_keys(lambda database: auth.list_keys(database, tenant), database_url, data_dir):
        gone = key.revoked_at or (key.expires_at if key.expires_at and key.expires_at <= now else None)
        state = "live" if gone is None else f"{'revoked' if key.revoked_at else 'expired'} {gone:%Y-%m-%dT%H:%MZ}"
        print(f"{key.id}  {state}  created {key.created_at:%Y-%m-%dT%H:%MZ}  {','.join(key.scopes)}  {key.name}")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `regulars keys list` shows it; the middle part of the key.")],
    *,
    tenant: Tenant = DEFAULT,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Ends a key, everywhere within 30 seconds."""
    from libs.common import auth

    if not _with_keys(lambda database: auth.revoke_key(database, tenant, key_id), database_url, data_dir):
        print(f"tenant {tenant} has no live key {key_id}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{key_id} ends: whoever has used it just now may go on for 30 seconds")


@app.command("rotate")
def rotate(*, database_url: DatabaseUrl = None, data_dir: DataDir = Path("var")) -> None:
    """Puts a new key in front of those that seal stores' secrets, and seals all of them anew. While everything runs.

    With REGULARS_SECRET_KEY it makes none: put yours in front there, in all services, and call this then. Keys of
    before go on to verify the links in mail that was sent; take them out when those may stop to work.
    """
    from libs.common.crypto import KEY_FILE, BadSeal, Keyring, add_key
    from libs.common.settings import CommonSettings
    from services.ingest.resealing import reseal

    async def working(database: "Database") -> tuple[int, int]:
        settings = CommonSettings().model_copy(update={"data_dir": data_dir})
        if settings.secret_key is None:
            try:
                add_key(data_dir)
            except FileNotFoundError:
                raise Unusable(f"there is no {KEY_FILE} in {data_dir}: name yours with --data-dir") from None
            except OSError as error:
                raise Unusable(str(error)) from None
        try:
            return await reseal(database, Keyring.from_settings(settings))
        except BadSeal as error:
            raise Unusable(f"a secret was {error}: put the key of before behind the others") from error

    from regulars.schemas import Unusable

    secrets, credentials = _with_keys(working, database_url, data_dir, schema="ingest")
    print(f"sealed anew: the secrets of {secrets} stores, the credentials of {credentials}")


def _with_keys(
    doing: Callable[["Database"], Awaitable[T]], url: str | None, data_dir: Path, *, schema: str | None = None
) -> T:
    from asyncpg import UndefinedTableError

    from libs.common import access
    from libs.common.crypto import BadKeyFile
    from libs.common.db import Database, is_transient
    from libs.common.telemetry import configure_logging
    from regulars.prepare import database_at
    from regulars.schemas import Unusable, connect

    configure_logging("warning")

    async def working() -> T:
        async with database_at(url, data_dir, made=True) as at:
            await (await connect(at)).close()
            database = Database(at, schema=schema or access.SCHEMA, pool_size=1)
            try:
                return await doing(database)
            except UndefinedTableError:
                raise Unusable("the database is not prepared: `regulars migrate`") from None
            except Exception as error:
                if not is_transient(error):
                    raise
                raise Unusable("the database went away meanwhile: try again") from error
            finally:
                await database.close()

    try:
        return asyncio.run(working())
    except (BadKeyFile, Unusable) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
