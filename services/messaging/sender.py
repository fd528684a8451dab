"""The periodic `sender`: asks the gate, claims and commits, only then writes to the provider, and settles."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import assert_never

import msgspec
from prometheus_client import Counter

from libs.common.clock import Clock
from libs.common.crypto import Keyring
from libs.common.db import Database, Tx, is_transient
from libs.common.telemetry import get_logger
from services.messaging.flows import Flow, share
from services.messaging.gate import ENDS_RUN, Verdict, gate
from services.messaging.mail import Identity, Letter, Shop, letter
from services.messaging.message import Answer, Message, Outcome
from services.messaging.person import Person
from services.messaging.questions import question
from services.messaging.rendering import TemplateError
from services.messaging.rules import Look, Situation, situation
from services.messaging.smtp import Mailer
from services.messaging.store import flows as flow_store
from services.messaging.store import looks as look_store
from services.messaging.store import messages as ledger_store
from services.messaging.store import timers as timer_store
from services.messaging.store.looks import Subject

OUTCOMES = Counter("regulars_messaging_messages_total", "Messages by what became of them.", ["flow", "state", "reason"])
LAPSED = Counter("regulars_messaging_lapsed_total", "Messages whose sender died before it could tell.")
TEMPLATE_ERRORS = Counter("regulars_messaging_template_errors_total", "Texts that could not be rendered.", ["flow"])

PURPOSE = "unsubscribe"
LINK_LIFE = timedelta(days=400)
STORE_PATIENCE = timedelta(minutes=1)
"""How soon to ask again for a message whose store is not known yet."""
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=30)
REPAIR = timedelta(hours=1)
"""How long a message that breaks us is put off."""

log = get_logger(__name__)


@dataclass(slots=True)
class Claimed:
    """What came of asking: what may leave, what is settled already, and which runs it ends."""

    letters: list[tuple[Message, Letter]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ended: list[tuple[str, str, str, str]] = field(default_factory=list)


class Sender:
    """Sends what is planned, a batch at a time."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        mailer: Mailer,
        keyring: Keyring,
        identity: Identity,
        *,
        batch: int,
        lease: float,
    ) -> None:
        """`batch`: messages in doubt, at most, when a worker dies. `lease`: seconds until it counts as dead."""
        self._database = database
        self._clock = clock
        self._mailer = mailer
        self._keyring = keyring
        self._identity = identity
        self._batch = batch
        self._lease = lease
        # Answers that the database was not there to take: kept, or mail that did leave would be told as unknown.
        self._unsettled: list[tuple[Message, Answer]] = []

    async def run(self, now: datetime, *, until: datetime | None = None) -> bool:
        """Sends one batch of what is due `until` then (default: now); whether there may be more."""
        await self.settle([])
        until = until or now
        try:
            asked, letters = await self.claim(now, self._batch, until=until)
        except Exception as error:
            if is_transient(error):
                raise
            log.exception("gate failed, asking it one by one")
            asked, letters = await self._claim_one_by_one(now, until)
        if letters:
            answers = await self._mailer.send([mail for _, mail in letters])
            await self.settle([(message, answer) for (message, _), answer in zip(letters, answers, strict=True)])
            if all(answer.delivery == "deferred" for answer in answers):
                return False
        return asked == self._batch

    async def claim(
        self, now: datetime, limit: int, *, until: datetime | None = None
    ) -> tuple[int, list[tuple[Message, Letter]]]:
        """Asks the gate about a batch and commits the answers. Returns how many it asked, and what is to leave."""
        async with self._database.transaction() as tx:
            if lapsed := await ledger_store.lapse(tx, now):
                LAPSED.inc(lapsed)
                log.error("messages without an answer", messages=lapsed)
            messages = await ledger_store.claim(tx, until or now, limit)
            if not messages:
                return 0, []
            claimed = await self._ask(tx, messages, now)
            await ledger_store.take(tx, [message for message, _ in claimed.letters], now, self._lease)
            await timer_store.end(tx, claimed.ended, now)
            await ledger_store.settle(tx, claimed.outcomes, now)
        _count(claimed.outcomes)
        return len(messages), claimed.letters

    async def _claim_one_by_one(self, now: datetime, until: datetime) -> tuple[int, list[tuple[Message, Letter]]]:
        """As `claim`, but whatever breaks us is put off, so that it does not keep the others from leaving."""
        letters: list[tuple[Message, Letter]] = []
        for _ in range(self._batch):
            try:
                _, more = await self.claim(now, 1, until=until)
                letters += more
            except Exception as error:
                if is_transient(error) and letters:
                    break  # what is claimed already has to leave
                if is_transient(error):
                    raise
                log.exception("message put off")
                async with self._database.transaction() as tx:
                    broken = await ledger_store.claim(tx, until, 1)
                    await ledger_store.settle(tx, [_put_off(message, now) for message in broken], now)
        return self._batch, letters

    async def settle(self, answers: Sequence[tuple[Message, Answer]]) -> None:
        """Writes the provider's answers into the ledger, and those of before that could not be written."""
        self._unsettled += answers
        if self._unsettled:
            now = self._clock.now()
            outcomes = [answered(message, answer, now) for message, answer in self._unsettled]
            async with self._database.transaction() as tx:
                await ledger_store.settle(tx, outcomes, now)
            self._unsettled.clear()
            _count(outcomes)

    async def _ask(self, tx: Tx, messages: Sequence[Message], now: datetime) -> Claimed:
        tenants = {message.tenant for message in messages}
        versions = await flow_store.versions(tx, tenants)
        paused = await flow_store.paused(tx, tenants)
        baskets_of = frozenset(key for (_, key, _), flow in versions.items() if flow.trigger == "basket_abandoned")
        subjects = [Subject(m.tenant, m.flow, m.store if m.flow in baskets_of else "", m.subject) for m in messages]
        looks = await look_store.load(tx, subjects, baskets_of)
        shops = await look_store.shops(tx, {(m.tenant, m.store) for m in messages})
        people = {(look.tenant, look.person.profile): look.person for look in looks.values() if look.person}
        last = await look_store.last_messages(tx, people)
        claimed = Claimed()
        for planned, subject in zip(messages, subjects, strict=True):
            look = looks[subject]
            profile = look.person.profile if look.person else planned.profile
            message = msgspec.structs.replace(planned, profile=profile)
            shop = shops.get((message.tenant, message.store))
            flow = versions[message.tenant, message.flow, message.version]
            if shop is None and now - message.due_at <= flow.steps[message.step - 1].ceiling:
                claimed.outcomes.append(
                    Outcome(message=message, state="planned", reason="store_unknown", next_at=now + STORE_PATIENCE)
                )
                continue
            person_key = (message.tenant, message.profile, message.channel)
            seen = _seen(look, flow, message)
            verdict = gate(
                question(
                    message,
                    flow,
                    seen,
                    look.person,
                    now=now,
                    shop=shop,
                    paused=(message.tenant, message.flow) in paused,
                    last_message_at=last.get(person_key),
                )
            )
            if verdict.outcome != "send" or seen is None or look.person is None or shop is None:
                self._refuse(claimed, message, verdict)
            elif self._write(claimed, message, flow, seen, look.person, shop, now) and not message.transactional:
                last[person_key] = now
        return claimed

    def _refuse(self, claimed: Claimed, message: Message, verdict: Verdict) -> None:
        claimed.outcomes.append(
            Outcome(
                message=message,
                state="held" if verdict.outcome == "hold" else "skipped",
                reason=verdict.reason,
                reasons=verdict.reasons,
                next_at=verdict.held_until,
            )
        )
        if verdict.reason in ENDS_RUN:
            claimed.ended.append((message.tenant, message.flow, message.run_key, verdict.reason))

    def _write(
        self, claimed: Claimed, message: Message, flow: Flow, seen: Situation, person: Person, shop: Shop, now: datetime
    ) -> bool:
        token = self._keyring.sign_token(
            {"tenant": message.tenant, "message": message.id, "profile": person.profile, "channel": message.channel},
            purpose=PURPOSE,
            expires=now + LINK_LIFE,
        )
        try:
            mail = letter(message, flow, seen, person, shop, self._identity, token=token, now=now)
        except TemplateError:
            TEMPLATE_ERRORS.labels(message.flow).inc()
            log.exception("template error", tenant=message.tenant, flow=message.flow)
            claimed.outcomes.append(
                Outcome(message=message, state="skipped", reason="template_error", reasons=("template_error",))
            )
            return False
        claimed.letters.append((message, mail))
        return True


def answered(message: Message, answer: Answer, now: datetime) -> Outcome:
    """What a provider's answer makes of a claimed message."""
    match answer.delivery:
        case "accepted":
            return Outcome(message=message, state="sent", response=answer.response)
        case "rejected":
            return Outcome(message=message, state="failed", reason="provider_rejected", response=answer.response)
        case "unanswered":
            return Outcome(message=message, state="unknown", reason="no_answer", response=answer.response)
        case "deferred":
            return Outcome(
                message=message,
                state="planned",
                reason="provider_away",
                next_at=now + backoff(message),
                response=answer.response,
            )
        case _:
            assert_never(answer.delivery)


def backoff(message: Message) -> timedelta:
    """Doubles with each attempt; spread by the message itself, so that not all come back at once."""
    longest: timedelta = min(FIRST_BACKOFF * 2 ** min(message.attempts, 10), LONGEST_BACKOFF)
    return longest * (0.5 + share(message.id, str(message.attempts)) / 2)


def _put_off(message: Message, now: datetime) -> Outcome:
    return Outcome(message=message, state="planned", reason="internal_error", next_at=now + REPAIR)


def _seen(look: Look, flow: Flow, message: Message) -> Situation | None:
    run = next((run for run in look.runs if run.run_key == message.run_key), None)
    return None if run is None else situation(look, flow, run)


def _count(outcomes: Sequence[Outcome]) -> None:
    away = [outcome for outcome in outcomes if outcome.reason == "provider_away"]
    if away:
        log.warning("the mail relay does not take mail", messages=len(away), answer=away[0].response)
    for outcome in outcomes:
        OUTCOMES.labels(outcome.message.flow, outcome.state, outcome.reason or "").inc()
