"""Products and stores: the latest snapshot of each, variants each by themselves."""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from libs.common.contracts.commerce import ProductObserved, Removed, StoreObserved, Variant
from libs.common.contracts.customers import ProductChanged, StoreChanged
from libs.common.contracts.types import Origin
from services.profiles.facts import Told, Version, is_removed, latest, supersedes, version


class SeenVariant(Struct, frozen=True):
    """A variant as last told."""

    variant: Variant
    seen: Version


class ProductState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that was observed of one product."""

    snapshot: ProductObserved | None = None
    variants: dict[str, SeenVariant] = {}
    complete: Version | None = None
    """The latest snapshot that listed every variant: what was seen before it and is not in it is gone."""
    removed: Version | None = None
    revision: int = 0


class StoreState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A store as last told."""

    snapshot: StoreObserved | None = None
    revision: int = 0


def on_observed(state: ProductState, product: ProductObserved) -> ProductState:
    """The product described, with all its variants or only some."""
    seen = version(product)
    variants = dict(state.variants)
    for variant in product.variants:
        known = variants.get(variant.source_id)
        if known is None or seen >= known.seen:
            variants[variant.source_id] = SeenVariant(variant, seen)
    complete = latest(seen, state.complete) if product.variants_complete else state.complete
    if complete is not None:
        variants = {key: kept for key, kept in variants.items() if kept.seen >= complete}
    merged = replace(state, variants=variants, complete=complete)
    return replace(merged, snapshot=product) if supersedes(product, state.snapshot) else merged


def on_removed(state: ProductState, removed: Removed) -> ProductState:
    """The product was deleted."""
    return replace(state, removed=latest(version(removed), state.removed))


def view(state: ProductState) -> ProductChanged | None:
    """The product as consumers get it; None while only a tombstone is known."""
    product = state.snapshot
    if product is None:
        return None
    return ProductChanged(
        store=product.store,
        source_id=product.source_id,
        title=product.title,
        status=product.status,
        currency=product.currency,
        url=product.url,
        image=product.image,
        variants=[state.variants[key].variant for key in sorted(state.variants)],
        deleted=is_removed(state.removed, product),
        revision=state.revision,
    )


def decide(
    before: ProductState, after: ProductState, *, at: datetime, origin: Origin
) -> tuple[ProductState, list[Told]]:
    """What to publish of the step, and `after` with that noted."""
    shown, previous = view(after), view(before)
    if shown is None or shown == previous:
        return after, []
    noted = replace(after, revision=after.revision + 1)
    fact = replace(shown, revision=noted.revision, origin=origin)
    key = f"product:{fact.store}:{fact.source_id}"
    told = [Told("product.changed", key, at, fact)]
    back = _restocked(previous, shown) if previous is not None else []
    if back:
        told.append(Told("product.restocked", key, at, replace(fact, restocked=back)))
    return noted, told


def _restocked(before: ProductChanged, after: ProductChanged) -> list[str]:
    """Variants that went from none to some. An unknown stock is neither."""
    stock = {variant.source_id: variant.stock for variant in before.variants}
    gone = {key for key, pieces in stock.items() if pieces is not None and pieces <= 0}
    return [v.source_id for v in after.variants if v.source_id in gone and v.stock is not None and v.stock > 0]


def on_store(state: StoreState, store: StoreObserved) -> tuple[StoreState, list[Told]]:
    """A store registered or changed: its state with that noted, and what to publish."""
    known = state.snapshot
    if not supersedes(store, known):
        return state, []
    noted = replace(state, snapshot=store)
    if known is not None and _described(known) == _described(store):
        return noted, []
    noted = replace(noted, revision=state.revision + 1)
    fact = StoreChanged(
        store=store.source_id,
        origin=store.origin,
        platform=store.platform,
        name=store.name,
        domain=store.domain,
        currency=store.currency,
        timezone=store.timezone,
        consent_policy=store.consent_policy,
        email=store.email,
        postal_address=store.postal_address,
        paused_at=store.paused_at,
        resumed_at=store.resumed_at,
        deleted_at=store.deleted_at,
        revision=noted.revision,
    )
    return noted, [Told("store.changed", f"store:{store.source_id}", store.updated_at, fact)]


def _described(store: StoreObserved) -> tuple[str | datetime | None, ...]:
    told = (store.platform, store.name, store.domain, store.currency, store.timezone, store.consent_policy)
    return *told, store.email, store.postal_address, store.paused_at, store.resumed_at, store.deleted_at
