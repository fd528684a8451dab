"""What a consumer is: a handler, and the topics that it reads."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from operator import attrgetter

from libs.common.batch import Batch
from libs.common.contracts.topics import Topic
from libs.common.log.base import Position, Record

Handler = Callable[[Batch], Awaitable[None]]


@dataclass(slots=True)
class Consumer:
    """A handler and the topics that it reads. The name is unique within its service."""

    name: str
    topics: tuple[Topic, ...]
    handler: Handler
    batch_size: int = 500
    copies: bool = False
    """Its handler gets the log as it is, with the log's own records: it only carries them on."""
    afresh: Callable[[Position], Awaitable[bool]] | None = None
    """Asked when retention has dropped what was to come next: may it go on where the log begins now?"""
    kind: Callable[[Record], str] = attrgetter("type")
    """What a record is to the handler's code: a bad version dies of some kinds, and of those whoever sends them."""
