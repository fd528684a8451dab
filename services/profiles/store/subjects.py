"""What is known of each order, checkout, cart, product, store and person: loaded and saved a batch at a time.

A row's `state` is its Struct as JSON; the columns beside it are what queries need, derived from it. An order's rows
are only ever written by the owner of its partition, so they need no locks; a person's account is met from many
partitions, so its row is locked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from libs.common.db import Tx
from services.profiles import ledger
from services.profiles.carts import CartState
from services.profiles.checkouts import CheckoutState
from services.profiles.ledger import OrderState
from services.profiles.people import PersonState
from services.profiles.products import ProductState, StoreState
from services.profiles.timeline import Entry

S = TypeVar("S", bound=msgspec.Struct)
Key = tuple[str, ...]

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Subject(Generic[S]):
    """One table of states."""

    table: str
    key: tuple[str, ...]
    state: type[S]
    columns: tuple[tuple[str, str], ...]
    """Derived columns and their types."""
    project: Callable[[S], tuple[Any, ...]]
    lock: bool = False

    def load_sql(self) -> str:
        """Rows of the keys given as one array per key column."""
        arrays = ", ".join(f"${n}::text[]" for n in range(1, len(self.key) + 1))
        key = ", ".join(self.key)
        lock = f" ORDER BY {key} FOR UPDATE OF s" if self.lock else ""
        return f"SELECT {key}, s.state FROM {self.table} s JOIN unnest({arrays}) AS u({key}) USING ({key}){lock}"

    def save_sql(self) -> str:
        """Writes rows given as one array per column."""
        columns = [(name, "text") for name in (*self.key, "state")] + list(self.columns)
        arrays = ", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(columns, 1))
        names = ", ".join(name for name, _ in columns)
        changes = ", ".join(f"{name} = excluded.{name}" for name, _ in columns[len(self.key) :])
        key = ", ".join(self.key)
        return (
            f"INSERT INTO {self.table} ({names}) SELECT * FROM unnest({arrays}) AS u({names}) ORDER BY {key}"
            f" ON CONFLICT ({key}) DO UPDATE SET {changes}"
        )


def _order_columns(state: OrderState) -> tuple[Any, ...]:
    order = ledger.view(state)
    if order is None or state.snapshot is None:
        return (None,) * 6
    return order.account, state.snapshot.status, order.placed_at, order.counted, order.currency, order.net


OBJECT = ("tenant", "store", "source_id")
ORDERS = Subject(
    table="orders",
    key=OBJECT,
    state=OrderState,
    columns=(
        ("account", "text"),
        ("status", "text"),
        ("placed_at", "timestamptz"),
        ("counted", "boolean"),
        ("currency", "text"),
        ("net", "bigint"),
    ),
    project=_order_columns,
)
CHECKOUTS = Subject(
    table="checkouts",
    key=OBJECT,
    state=CheckoutState,
    columns=(("account", "text"),),
    project=lambda state: (state.account,),
)
CARTS = Subject(
    table="carts", key=OBJECT, state=CartState, columns=(("account", "text"),), project=lambda state: (state.account,)
)
PRODUCTS = Subject(table="products", key=OBJECT, state=ProductState, columns=(), project=lambda _: ())
STORES = Subject(table="stores", key=("tenant", "store"), state=StoreState, columns=(), project=lambda _: ())
PEOPLE = Subject(
    table="people",
    key=("tenant", "account"),
    state=PersonState,
    columns=(("first_seen_at", "timestamptz"), ("last_activity_at", "timestamptz")),
    project=lambda state: (state.first_seen_at, state.last_activity_at),
    lock=True,
)


@dataclass(slots=True)
class Loaded(Generic[S]):
    """The rows of a table that a batch touches."""

    subject: Subject[S]
    rows: dict[Key, S]
    changed: set[Key] = field(default_factory=set)

    def __getitem__(self, key: Key) -> S:
        return self.rows.get(key) or self.subject.state()

    def __setitem__(self, key: Key, state: S) -> None:
        if self.rows.get(key) != state:
            self.rows[key] = state
            self.changed.add(key)


@cache
def _decoder(state: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(state)


def decode(subject: Subject[S], state: str) -> S:
    """A row's `state` as its Struct."""
    decoded: S = _decoder(subject.state).decode(state)
    return decoded


async def load(tx: Tx, subject: Subject[S], keys: Iterable[Key]) -> Loaded[S]:
    """What is known of `keys`."""
    wanted = sorted(set(keys))
    if not wanted:
        return Loaded(subject, {})
    rows = await tx.pg.fetch(subject.load_sql(), *map(list, zip(*wanted, strict=True)))
    width = len(subject.key)
    return Loaded(subject, {tuple(row)[:width]: decode(subject, row["state"]) for row in rows})


async def save(tx: Tx, loaded: Loaded[S]) -> None:
    """Writes what has changed."""
    subject = loaded.subject
    if loaded.changed:
        rows = [
            (*key, _encoder.encode(loaded.rows[key]).decode(), *subject.project(loaded.rows[key]))
            for key in sorted(loaded.changed)
        ]
        await tx.pg.execute(subject.save_sql(), *map(list, zip(*rows, strict=True)))


async def known_entries(tx: Tx, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these (tenant, key) the timeline has already."""
    if not keys:
        return set()
    rows = await tx.pg.fetch(
        "SELECT tenant, key FROM timeline JOIN unnest($1::text[], $2::text[]) AS u(tenant, key) USING (tenant, key)",
        [tenant for tenant, _ in keys],
        [key for _, key in keys],
    )
    return {(row["tenant"], row["key"]) for row in rows}


async def write_entries(tx: Tx, entries: Mapping[tuple[str, str], Entry | None]) -> None:
    """Adds timeline entries by (tenant, key), or corrects them; None takes one off."""
    gone = sorted(place for place, entry in entries.items() if entry is None)
    if gone:
        await tx.pg.execute(
            "DELETE FROM timeline t USING unnest($1::text[], $2::text[]) AS u(tenant, key)"
            " WHERE t.tenant = u.tenant AND t.key = u.key",
            *map(list, zip(*gone, strict=True)),
        )
    rows = [
        (tenant, e.key, e.account, e.at, e.kind, e.store, e.subject, _encoder.encode(e.summary).decode())
        for (tenant, _), e in sorted(entries.items())
        if e is not None
    ]
    if not rows:
        return
    await tx.pg.execute(
        """
        INSERT INTO timeline (tenant, key, account, at, kind, store, subject, summary)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                             $8::text[])
        ON CONFLICT (tenant, key) DO UPDATE SET account = excluded.account, at = excluded.at, summary = excluded.summary
        """,
        *map(list, zip(*rows, strict=True)),
    )
