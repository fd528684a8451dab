"""The periodic `timers`: claims what is due, looks, and plans, sleeps, ends or disarms."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from prometheus_client import Counter

from libs.common.db import Database, Tx, is_transient
from libs.common.telemetry import get_logger
from services.messaging.flows import Flow
from services.messaging.message import Message
from services.messaging.rules import Act, Disarm, End, Look, Run, Sleep, decide, own_run
from services.messaging.store import flows as flow_store
from services.messaging.store import looks as look_store
from services.messaging.store import messages as ledger_store
from services.messaging.store import timers as timer_store
from services.messaging.store.looks import Subject

FIRED = Counter("regulars_messaging_timers_fired_total", "Timers that looked, by what followed.", ["flow", "decision"])
PUT_OFF = Counter("regulars_messaging_timers_put_off_total", "Timers put off since looking at them failed.", ["flow"])

REPAIR = timedelta(hours=1)
"""How long a timer that breaks us is put off, so that it does not keep the others from firing."""

log = get_logger(__name__)


@dataclass(slots=True)
class Plan:
    """What a batch of looks comes to."""

    messages: list[Message] = field(default_factory=list)
    runs: dict[tuple[str, str, str], tuple[Subject, Run]] = field(default_factory=dict)
    """Tenant, flow, run key -> how far it is by now: the timers of two accounts may take a person's run two steps."""
    ended: list[tuple[str, str, str, str]] = field(default_factory=list)
    sleeping: list[tuple[Subject, datetime]] = field(default_factory=list)
    disarmed: list[Subject] = field(default_factory=list)


class Timers:
    """Fires what is due, batch by batch."""

    def __init__(self, database: Database, *, batch: int, planned: asyncio.Event) -> None:
        """`planned` is set when there are new messages for the sender."""
        self._database = database
        self._batch = batch
        self._planned = planned

    async def run(self, now: datetime) -> bool:
        """Fires one batch; whether there may be more."""
        try:
            return await self._fire(now, self._batch) == self._batch
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("timers failed, trying them one by one")
        for _ in range(self._batch):
            await self._fire_or_put_off(now)
        return True

    async def _fire(self, now: datetime, limit: int) -> int:
        async with self._database.transaction() as tx:
            due = await timer_store.claim(tx, now, limit)
            if due:
                made = await look(tx, due, now)
                await _save(tx, made, now)
                if made.messages:
                    tx.after_commit.append(self._planned.set)
        return len(due)

    async def _fire_or_put_off(self, now: datetime) -> None:
        try:
            await self._fire(now, 1)
        except Exception as error:
            if is_transient(error):
                raise
            async with self._database.transaction() as tx:
                for subject in await timer_store.claim(tx, now, 1):
                    await timer_store.sleep(tx, [(subject, now + REPAIR)])
                    PUT_OFF.labels(subject.flow).inc()
                    log.exception("timer put off", tenant=subject.tenant, flow=subject.flow)


async def look(tx: Tx, due: Sequence[Subject], now: datetime) -> Plan:
    """Loads what the timers look at and decides."""
    tenants = {subject.tenant for subject in due}
    current = await flow_store.current(tx, tenants, now)
    versions = await flow_store.versions(tx, tenants)
    baskets_of = frozenset(key for (_, key), flow in current.items() if flow.trigger == "basket_abandoned")
    return plan(due, await look_store.load(tx, due, baskets_of), current, versions, now)


def plan(
    due: Sequence[Subject],
    looks: Mapping[Subject, Look],
    current: Mapping[tuple[str, str], Flow],
    versions: Mapping[tuple[str, str, int], Flow],
    now: datetime,
) -> Plan:
    """Decides in the order in which the timers fell due; a run that begins here counts for those behind it."""
    made = Plan()
    begun: dict[tuple[str, str, str], dict[str, Run]] = defaultdict(dict)
    for subject in due:
        seen = looks[subject]
        flow = current.get((subject.tenant, subject.flow))
        if flow is None:
            made.disarmed.append(subject)
            continue
        if seen.person is not None:
            runs = {r.run_key: r for r in seen.runs} | begun[subject.tenant, subject.flow, seen.person.profile]
            seen = msgspec.structs.replace(seen, runs=tuple(runs.values()))
        run = own_run(seen, flow)
        if run is not None:
            flow = versions[subject.tenant, subject.flow, run.version]
        new = _carry_out(made, subject, seen, flow, run, now)
        if new is not None and seen.person is not None:
            begun[subject.tenant, subject.flow, seen.person.profile][new.run_key] = new
    return made


def _carry_out(made: Plan, subject: Subject, seen: Look, flow: Flow, run: Run | None, now: datetime) -> Run | None:
    decision = decide(seen, flow, run, now)
    FIRED.labels(subject.flow, type(decision).__name__.lower()).inc()
    match decision:
        case Sleep():
            made.sleeping.append((subject, decision.until))
        case Disarm():
            made.disarmed.append(subject)
        case End():
            made.ended.append((subject.tenant, subject.flow, decision.run_key, decision.reason))
            _rest(made, subject, decision.again)
        case Act():
            made.messages.append(_intent(subject, seen, flow, run, decision))
            _rest(made, subject, decision.again)
            following = _advanced(flow, run, decision)
            place = (subject.tenant, subject.flow, following.run_key)
            made.runs[place] = (subject._replace(subject=following.subject), following)
            return following
        case _:
            assert_never(decision)
    return None


def _rest(made: Plan, subject: Subject, again: datetime | None) -> None:
    if again is None:
        made.disarmed.append(subject)
    else:
        made.sleeping.append((subject, again))


def _advanced(flow: Flow, run: Run | None, act: Act) -> Run:
    seen = act.situation
    if run is None:
        run = Run(
            run_key=seen.run_key,
            version=flow.version,
            subject=seen.subject,
            account=seen.account,
            began_at=seen.anchor,
            step=act.step,
        )
    return msgspec.structs.replace(run, step=act.step, ended=act.again is None)


def _intent(subject: Subject, seen: Look, flow: Flow, run: Run | None, act: Act) -> Message:
    situation = act.situation
    basket = situation.basket
    profile = seen.person.profile if seen.person else ""
    address = seen.person.address(situation.account) if seen.person else None
    return Message(
        tenant=subject.tenant,
        flow=flow.key,
        version=flow.version,
        step=act.step,
        run_key=run.run_key if run else situation.run_key,
        store=situation.store,
        subject=run.subject if run else situation.subject,
        account=situation.account,
        profile=profile,
        channel=flow.channel,
        transactional=flow.transactional,
        recipient=address or "",
        checkout_token=basket.token if basket is not None and basket.kind == "checkout" else None,
        due_at=act.due_at,
    )


async def _save(tx: Tx, made: Plan, now: datetime) -> None:
    await timer_store.begin_or_advance(tx, list(made.runs.values()), now)
    await timer_store.end(tx, made.ended, now)
    await ledger_store.plan(tx, made.messages, now)
    await timer_store.sleep(tx, made.sleeping)
    await timer_store.disarm(tx, made.disarmed)
