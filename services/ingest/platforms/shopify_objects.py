"""Shopify's objects as its Admin GraphQL API has them: what is asked for and no more, by the schema's own names."""

from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from services.ingest.printed import Scalar

T = TypeVar("T")


class PageInfo(Struct, rename="camel"):
    """Whether a list goes on, and behind what."""

    has_next_page: bool = False
    end_cursor: str | None = None


class Connection(Struct, Generic[T], rename="camel"):
    """A list that is told page by page."""

    nodes: list[T] = []
    page_info: PageInfo = msgspec.field(default_factory=PageInfo)


class Money(Struct, rename="camel"):
    """One amount."""

    amount: Scalar = None
    currency_code: Scalar = None


class Bag(Struct, rename="camel"):
    """An amount in the shop's money."""

    shop_money: Money | None = None


class Named(Struct, rename="camel"):
    """Another object: its id, as webhooks have it."""

    legacy_resource_id: Scalar = None


class TaxLine(Struct, rename="camel"):
    """`rate` 0.19 is 19 %."""

    rate: Scalar = None
    price_set: Bag | None = None


class Allocation(Struct, rename="camel"):
    """What a line bears of a discount."""

    allocated_amount_set: Bag | None = None


class LineItem(Struct, rename="camel"):
    """Of an order."""

    id: Scalar = None
    title: Scalar = None
    quantity: Scalar = None
    sku: Scalar = None
    original_unit_price_set: Bag | None = None
    discount_allocations: list[Allocation] = []
    tax_lines: list[TaxLine] = []
    variant: Named | None = None
    product: Named | None = None


class ShippingLine(Struct, rename="camel"):
    """Of an order; removed ones are not listed."""

    original_price_set: Bag | None = None
    discounted_price_set: Bag | None = None
    tax_lines: list[TaxLine] = []


class Owned(Struct, rename="camel"):
    """A line: its id, as GraphQL has it."""

    id: Scalar = None


class RefundLineItem(Struct, rename="camel"):
    """What came back of a line."""

    quantity: Scalar = None
    subtotal_set: Bag | None = None
    total_tax_set: Bag | None = None
    line_item: Owned | None = None


class RefundShippingLine(Struct, rename="camel"):
    """What was given back of the shipping."""

    subtotal_amount_set: Bag | None = None
    tax_amount_set: Bag | None = None


class Adjustment(Struct, rename="camel"):
    """By how much a refund differs from what was calculated; negative: the buyer got more."""

    reason: Scalar = None
    amount_set: Bag | None = None
    tax_amount_set: Bag | None = None


class Transaction(Struct, rename="camel"):
    """Money that moved."""

    kind: Scalar = None
    status: Scalar = None
    amount_set: Bag | None = None


class Duty(Struct, rename="camel"):
    """Given back."""

    amount_set: Bag | None = None


class Refund(Struct, rename="camel"):
    """Of an order."""

    id: Scalar = None
    legacy_resource_id: Scalar = None
    created_at: Scalar = None
    note: Scalar = None
    duties: list[Duty] | None = None
    refund_line_items: Connection[RefundLineItem] = msgspec.field(default_factory=Connection)
    refund_shipping_lines: Connection[RefundShippingLine] = msgspec.field(default_factory=Connection)
    order_adjustments: Connection[Adjustment] = msgspec.field(default_factory=Connection)
    transactions: Connection[Transaction] = msgspec.field(default_factory=Connection)


class Fulfillment(Struct, rename="camel"):
    """Of an order."""

    status: Scalar = None
    created_at: Scalar = None


class Address(Struct, rename="camel"):
    """Billing, shipping or default."""

    first_name: Scalar = None
    last_name: Scalar = None
    phone: Scalar = None
    country_code_v2: Scalar = msgspec.field(name="countryCodeV2", default=None)


class Email(Struct, rename="camel"):
    """A customer's, with what may be sent there."""

    email_address: Scalar = None
    marketing_state: Scalar = None
    marketing_updated_at: Scalar = None


class Phone(Struct, rename="camel"):
    """As `Email`."""

    phone_number: Scalar = None
    marketing_state: Scalar = None
    marketing_updated_at: Scalar = None


class Customer(Struct, rename="camel"):
    """By itself; an order names some of it."""

    legacy_resource_id: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    first_name: Scalar = None
    last_name: Scalar = None
    verified_email: Scalar = None
    tags: list[Scalar] = []
    default_email_address: Email | None = None
    default_phone_number: Phone | None = None
    default_address: Address | None = None


class Order(Struct, rename="camel"):
    """Whole, once its connections are read to their ends."""

    id: Scalar = None
    legacy_resource_id: Scalar = None
    name: Scalar = None
    created_at: Scalar = None
    processed_at: Scalar = None
    updated_at: Scalar = None
    cancelled_at: Scalar = None
    currency_code: Scalar = None
    display_financial_status: Scalar = None
    display_fulfillment_status: Scalar = None
    test: Scalar = None
    taxes_included: Scalar = None
    email: Scalar = None
    phone: Scalar = None
    customer_locale: Scalar = None
    customer_accepts_marketing: Scalar = None
    total_discounts_set: Bag | None = None
    total_tax_set: Bag | None = None
    original_total_duties_set: Bag | None = None
    original_total_additional_fees_set: Bag | None = None
    line_items: Connection[LineItem] = msgspec.field(default_factory=Connection)
    shipping_lines: Connection[ShippingLine] = msgspec.field(default_factory=Connection)
    fulfillments: list[Fulfillment] = []
    refunds: list[Refund] = []
    customer: Customer | None = None
    billing_address: Address | None = None
    shipping_address: Address | None = None


class CheckoutLine(Struct, rename="camel"):
    """Of a checkout."""

    title: Scalar = None
    quantity: Scalar = None
    sku: Scalar = None
    original_unit_price_set: Bag | None = None
    original_total_price_set: Bag | None = None
    discounted_total_price_with_code_discount: Bag | None = None
    variant: Named | None = None
    product: Named | None = None


class Checkout(Struct, rename="camel"):
    """One that was left, bought later or not; whole, once its lines are read to their end."""

    id: Scalar = None
    created_at: Scalar = None
    updated_at: Scalar = None
    completed_at: Scalar = None
    abandoned_checkout_url: Scalar = None
    total_price_set: Bag | None = None
    line_items: Connection[CheckoutLine] = msgspec.field(default_factory=Connection)
    customer: Customer | None = None
    billing_address: Address | None = None
    shipping_address: Address | None = None


class InventoryItem(Struct, rename="camel"):
    """Whether its pieces are counted."""

    tracked: Scalar = None


class Variant(Struct, rename="camel"):
    """Of a product."""

    legacy_resource_id: Scalar = None
    title: Scalar = None
    sku: Scalar = None
    price: Scalar = None
    inventory_quantity: Scalar = None
    inventory_item: InventoryItem | None = None


class Image(Struct, rename="camel"):
    """Where it is."""

    url: Scalar = None


class Preview(Struct, rename="camel"):
    """Of a medium."""

    image: Image | None = None


class Media(Struct, rename="camel"):
    """An image, or what has one to be seen by."""

    preview: Preview | None = None


class Product(Struct, rename="camel"):
    """Whole, once its variants are read to their end."""

    id: Scalar = None
    legacy_resource_id: Scalar = None
    title: Scalar = None
    handle: Scalar = None
    status: Scalar = None
    updated_at: Scalar = None
    featured_media: Media | None = None
    variants: Connection[Variant] = msgspec.field(default_factory=Connection)


class Part(NamedTuple):
    """A list within an object that may go on behind its first page."""

    owner: str
    """Whose it is, as GraphQL names it; empty when that was not told."""
    name: str
    connection: Connection[Any]


AnyObject = Order | Customer | Product | Checkout


def parts(one: AnyObject) -> Iterator[Part]:
    """All lists of an object that are told page by page."""
    match one:
        case Order():
            yield Part(_gid(one.id), "lineItems", one.line_items)
            yield Part(_gid(one.id), "shippingLines", one.shipping_lines)
            for refund in one.refunds:
                yield Part(_gid(refund.id), "refundLineItems", refund.refund_line_items)
                yield Part(_gid(refund.id), "refundShippingLines", refund.refund_shipping_lines)
                yield Part(_gid(refund.id), "orderAdjustments", refund.order_adjustments)
                yield Part(_gid(refund.id), "transactions", refund.transactions)
        case Product():
            yield Part(_gid(one.id), "variants", one.variants)
        case Checkout():
            yield Part(_gid(one.id), "checkoutLines", one.line_items)
        case Customer():
            pass


def _gid(value: Scalar) -> str:
    return value if isinstance(value, str) else ""
