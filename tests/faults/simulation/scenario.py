"""One seed, one history: writers, workers of two services, a log between them, and everything that can befall them.

`commerce` is written by ingest and read by profiles, which writes `customers`, read by metrics: the line, with handlers
that only note what they saw. While things go wrong processes are killed, stopped and started, connections are cut and
answers lost, and topics get more partitions. Then it is quiet, and before long each event must have had its effect,
once, in the order of its key.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from types import ModuleType

import msgspec
from aiokafka.structs import TopicPartition

from libs.common import openings, relay, relay_check, worker
from libs.common.contracts.topics import COMMERCE, CUSTOMERS, Topic
from libs.common.log import kafka, kafka_places
from libs.common.log.base import Event, Log, Record
from libs.common.log.kafka import KafkaLog
from libs.common.relay import Publisher, relay_worker
from libs.common.worker import Batch, Consumer, Limits, Worker
from tests.faults.simulation.bugs import NONE, Bug
from tests.faults.simulation.clockwork import passes, run
from tests.faults.simulation.database import Actor, Cut, Faults, Server, SimulatedDatabase
from tests.faults.simulation.kafka import Cluster, SimulatedConsumer, SimulatedKafka, SimulatedProducer
from tests.faults.simulation.positions import START, SimulatedLog, SimulatedPositions

SERVICES: dict[str, tuple[Topic, Topic | None]] = {"profiles": (COMMERCE, CUSTOMERS), "metrics": (CUSTOMERS, None)}
STORM_SECONDS = 40.0
CALM_SECONDS = 120.0
"""So long after the last fault everything must be through."""
KEYS = 7
MISHAPS = ("kill", "kill", "pause", "pause", "stop", "start", "restart", "kafka away", "no leader")
LIMITS = Limits(lease=10.0, patience=1.0)


class Noted(msgspec.Struct):
    """What the events of the simulation say."""

    origin: str


@dataclass(slots=True)
class Told:
    """What a run came to. Two runs of one seed tell the same."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """Virtual, to the end."""


class LoopClock:
    """The loop's time as dates."""

    def now(self) -> datetime:
        """UTC."""
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    def arrival(self) -> datetime:
        """UTC."""
        return self.now()


class Process:
    """A worker process: it can be killed, stopped, and asked to go."""

    def __init__(self, world: "World", kind: str, name: str) -> None:
        """`kind`: a service, or `relay` and whose."""
        self.actor = Actor(name)
        self._world = world
        self.working = self._relay(kind.split()[1]) if kind.startswith("relay") else self._worker(kind)
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(self.working.run(self._stop))

    def _relay(self, service: str) -> Worker:
        database = SimulatedDatabase(self._world.server, service, self.actor)
        publisher = Publisher(self._world.kafka(self.actor))
        return relay_worker(database, SimulatedLog(database), LoopClock(), publisher)  # type: ignore[arg-type]

    def _worker(self, service: str) -> Worker:
        reads, emits = SERVICES[service]

        async def handle(batch: Batch) -> None:
            await batch.tx.statement()  # type: ignore[attr-defined]
            for record in batch.records:
                note(batch, record, service, emits)

        consumer = Consumer(service, (reads,), handle, batch_size=self._world.dice.choice([1, 3, 20, 500]))
        return Worker(
            SimulatedDatabase(self._world.server, service, self.actor),  # type: ignore[arg-type]
            self._world.log(self.actor, service, reads),
            LoopClock(),
            consumers=[consumer],
            limits=LIMITS,
        )

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return not self.task.done()

    def kill(self) -> None:
        """SIGKILL."""
        self.task.cancel()
        for sending in self.actor.sending:
            # What has left the machine arrives.
            if self._world.dice.random() < 0.5:
                sending.cancel()
        self._world.server.forget(self.actor)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._stop.set()


def note(batch: Batch, record: Record, service: str, emits: Topic | None) -> None:
    """The handler of the simulation. A poisonous record breaks it, as a bug would."""
    if "poison" in record.id and service == "profiles":
        raise ValueError("poison")
    origin = msgspec.json.decode(record.data, type=Noted).origin
    batch.tx.effect(record.key, origin)  # type: ignore[attr-defined]
    if emits is not None:
        batch.emit(emits, record.type, Noted(origin), key=record.key, time=record.time, cause=record)


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, bug: Bug, positions: SimulatedPositions) -> None:
        self._positions = positions
        self.dice = Random(seed)
        rough = self.dice.choice([0.0, 0.002, 0.02])
        faults = Faults(lost_before=rough, lost_after=self.dice.choice([0.0, 0.02, 0.1]), slow=0.01)
        self.told = Told(seed)
        self.server = Server(self.dice, faults, self.told.counts)
        self.cluster = Cluster(self.dice, faults, self.told.counts, numbered=bug.numbered, waits=bug.waits)
        self.through_kafka = bool(seed % 2)
        self.kinds = [*SERVICES, *(["relay ingest", "relay profiles"] if self.through_kafka else [])]
        self.processes: list[Process] = []
        self.sent: dict[str, list[str]] = defaultdict(list)
        """Key -> what was written under it, in order."""
        self._started = 0

    def log(self, actor: Actor, service: str, topic: Topic) -> Log:
        """Through which a process reads the topic."""
        if self.through_kafka:
            return KafkaLog(self.kafka(actor), service)
        return SimulatedLog(SimulatedDatabase(self.server, topic.producer, actor))

    def kafka(self, actor: Actor) -> SimulatedKafka:
        """A process' way to Kafka."""
        return SimulatedKafka(servers=(), cluster=self.cluster, actor=actor)

    def start(self, kind: str) -> None:
        """One more process of the kind."""
        self._started += 1
        self.processes.append(Process(self, kind, f"{kind} {self._started}"))

    async def run(self) -> Told:
        """The storm, the calm, and the account."""
        for kind in self.kinds:
            for _ in range(self.dice.choice([1, 1, 2, 3])):
                self.start(kind)
        writing = [asyncio.create_task(self._write(f"w{n}", self.dice.randrange(5, 40))) for n in range(2)]
        writing.append(asyncio.create_task(self._growths()))
        await self._storm()
        self.calm()
        await asyncio.gather(*writing)
        await self._until_through()
        self._account()
        for process in self.processes:
            process.kill()
        return self.told

    async def _write(self, name: str, events: int) -> None:
        """Ingest: appends again until it is told that it did; what is there already is known by its id.

        An old process and ever newer ones take turns.
        """
        for n in range(events):
            await passes(self.dice.expovariate(events / STORM_SECONDS))
            key = f"{name}:{self.dice.randrange(KEYS)}"
            poison = self.dice.random() < 0.02
            event = Event(
                id=f"{name}-{n}{'-poison' * poison}",
                type="noted",
                source="/simulation",
                tenant="default",
                key=key,
                time=START,
                data=msgspec.json.encode(Noted(f"{name}-{n}")),
            )
            if not poison:
                self.sent[key].append(f"{name}-{n}")
            self.told.counts["poison" if poison else "events"] += 1
            database = SimulatedDatabase(self.server, "ingest", Actor(f"{name} {self.dice.choice([0, n // 4])}"))
            while True:
                with suppress(Cut):
                    async with database.transaction() as tx:
                        known = {r.id for records in database.state.logs.values() for r in records}
                        if event.id not in known:
                            await self._positions.append(tx, COMMERCE, [event])
                    break

    async def _grow(self, topic: Topic, factor: int) -> None:
        """`regulars partitions grow`, again until it is told that it did."""
        database = SimulatedDatabase(self.server, topic.producer, Actor(f"growth of {topic.name}"))
        partitions = database.state.partitions[topic.name] * factor
        while database.state.partitions[topic.name] < partitions:
            with suppress(Cut):
                async with database.transaction() as tx:
                    await self._positions.grow(tx, topic, partitions)

    async def _growths(self) -> None:
        """Of some topics, once or twice."""
        for _ in range(self.dice.choice([0, 1, 2, 2])):
            await passes(self.dice.uniform(0, STORM_SECONDS / 2))
            await self._grow(self.dice.choice([COMMERCE, CUSTOMERS]), self.dice.choice([2, 2, 3]))
            self.told.counts["growths"] += 1

    async def _storm(self) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < STORM_SECONDS:
            await passes(self.dice.expovariate(0.7))
            living = [process for process in self.processes if process.lives]
            what = self.dice.choice(
                ["kill", "kill", "pause", "pause", "stop", "start", "restart", "kafka away", "no leader"]
            )
            self.told.counts[what] += 1
            if what == "restart":
                self.server.restart()
            elif what == "kafka away":
                self.cluster.up.clear()
                loop.call_later(self.dice.choice([0.2, 3, 9]), self.cluster.up.set)
            elif what == "no leader":
                self._refuse_one()
            elif what == "start" or not living:
                self.start(self.dice.choice(self.kinds))
            elif what == "kill":
                self.dice.choice(living).kill()
            elif what == "stop":
                self.dice.choice(living).ask_to_stop()
            else:
                actor = self.dice.choice(living).actor
                actor.pause()
                # Some longer than a lease, some longer than a transaction may idle.
                loop.call_later(self.dice.choice([0.05, 0.5, 5, 12, 25]), actor.resume)

    def _refuse_one(self) -> None:
        """For a while Kafka takes nothing for one partition."""
        place = TopicPartition(COMMERCE.name, self.dice.randrange(COMMERCE.partitions))
        refusing = self.dice.choice([self.cluster.leaderless, self.cluster.refused])
        refusing.add(place)
        asyncio.get_running_loop().call_later(self.dice.choice([0.2, 3, 9]), refusing.discard, place)

    def calm(self, *, refusing: bool = False) -> None:
        """No faults any more (`refusing`: but partitions that Kafka refuses), and at least one worker of each kind."""
        self.server.faults = self.cluster.faults = Faults()
        self.cluster.up.set()
        if not refusing:
            self.cluster.leaderless.clear()
            self.cluster.refused.clear()
        for process in self.processes:
            process.actor.resume()
        for kind in self.kinds:
            self.start(kind)

    async def _until_through(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + CALM_SECONDS
        while not self._through():
            if loop.time() > end:
                self.told.wrong.append(f"not through {CALM_SECONDS:.0f} s after the last fault: {self._left()}")
                return
            await passes(0.5)

    def _left(self) -> dict[str, int]:
        left = {}
        for service, (topic, _) in SERVICES.items():
            rows = self.server.schemas[service].positions
            producer = self.server.schemas[topic.producer]
            places = [(topic.name, partition) for partition in range(producer.partitions[topic.name])]
            read = {place: rows[service, place].next_offset if (service, place) in rows else 0 for place in places}
            left[service] = sum(len(producer.logs[place]) - read[place] for place in places)
        return left

    def _through(self) -> bool:
        begun = all(self.server.schemas[service].workers[service] for service in SERVICES)
        return begun and not any(self._left().values())

    def _account(self) -> None:
        counts, wrong = self.told.counts, self.told.wrong
        for service in SERVICES:
            schema = self.server.schemas[service]
            seen: dict[str, list[str]] = defaultdict(list)
            for key, origin in schema.effects:
                seen[key].append(origin)
            for key in sorted({*self.sent, *seen}):
                counts["checked"] += max(len(self.sent[key]), len(seen[key]))
                if seen[key] != self.sent[key]:
                    wrong.append(f"{service} {key}: {_difference(self.sent[key], seen[key])}")
            counts[f"{service} dead"] = len(schema.dead)
        if counts["profiles dead"] != counts["poison"] or counts["metrics dead"]:
            wrong.append(f"dead letters: {counts['profiles dead']} of {counts['poison']}, {counts['metrics dead']}")
        for process in self.processes:
            if not process.lives and not process.task.cancelled() and (error := process.task.exception()) is not None:
                wrong.append(f"{process.actor.name} broke: {error!r}")
        self.told.seconds = round(asyncio.get_running_loop().time(), 3)


def _difference(sent: Sequence[str], seen: Sequence[str]) -> str:
    lost = [one for one in sent if one not in seen]
    doubled = [one for one, n in Counter(seen).items() if n > 1]
    return f"lost {lost}, twice {doubled}" if lost or doubled else f"out of order: {seen}"


async def _topics_are_there(*_: object) -> None:
    """Topics are checked against a real Kafka elsewhere."""


async def _made(kafka: SimulatedKafka, partitions: Mapping[str, int] | None = None) -> None:
    """Topics are there; partitions are made."""
    assert kafka.cluster is not None
    assert kafka.actor is not None
    await kafka.cluster.reach(kafka.actor)
    for topic, count in (partitions or {}).items():
        kafka.cluster.partitions[topic] = max(count, kafka.cluster.partitions[topic])


@contextmanager
def simulated(positions: SimulatedPositions) -> Iterator[None]:
    """The loop's SQL, its stopwatch and its Kafka clients are replaced by what is simulated, and nothing else."""
    replaced: list[tuple[ModuleType, str, object]] = [
        (worker, "positions", positions),
        (openings, "positions", positions),
        (worker, "postgres", positions),
        (worker, "monotonic", lambda: asyncio.get_running_loop().time()),
        (kafka, "monotonic", lambda: asyncio.get_running_loop().time()),
        (kafka, "SystemClock", LoopClock),
        (kafka, "AIOKafkaConsumer", SimulatedConsumer),
        (kafka, "check_topics", _topics_are_there),
        (kafka_places, "AIOKafkaConsumer", SimulatedConsumer),
        (relay, "AIOKafkaProducer", SimulatedProducer),
        (relay, "make_topics", _made),
        (relay, "SystemClock", LoopClock),
        (relay_check, "monotonic", lambda: asyncio.get_running_loop().time()),
    ]
    kept = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    try:
        for module, name, value in replaced:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


def simulate(seed: int, bug: Bug = NONE) -> Told:
    """Runs one seed, at will with a bug put in. Odd ones read through Kafka."""
    random.seed(seed)
    positions = bug.positions()

    async def main() -> Told:
        return await World(seed, bug, positions).run()

    with simulated(positions):
        try:
            return run(main(), Random(f"order {seed}"))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is this seed's, and the others go on)
            return Told(seed, wrong=[f"the history broke off: {error!r}"])
