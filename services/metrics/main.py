"""The HTTP role of metrics."""

from pathlib import Path

from fastapi import FastAPI

from libs.common.clock import Clock, clock_from
from libs.common.db import Database
from libs.common.web import Service, build_app
from services.metrics.api import Metrics, router
from services.metrics.settings import CONSUMER, SCHEMA, MetricsSettings

MIGRATIONS = Path(__file__).with_name("migrations")


def service(settings: MetricsSettings, database: Database, clock: Clock) -> Service:
    """What this service adds to an app."""
    del settings  # its routes have nothing to choose
    return Service(
        name=SCHEMA,
        router=router,
        database=database,
        state=Metrics(database, clock),
        consumers=(CONSUMER,),
        migrations=MIGRATIONS,
    )


def create_app(settings: MetricsSettings) -> FastAPI:
    """The app of this service alone."""
    database = Database(settings.database_url, schema=SCHEMA, pool_size=settings.pool_size)
    clock = clock_from(settings.clock_path)
    return build_app([service(settings, database, clock)], settings=settings, clock=clock)
