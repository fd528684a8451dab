"""Shopify's carts and checkouts."""

from regulars.shop.model import Cart, Checkout, Item
from regulars.shop.shopify_parts import Json, address, local, money, money_set, named_customer, recovery_url, zulu


def checkout_payload(checkout: Checkout) -> Json:
    """The body under `checkouts/create` and `/update`."""
    contact = checkout.contact
    value = sum(item.price * item.quantity for item in checkout.items)
    tax = sum(item.tax for item in checkout.items)
    return {
        "id": checkout.id,
        "token": checkout.token,
        "cart_token": checkout.cart,
        "email": contact.email,
        "phone": contact.phone if contact.email is None else None,
        "gateway": None,
        "buyer_accepts_marketing": checkout.ticked,
        "buyer_accepts_sms_marketing": False,
        "sms_marketing_phone": None,
        "created_at": local(checkout.created_at),
        "updated_at": local(checkout.updated_at),
        "completed_at": local(checkout.completed_at),
        "closed_at": None,
        "landing_site": "/",
        "note": "",
        "note_attributes": [],
        "referring_site": "",
        "shipping_lines": [],
        "taxes_included": True,
        "total_weight": 450 * len(checkout.items),
        "currency": "EUR",
        "presentment_currency": "EUR",
        "user_id": None,
        "location_id": None,
        "source_identifier": None,
        "source_name": "web",
        "device_id": None,
        "customer_locale": "de-DE",
        "line_items": [_checkout_line(item, place) for place, item in enumerate(checkout.items)],
        "name": f"#{checkout.id}",
        "abandoned_checkout_url": recovery_url(checkout),
        "discount_codes": [],
        "tax_lines": [{"price": money(tax), "rate": 0.19, "title": "MwSt", "channel_liable": False}],
        "subtotal_price": money(value),
        "total_discounts": "0.00",
        "total_duties": None,
        "total_line_items_price": money(value),
        "total_price": money(value),
        "total_tax": money(tax),
        "reservation_token": None,
        "billing_address": address(contact),
        "shipping_address": address(contact),
        "customer": named_customer(contact),
    }


def _checkout_line(item: Item, place: int) -> Json:
    product = item.product
    return {
        "key": f"{product.variant_id}:{place:032x}",
        "applied_discounts": [],
        "discount_allocations": [],
        "destination_location_id": 1_142_733_111,
        "fulfillment_service": "manual",
        "gift_card": False,
        "grams": 450,
        "origin_location_id": 1_142_733_112,
        "presentment_title": product.title,
        "presentment_variant_title": "",
        "product_id": product.id,
        "properties": None,
        "quantity": item.quantity,
        "requires_shipping": True,
        "sku": product.sku,
        "tax_lines": [{"price": money(item.tax), "rate": 0.19, "title": "MwSt", "channel_liable": False}],
        "taxable": True,
        "title": product.title,
        "variant_id": product.variant_id,
        "variant_title": "",
        "variant_price": money(item.price),
        "vendor": "Nordlicht",
        "user_id": None,
        "rank": None,
        "compare_at_price": None,
        "line_price": money(item.price * item.quantity),
        "price": money(item.price),
    }


def cart_payload(cart: Cart) -> Json:
    """Neither a customer nor an address nor a currency; the token sometimes with its key."""
    suffix = f"?key={cart.token[-8:]}" if cart.token.endswith(("0", "4", "a")) else ""
    return {
        "id": cart.token + suffix,
        "token": cart.token + suffix,
        "line_items": [_cart_line(item) for item in cart.items],
        "note": "",
        "updated_at": zulu(cart.updated_at),
        "created_at": zulu(cart.created_at),
    }


def _cart_line(item: Item) -> Json:
    product = item.product
    whole = item.price * item.quantity
    return {
        "id": product.variant_id,
        "properties": None,
        "quantity": item.quantity,
        "variant_id": product.variant_id,
        "key": f"{product.variant_id}:{item.id:032x}",
        "discounted_price": money(item.price),
        "discounts": [],
        "gift_card": False,
        "grams": 450,
        "line_price": money(whole),
        "line_price_set": money_set(whole),
        "original_line_price": money(whole),
        "original_price": money(item.price),
        "price": money(item.price),
        "price_set": money_set(item.price),
        "product_id": product.id,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        "total_discount": "0.00",
        "vendor": "Nordlicht",
    }
