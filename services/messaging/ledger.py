"""The send ledger: one row for each intent to say something to someone, and what may become of it."""

from typing import Literal, assert_never

State = Literal["planned", "claimed", "held", "sent", "failed", "unknown", "skipped"]

STATES: tuple[State, ...] = ("planned", "claimed", "held", "sent", "failed", "unknown", "skipped")
OPEN: tuple[State, ...] = ("planned", "held")
"""Waiting to be asked about (again)."""
DELIVERED: tuple[State, ...] = ("claimed", "sent", "unknown")
"""It reached the person, or may have: counts for the cap."""


def following(state: State) -> frozenset[State]:
    """The states that may come next."""
    match state:
        case "planned":
            # Stays planned while something must be known first, such as the store.
            return frozenset({"planned", "claimed", "held", "skipped"})
        case "held":
            # Resumed or let go: asked again from the top.
            return frozenset({"planned", "claimed", "held", "skipped"})
        case "claimed":
            # Back to planned only when the provider certainly took no byte of the message.
            return frozenset({"planned", "sent", "failed", "unknown"})
        case "unknown":
            # Settled by a late answer; never sent again.
            return frozenset({"sent", "failed"})
        case "sent" | "failed" | "skipped":
            return frozenset()
        case _:
            assert_never(state)


def sources(state: State) -> tuple[State, ...]:
    """The states from which `state` may be entered: what an UPDATE of the ledger must find."""
    return tuple(source for source in STATES if state in following(source))
