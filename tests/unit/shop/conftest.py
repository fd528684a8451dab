from datetime import UTC, datetime

import pytest

from regulars.shop.delivery import Delivery, deliveries
from regulars.shop.model import World
from regulars.shop.world import make_world

START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(seed=7, start=START, days=45, how_many=200)


@pytest.fixture(scope="session")
def arriving(world: World) -> list[Delivery]:
    return deliveries(world)
