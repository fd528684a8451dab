"""What every order is worth, and whether it counts: straight from the definitions, in cents."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from regulars.shop.catalog import tax_within
from regulars.shop.knowledge import Key, Knowledge, account_of
from regulars.shop.model import Order, Refund, StoreName

PLACED = frozenset({"on-hold", "processing", "completed", "refunded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """One order as it stands."""

    store: StoreName
    id: str
    account: str | None
    placed_at: datetime
    counted: bool
    deleted: bool
    gross: int
    discounts: int
    returns: int
    shipping: int
    """Less what of it was refunded; so are taxes."""
    taxes: int
    cart: str | None
    checkout: str | None
    order: Order
    refunds: tuple[Refund, ...]

    @property
    def net(self) -> int:
        """Gross less discounts and returns."""
        return self.gross - self.discounts - self.returns

    @property
    def total(self) -> int:
        """Net sales, shipping and taxes."""
        return self.net + self.shipping + self.taxes


def sales(known: Knowledge) -> list[Sale]:
    """Every order."""
    return [_sale(known, key, order) for key, order in known.orders.items()]


def sale(known: Knowledge, key: Key) -> Sale:
    """One order. KeyError when unknown."""
    return _sale(known, key, known.orders[key])


def _sale(known: Knowledge, key: Key, order: Order) -> Sale:
    gone_at = known.deleted.get(key)
    deleted = gone_at is not None and gone_at > order.updated_at
    if order.store == "shopify":
        counted = order.status != "voided" and not order.test and order.cancelled_at is None
        refunds = tuple(sorted(known.refunds[key].values(), key=lambda refund: refund.id))
        money = _shopify(order, refunds)
    else:
        counted = order.status in PLACED
        refunds = order.refunds
        money = _woocommerce(order, refunds)
    return Sale(
        store=order.store,
        id=str(order.id),
        account=account_of(order.store, order.contact),
        placed_at=order.created_at,
        counted=counted and not deleted,
        deleted=deleted,
        cart=order.cart,
        checkout=order.checkout,
        order=order,
        refunds=refunds,
        **money,
    )


def _shopify(order: Order, refunds: tuple[Refund, ...]) -> dict[str, int]:
    """Prices, discounts and shipping are printed with tax; a refund's lines too, its shipping without."""
    item_tax = sum(item.tax for item in order.items)
    back = [line for refund in refunds for line in refund.items]
    discounts = sum(item.discount - tax_within(item.discount) for item in order.items)
    return {
        "gross": sum(item.price * item.quantity - item.discount - item.tax for item in order.items) + discounts,
        "discounts": discounts,
        "returns": sum(paid - tax for _, _, paid, tax in back) + sum(refund.goodwill for refund in refunds),
        "shipping": order.shipping - order.shipping_tax - sum(refund.shipping for refund in refunds),
        "taxes": item_tax
        + order.shipping_tax
        - sum(tax for _, _, _, tax in back)
        - sum(refund.shipping_tax for refund in refunds),
    }


def _woocommerce(order: Order, refunds: tuple[Refund, ...]) -> dict[str, int]:
    """Everything is printed without tax, and of refunds only the total: items and their tax first, then shipping."""
    items = sum(item.price * item.quantity for item in order.items)
    fees = [fee.amount for fee in order.fees]
    discounts = sum(item.discount for item in order.items) - sum(fee for fee in fees if fee < 0)
    gross = items + sum(fee for fee in fees if fee > 0)
    item_tax = sum(item.tax for item in order.items) + sum(fee.tax for fee in order.fees)
    back = sum(refund.total for refund in refunds)
    goods = gross - discounts
    of_goods = min(back, goods + item_tax)
    returns = _half_up(Fraction(of_goods * goods, goods + item_tax)) if goods + item_tax else 0
    rest = back - of_goods
    charged = order.shipping + order.shipping_tax
    shipping = _half_up(Fraction(rest * order.shipping, charged)) if charged else 0
    return {
        "gross": gross,
        "discounts": discounts,
        "returns": returns,
        "shipping": order.shipping - shipping,
        "taxes": item_tax + order.shipping_tax - (of_goods - returns) - (rest - shipping),
    }


def _half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))
