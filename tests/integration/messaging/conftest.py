"""A world for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.common.clock import DrivenClock
from libs.common.db import Database
from tests.integration.messaging.driving import World
from tests.integration.messaging.driving import world as open_world


@pytest_asyncio.fixture
async def world(messaging_db: Database, clock: DrivenClock) -> AsyncIterator[World]:
    async with open_world(messaging_db, clock) as opened:
        yield opened
