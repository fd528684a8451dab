"""Shopify's orders and refunds."""

from regulars.shop.model import Order, Refund
from regulars.shop.shopify_parts import Json, address, gid, line, local, money, money_set, named_customer, tax_line


def order_payload(order: Order) -> Json:
    """The body under each of `orders/*`."""
    contact = order.contact
    value = sum(item.price * item.quantity for item in order.items)
    discounts = sum(item.discount for item in order.items)
    tax = sum(item.tax for item in order.items) + order.shipping_tax
    total = value - discounts + order.shipping
    back = sum(refund.total for refund in order.refunds)
    return {
        "id": order.id,
        "admin_graphql_api_id": gid("Order", order.id),
        "app_id": 580_111,
        "browser_ip": contact.ip or None,
        "buyer_accepts_marketing": order.ticked,
        "cancel_reason": "customer" if order.cancelled_at else None,
        "cancelled_at": local(order.cancelled_at),
        "cart_token": order.cart,
        "checkout_token": order.checkout,
        "client_details": {"accept_language": "de-DE", "browser_ip": contact.ip, "user_agent": contact.agent}
        if contact.agent
        else None,
        "closed_at": None,
        "confirmed": True,
        "contact_email": contact.email,
        "created_at": local(order.created_at),
        "currency": "EUR",
        "current_total_price": money(total - back),
        "current_total_price_set": money_set(total - back),
        "customer_locale": "de-DE",
        "discount_applications": _applications(order),
        "discount_codes": [{"code": order.coupon, "amount": money(discounts), "type": "percentage"}]
        if order.coupon
        else [],
        "email": contact.email or "",
        "estimated_taxes": False,
        "financial_status": order.status,
        "fulfillment_status": "fulfilled" if order.fulfilled_at else None,
        "landing_site": "/",
        "location_id": None,
        "name": order.number,
        "note": None,
        "note_attributes": [],
        "number": int(order.number[1:]) - 1000,
        "order_number": int(order.number[1:]),
        "payment_gateway_names": ["shopify_payments"],
        "phone": contact.phone if contact.email is None else None,
        "presentment_currency": "EUR",
        "processed_at": local(order.created_at),
        "referring_site": "https://www.google.com/",
        "source_name": order.source,
        "subtotal_price": money(value - discounts),
        "subtotal_price_set": money_set(value - discounts),
        "tags": "",
        "tax_exempt": False,
        "tax_lines": [tax_line(tax)],
        "taxes_included": True,
        "test": order.test,
        "token": f"{order.id:032x}",
        "total_discounts": money(discounts),
        "total_discounts_set": money_set(discounts),
        "total_line_items_price": money(value),
        "total_line_items_price_set": money_set(value),
        "total_outstanding": "0.00",
        "total_price": money(total),
        "total_price_set": money_set(total),
        "total_shipping_price_set": money_set(order.shipping),
        "total_tax": money(tax),
        "total_tax_set": money_set(tax),
        "total_tip_received": "0.00",
        "total_weight": 450 * len(order.items),
        "updated_at": local(order.updated_at),
        "user_id": 548_380_009 if order.source == "pos" else None,
        "billing_address": address(contact),
        "shipping_address": address(contact),
        "customer": named_customer(contact),
        "fulfillments": _fulfillments(order),
        "line_items": [line(item) for item in order.items],
        "payment_terms": None,
        "refunds": [refund_payload(order, refund) for refund in order.refunds],
        "shipping_lines": _shipping(order.shipping, order.shipping_tax) if order.shipping else [],
    }


def _shipping(cents: int, tax: int) -> list[Json]:
    return [
        {
            "id": 3_634_210_111 + cents,
            "code": "DHL Paket",
            "title": "DHL Paket",
            "source": "shopify",
            "carrier_identifier": None,
            "price": money(cents),
            "price_set": money_set(cents),
            "discounted_price": money(cents),
            "discounted_price_set": money_set(cents),
            "discount_allocations": [],
            "is_removed": False,
            "tax_lines": [tax_line(tax)],
        }
    ]


def _applications(order: Order) -> list[Json]:
    if not order.coupon:
        return []
    return [
        {
            "target_type": "line_item",
            "type": "discount_code",
            "value": order.coupon.removeprefix("NORD") + ".0",
            "value_type": "percentage",
            "allocation_method": "across",
            "target_selection": "all",
            "code": order.coupon,
        }
    ]


def _fulfillments(order: Order) -> list[Json]:
    if order.fulfilled_at is None:
        return []
    at = local(order.fulfilled_at)
    return [{"id": order.id % 10**12, "order_id": order.id, "status": "success", "created_at": at, "updated_at": at}]


def refund_payload(order: Order, refund: Refund) -> Json:
    """Line amounts are JSON numbers; what is no line is an adjustment, printed negative."""
    lines = {item.id: item for item in order.items}
    adjustments = []
    if refund.shipping:
        adjustments.append(_adjustment(refund, 1, "shipping_refund", refund.shipping, refund.shipping_tax))
    if refund.goodwill:
        adjustments.append(_adjustment(refund, 2, "refund_discrepancy", refund.goodwill, 0))
    return {
        "id": refund.id,
        "admin_graphql_api_id": gid("Refund", refund.id),
        "order_id": order.id,
        "created_at": local(refund.at),
        "processed_at": local(refund.at),
        "note": refund.reason,
        "user_id": 548_380_009,
        "restock": True,
        "duties": [],
        "additional_fees": [],
        "order_adjustments": adjustments,
        "refund_line_items": [
            {
                "id": refund.id * 10 + place,
                "line_item_id": line_id,
                "location_id": 487_838_322,
                "quantity": quantity,
                "restock_type": "return",
                "subtotal": subtotal / 100,
                "subtotal_set": money_set(subtotal),
                "total_tax": tax / 100,
                "total_tax_set": money_set(tax),
                "line_item": line(lines[line_id]),
            }
            for place, (line_id, quantity, subtotal, tax) in enumerate(refund.items)
        ],
        "transactions": [
            {
                "id": refund.id * 10 + 9,
                "order_id": order.id,
                "kind": "refund",
                "status": "success",
                "amount": money(refund.total),
                "currency": "EUR",
                "gateway": "shopify_payments",
                "test": False,
                "created_at": local(refund.at),
            }
        ]
        if refund.total
        else [],
    }


def _adjustment(refund: Refund, place: int, kind: str, cents: int, tax: int) -> Json:
    return {
        "id": refund.id * 10 + 4 + place,
        "refund_id": refund.id,
        "kind": kind,
        "reason": kind.replace("_", " ").capitalize(),
        "amount": money(-cents),
        "amount_set": money_set(-cents),
        "tax_amount": money(-tax),
        "tax_amount_set": money_set(-tax),
    }
