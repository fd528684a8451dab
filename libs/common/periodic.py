"""Work that no record starts."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Periodic:
    """Timers, senders, upkeep. Many workers may run it at once: it claims its rows."""

    name: str
    every: float
    """Seconds between runs that found nothing to do."""
    run: Callable[[datetime], Awaitable[bool]]
    """Gets the clock's now; answers whether to run again at once."""
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    """Set it when there is something to do, and the run does not wait for `every` to pass."""
