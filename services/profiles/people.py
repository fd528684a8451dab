"""What one account says of its person: traits, consents, first and last sight.

The customer's own record outweighs what orders, checkouts and events mention; among those each trait is as last
mentioned, and a mention that leaves it out takes nothing away. What a browser's proof names was mentioned when it was
made: a page may be open for longer than the address is the customer's. All of it is a join, so the order of deliveries
does not matter.
"""

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common import identifiers
from libs.common.contracts.commerce import (
    ActivityObserved,
    CheckoutObserved,
    ConsentObserved,
    CustomerObserved,
    Identifiers,
    Observed,
    OrderObserved,
    Person,
    Removed,
)
from libs.common.contracts.customers import ProfileChanged
from libs.common.contracts.types import Account, Channel, Origin, Platform
from libs.common.junk import Junk
from services.profiles.consent import Held
from services.profiles.facts import Told, Version, is_removed, latest, supersedes, version
from services.profiles.identity.accounts import customer_id

TRAITS = ("email", "phone", "first_name", "last_name", "locale", "country")


LONGEST_TRAIT = 255
"""Characters, as the API takes them: a list of profiles is not to grow to megabytes by somebody's name."""


class Mention(Struct, frozen=True):
    """A trait as last mentioned; ties go to the greater object, for want of anything better."""

    value: str
    seen: Version
    by: str


class PersonState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was observed of one account's person."""

    platform: Platform | None = None
    own: CustomerObserved | None = None
    """The platform's customer record, e-mail and phone normalised."""
    removed: Version | None = None
    mentioned: dict[str, Mention] = {}
    consents: dict[Channel, Held] = {}
    first_seen_at: datetime | None = None
    last_activity_at: datetime | None = None
    revision: int = 0


def on_observed(state: PersonState, observed: Observed, junk: Junk) -> PersonState:
    """Whatever names this account: when it was first seen, where it lives, and what it says of the person."""
    state = replace(
        state,
        first_seen_at=min(state.first_seen_at or observed.updated_at, _since(observed)),
        platform=state.platform if observed.platform == "events" else observed.platform,
    )
    match observed:
        case CustomerObserved() if supersedes(observed, state.own):
            return replace(state, own=replace(observed, person=normalised(observed.person, junk), consents=[]))
        case OrderObserved(person=said) | CheckoutObserved(person=said):
            return _mention(state, observed, normalised(said, junk))
        case ConsentObserved(identifiers=who) | ActivityObserved(identifiers=who) if who.email or who.phone:
            # Not for a visitor to claim: ingest takes these of a browser only with a proof.
            return _mention(state, observed, normalised(_named(who), junk))
        case Removed():
            return replace(state, removed=latest(version(observed), state.removed))
        case _:
            return state


def on_activity(state: PersonState, at: datetime) -> PersonState:
    """The person did something."""
    known = state.last_activity_at
    return state if known is not None and known >= at else replace(state, last_activity_at=at)


def normalised(person: Person, junk: Junk) -> Person:
    """E-mail in lower case, phone in E.164; junk is absent, and what is longer than any name is cut."""
    return replace(
        person,
        email=identifiers.email(person.email, junk),
        phone=identifiers.phone(person.phone, person.country, junk),
        first_name=_cut(person.first_name),
        last_name=_cut(person.last_name),
        locale=_cut(person.locale),
        country=_cut(person.country.upper()) if person.country else None,
    )


def _cut(trait: str | None) -> str | None:
    return trait[:LONGEST_TRAIT] if trait else trait


def view(account: Account, store: str, state: PersonState) -> ProfileChanged | None:
    """The account's person as consumers get it; None while nothing is said of him."""
    own = record(state)
    if state.own is None and state.removed is None and not state.mentioned:
        return None
    said = traits(state)
    return ProfileChanged(
        store=store,
        account=account,
        platform=state.platform or "events",
        customer_id=customer_id(account),
        email=said["email"],
        email_verified=own is not None and own.email_verified,
        phone=said["phone"],
        first_name=said["first_name"],
        last_name=said["last_name"],
        locale=said["locale"],
        country=said["country"],
        timezone=own.timezone if own else None,
        birthday=own.birthday if own else None,
        deleted=is_deleted(state),
        revision=state.revision,
    )


def decide(
    account: Account, store: str, before: PersonState, after: PersonState, *, at: datetime, origin: Origin
) -> tuple[PersonState, list[Told]]:
    """What to publish of the step, and `after` with that noted."""
    shown = view(account, store, after)
    if shown is None or shown == view(account, store, before):
        return after, []
    noted = replace(after, revision=after.revision + 1)
    fact = replace(shown, revision=noted.revision, origin=origin)
    return noted, [Told("profile.changed", account, at, fact)]


def record(state: PersonState) -> CustomerObserved | None:
    """The platform's customer record, unless it was deleted there. It is kept: what it said is older than its end."""
    return None if is_deleted(state) else state.own


def traits(state: PersonState) -> dict[str, str | None]:
    """Each trait: the record's own word, else the last mention. Orders outlive a deleted customer, in the shop, too."""
    own = held.person if (held := record(state)) else Person()
    said: dict[str, str | None] = {}
    for name in TRAITS:
        mention = state.mentioned.get(name)
        said[name] = getattr(own, name) or (mention.value if mention else None)
    return said


def is_deleted(state: PersonState) -> bool:
    """Whether the platform has deleted this customer."""
    return is_removed(state.removed, state.own)


class Merged(Struct, frozen=True, kw_only=True):
    """The traits of a profile."""

    email: str | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    country: str | None = None
    timezone: str | None = None
    birthday: date | None = None


def merge(states: Sequence[PersonState]) -> Merged:
    """Over several accounts: customer records first, newest first, then mentions, newest first."""
    records = sorted((own for s in states if (own := record(s))), key=version, reverse=True)
    mentions = [s.mentioned for s in states]
    merged: dict[str, str | None] = {}
    for name in TRAITS:
        said = [value for own in records if (value := getattr(own.person, name))]
        told = sorted((m[name] for m in mentions if name in m), key=lambda m: (m.seen, m.by), reverse=True)
        merged[name] = next(iter([*said, *(mention.value for mention in told)]), None)
    return Merged(
        **merged,
        timezone=next((own.timezone for own in records if own.timezone), None),
        birthday=next((own.birthday for own in records if own.birthday), None),
    )


def _mention(state: PersonState, observed: Observed, person: Person) -> PersonState:
    by = f"{type(observed).__name__}:{observed.store}:{observed.source_id}"
    seen = _named_at(observed)
    mentioned = dict(state.mentioned)
    for name in TRAITS:
        value = getattr(person, name)
        before = mentioned.get(name)
        if value and (before is None or (seen, by) >= (before.seen, before.by)):
            mentioned[name] = Mention(value, seen, by)
    return replace(state, mentioned=mentioned)


def _named_at(observed: Observed) -> Version:
    """By which what it mentions competes with other mentions."""
    match observed:
        case ActivityObserved(named_at=datetime() as at) | CheckoutObserved(named_at=datetime() as at):
            return at, observed.position
        case _:
            return version(observed)


def _named(who: Identifiers) -> Person:
    """Whom an event names, as far as that is what he is like. It says nothing of a country to read his number with."""
    return Person(email=who.email, phone=who.phone)


def _since(observed: Observed) -> datetime:
    match observed:
        case OrderObserved():
            return min(observed.placed_at, observed.updated_at)
        case CustomerObserved(created_at=datetime() as created_at):
            return min(created_at, observed.updated_at)
        case _:
            return observed.updated_at
