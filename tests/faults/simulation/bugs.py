"""Bugs put in on purpose: a simulation that does not find them would prove nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.common.contracts.topics import Topic
from libs.common.log.base import Event, Position
from tests.faults.simulation.database import SimulatedTx
from tests.faults.simulation.positions import SimulatedPositions, moved


class NoFence(SimulatedPositions):
    """Positions are moved without looking whose they are and where they stand."""

    async def advance(
        self, tx: SimulatedTx, consumer: str, worker: str, moves: Mapping[Position, tuple[int, int]]
    ) -> None:
        del worker
        await tx.statement()
        for place, (_, following) in sorted(moves.items()):
            tx.writes.append(moved(tx.database.state.positions[consumer, place], following))


class EarlyPosition(SimulatedPositions):
    """The position moves in a transaction of its own, before the effects."""

    async def advance(
        self, tx: SimulatedTx, consumer: str, worker: str, moves: Mapping[Position, tuple[int, int]]
    ) -> None:
        await super().advance(tx, consumer, worker, moves)
        for place, (_, following) in moves.items():
            tx.database.state.positions[consumer, place].next_offset = following


class LatePosition(SimulatedPositions):
    """The position moves in a transaction of its own, after the effects: as a log's own auto-commit would."""

    async def advance(
        self, tx: SimulatedTx, consumer: str, worker: str, moves: Mapping[Position, tuple[int, int]]
    ) -> None:
        before = list(tx.writes)
        await super().advance(tx, consumer, worker, moves)
        for write in before:
            write()
        del tx.writes[: len(before)]


class EventsApart(SimulatedPositions):
    """Events go out beside the transaction, and not in it: an outbox that is none."""

    async def append(self, tx: SimulatedTx, topic: Topic, events: Sequence[Event]) -> None:
        before = len(tx.writes)
        await super().append(tx, topic, events)
        for write in tx.writes[before:]:
            write()
        del tx.writes[before:]


class OpenAtOnce(SimulatedPositions):
    """A new partition is read without waiting for the one in which its keys were before."""

    def is_through(self, tx: SimulatedTx, consumer: str, parent: Position, until: int) -> bool:
        del tx, consumer, parent, until
        return True


class OldNumber(SimulatedPositions):
    """Who has counted a topic's partitions once does not count them again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}

    def counted(self, tx: SimulatedTx, topic: Topic) -> int:
        return self._known.setdefault((tx.database.actor.name, topic.name), super().counted(tx, topic))


@dataclass(frozen=True)
class Bug:
    """What is wrong in a run."""

    name: str
    positions: type[SimulatedPositions] = SimulatedPositions
    numbered: bool = True
    """Whether the relay's records carry the number that they have in PostgreSQL."""
    waits: bool = True
    """Whether the relay waits for Kafka's acknowledgement."""


NONE = Bug("none")
BUGS = (
    Bug("no fence", NoFence),
    Bug("position before the effects", EarlyPosition),
    Bug("position after the effects", LatePosition),
    Bug("events beside the transaction", EventsApart),
    Bug("new partitions opened at once", OpenAtOnce),
    Bug("writers with an old number of partitions", OldNumber),
    Bug("relay without seq", numbered=False),
    Bug("relay without acknowledgements", waits=False),
)
