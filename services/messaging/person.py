"""A person as messaging knows one: the accounts of a profile, folded when something is to be decided.

Facts stay with their account. So an account that moves to another profile takes them along, and nothing is rewritten.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from libs.common.contracts.types import Channel, ConsentState

_STRICTEST: tuple[ConsentState, ...] = ("unsubscribed", "subscribed", "pending")
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(
    rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@)(?!.*=\?){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+", re.ASCII
)

# Wider than what can be written to: whatever looks like an address is one to the person whose it is. The moment behind
# the @ of a run's key does not.
_WITHIN = re.compile(r"[^\s:@<>()\[\],;\"]+@(?!\d{8}T\d{6})[^\s:@<>()\[\],;\"]+")
_NUMBER = re.compile(r"(?<![\w+])\+\d{3,13}(\d\d)(?!\d)", re.ASCII)


class AccountFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one account."""

    account: str
    store: str
    email: str | None = None
    email_verified: bool = False
    first_name: str | None = None
    timezone: str | None = None
    deleted: bool = False
    consents: Mapping[str, ConsentState] = {}
    suppressed: str | None = None
    """Why its e-mail address is not to be written to."""
    withdrawn: bool = False
    """Somebody with this very address wants no e-mail, whoever of those who share it that was."""
    ordered_at: datetime | None = None
    """Latest counted order."""
    ordered_live_at: datetime | None = None
    """Latest counted order that was told as it happened, not backfilled or replayed."""
    active_at: datetime | None = None
    """Latest first-party event, or change of a cart or checkout."""
    active_live_at: datetime | None = None


class Person(Struct, frozen=True, kw_only=True):
    """All accounts of a profile, in the order of their keys."""

    profile: str
    accounts: tuple[AccountFacts, ...]

    @property
    def ordered_at(self) -> datetime | None:
        """Latest counted order."""
        return latest(account.ordered_at for account in self.accounts)

    @property
    def touched_at(self) -> datetime | None:
        """Latest counted order or activity."""
        return latest(moment for a in self.accounts for moment in (a.ordered_at, a.active_at))

    @property
    def touched_live(self) -> bool:
        """Whether the latest order or activity was told as it happened."""
        live = latest(moment for a in self.accounts for moment in (a.ordered_live_at, a.active_live_at))
        return live is not None and live == self.touched_at

    def consent(self, channel: Channel) -> ConsentState | None:
        """What holds over all accounts: one withdrawal outweighs every consent. None: never asked."""
        if channel == "email" and any(account.withdrawn for account in self.accounts):
            return "unsubscribed"
        said = {account.consents[channel] for account in self.accounts if channel in account.consents}
        return next((state for state in _STRICTEST if state in said), None)

    def erased(self, account: str) -> bool:
        """Whether the account is deleted, or nobody is left who could be written to."""
        own = next((facts for facts in self.accounts if facts.account == account), None)
        gone = any(facts.deleted for facts in self.accounts)
        return (own is not None and own.deleted) or (gone and self.address(account) is None)

    def address(self, account: str) -> str | None:
        """Where to write about something of `account`: its own address, else the best of the profile's."""
        usable = [facts for facts in self.accounts if not facts.deleted and usable_address(facts.email)]
        store = next((facts.store for facts in self.accounts if facts.account == account), None)
        best = min(
            usable,
            key=lambda f: (f.account != account, f.store != store, not f.email_verified, f.account),
            default=None,
        )
        return best.email if best else None

    def reachable(self, address: str) -> bool:
        """Whether `address` is still one of this person's."""
        return any(facts.email == address and not facts.deleted for facts in self.accounts)

    def suppressed(self, address: str) -> str | None:
        """Why `address` is not to be written to, if so."""
        return next((facts.suppressed for facts in self.accounts if facts.email == address and facts.suppressed), None)

    def first_name(self, account: str) -> str | None:
        """The name that the account gives, else any of the profile's."""
        named = [facts for facts in self.accounts if facts.first_name and not facts.deleted]
        best = min(named, key=lambda f: (f.account != account, f.account), default=None)
        return best.first_name if best else None

    def timezone(self, account: str) -> str | None:
        """The zone that the account gives, else any of the profile's."""
        zoned = [facts for facts in self.accounts if facts.timezone]
        best = min(zoned, key=lambda f: (f.account != account, f.account), default=None)
        return best.timezone if best else None

    def last_buyer(self) -> AccountFacts | None:
        """The account of the latest counted order."""
        buyers = [facts for facts in self.accounts if facts.ordered_at is not None]
        newest = self.ordered_at
        return next((facts for facts in buyers if facts.ordered_at == newest), None)


def latest(moments: Iterator[datetime | None]) -> datetime | None:
    """The latest of those that are there."""
    return max((moment for moment in moments if moment is not None), default=None)


def usable_address(address: str | None) -> bool:
    """Whether SMTP can carry it: ASCII dot-atom and a domain with a dot; nothing that a header would decode."""
    return address is not None and _ADDRESS.fullmatch(address) is not None


def masked(address: str) -> str:
    """For eyes that need not see it: `a…@example.com`."""
    local, at, domain = address.partition("@")
    return f"{local[:1]}…{at}{domain}"


def without_addresses(text: str) -> str:
    """The same with each e-mail address in it `masked`, and of each phone number only its last two digits.

    A guest's account is named after what he gave, and a run after the account.
    """
    return _NUMBER.sub(r"+…\1", _WITHIN.sub(lambda found: masked(found[0]), text))
