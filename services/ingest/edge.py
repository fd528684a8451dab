"""What one API process of ingest holds between requests."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Self

from libs.common.clock import Clock
from libs.common.crypto import Keyring
from libs.common.db import Database
from libs.common.junk import Junk
from services.ingest.callers import Network, Throttle
from services.ingest.connecting import Connecting
from services.ingest.journal import Journal
from services.ingest.opening import opener
from services.ingest.registry import Registry
from services.ingest.tally import Tally
from services.ingest.webhooks import Limits, WebhookEndpoint


class Crowd(NamedTuple):
    """How much is taken from those who come without an API key."""

    proxies: tuple[Network, ...]
    """Whose word is taken for whom they speak for."""
    by_address: Throttle
    by_key: Throttle


@dataclass(frozen=True, slots=True)
class Edge:
    """Everything between the network and the journal."""

    database: Database
    clock: Clock
    keyring: Keyring
    registry: Registry
    journal: Journal
    tally: Tally
    endpoint: WebhookEndpoint
    public_url: str
    """Where shops reach us, without a slash at the end."""
    crowd: Crowd
    connecting: Connecting
    junk: Junk
    private_addresses: bool
    """Whether stores may have addresses of our own network."""

    @classmethod
    def build(
        cls,
        database: Database,
        clock: Clock,
        keyring: Keyring,
        *,
        public_url: str,
        limits: Limits,
        crowd: Crowd,
        pause: timedelta,
        bulk_above: int,
        private_addresses: bool,
        junk: Junk,
        wait: float,
        queue_length: int,
        queue_bytes: int,
    ) -> Self:
        """`wait`: seconds until a delivery that is not committed is refused; `queue_*`: how many may wait.

        `pause`: between two requests to one store's API.
        """
        at = public_url.rstrip("/")
        registry = Registry(database, keyring, clock)
        journal = Journal(database, wait=wait, queue_length=queue_length, queue_bytes=queue_bytes)
        tally = Tally(database)
        endpoint = WebhookEndpoint(registry, journal, tally, clock, limits)
        open_platform = opener(keyring, bulk_above=bulk_above, inside=private_addresses)
        connecting = Connecting(database, keyring, open_platform, public_url=at, pause=pause)
        return cls(
            database, clock, keyring, registry, journal, tally, endpoint, at, crowd, connecting, junk, private_addresses
        )

    async def start(self) -> None:
        """Loads the stores and begins to commit."""
        await self.registry.start()
        self.journal.start()
        self.tally.start()

    async def stop(self) -> None:
        """Commits what waits, writes the counts, ends."""
        await self.journal.stop()
        await self.tally.stop()
        await self.registry.stop()
