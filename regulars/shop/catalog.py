"""What the merchant sells, and the two stores that it is sold in."""

from random import Random

from regulars.shop.model import Product, StoreSpec

SHOPIFY = StoreSpec(
    name="shopify",
    title="Nordlicht Keramik",
    domain="nordlicht-keramik.myshopify.com",
    secret="shpss_5f0c1d9b7a3e4c628d1f",  # noqa: S106 - a simulated store's
    policy="explicit",
)
WOOCOMMERCE = StoreSpec(
    name="woocommerce",
    title="Nordlicht Werkstatt",
    domain="https://werkstatt.nordlicht.example",
    secret="wc-hook-secret-93b1f27e",  # noqa: S106 - a simulated store's
    policy="soft_opt_in",
)
STORES = (SHOPIFY, WOOCOMMERCE)

TAX_PERCENT = 19
FIRST_BIG_ID = 2**53 + 1

_GLAZES = ("Moos", "Nebel", "Sand", "Tinte", "Rost", "Schnee")
_PIECES = (
    ("Teeschale", 2400),
    ("Becher „Größe M“", 1890),
    ("Frühstücksteller", 2650),
    ("Vase", 5900),
    ("Espressotasse", 1450),
    ("Servierplatte", 7800),
    ("Müslischüssel", 2190),
    ("Kerzenhalter", 3350),
)


def products(store: str, dice: Random) -> list[Product]:
    """The catalogue of one store: 48 products, their ids as large as the platform's."""
    base = 8_412_000_000_000 if store == "shopify" else 100
    made = []
    for number, (piece, price) in enumerate((p, g) for p in _PIECES for g in range(len(_GLAZES))):
        glaze = _GLAZES[price]
        title, cents = piece
        product_id = base + number * 3
        if store == "shopify" and number % 4 == 0:
            product_id = FIRST_BIG_ID + number * 2
        made.append(
            Product(
                id=product_id,
                variant_id=product_id + 1 if store == "shopify" else 0,
                title=f"{title} {glaze}",
                sku=f"NK-{number:03d}",
                price=cents + 50 * dice.randrange(5),
            )
        )
    return made


def tax_within(cents: int) -> int:
    """The tax that a price with tax contains, rounded half up."""
    return (cents * TAX_PERCENT * 2 + 100 + TAX_PERCENT) // (2 * (100 + TAX_PERCENT))


def tax_upon(cents: int) -> int:
    """The tax that comes on top of a price without tax, rounded half up (half away from zero below it)."""
    sign = -1 if cents < 0 else 1
    return sign * ((abs(cents) * TAX_PERCENT * 2 + 100) // 200)
