"""Profiles' HTTP role."""

from pathlib import Path

from fastapi import FastAPI

from libs.common.clock import Clock, clock_from
from libs.common.db import Database
from libs.common.web import Service, build_app
from services.profiles.api import router
from services.profiles.settings import CONSUMER, SCHEMA, ProfilesSettings

MIGRATIONS = Path(__file__).with_name("migrations")


def service(settings: ProfilesSettings, database: Database, clock: Clock) -> Service:
    """Profiles, to be put behind an address."""
    del settings, clock  # other services need them; here answers depend on the rows alone
    return Service(
        name=SCHEMA,
        router=router,
        database=database,
        state=database,
        consumers=(CONSUMER,),
        migrations=MIGRATIONS,
    )


def create_app(settings: ProfilesSettings) -> FastAPI:
    """Profiles alone."""
    clock = clock_from(settings.clock_path)
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    return build_app([service(settings, database, clock)], settings=settings, clock=clock)
