"""What no mail may ever do, whatever flow sent it: asked of each mail by itself, beside the exact comparison."""

from datetime import datetime

from regulars.shop.knowledge import Basket
from regulars.shop.ledger import Sale
from regulars.shop.messages import CART, DELAYS, LAPSE, Postbox

BOUGHT, WITHDREW, NEVER = "bought since", "had withdrawn", "never consented"
RULES = (BOUGHT, WITHDREW, NEVER)


def against(postbox: Postbox, flow: str, address: str, at: datetime) -> list[str]:
    """Which of RULES a mail of `flow` to `address` at `at` breaks, by what is known at that moment."""
    known = postbox.known
    writers = known.accounts_with(address)
    accounts = {each for account in writers for each in known.accounts_of(account)}
    sales = postbox.sales_of(accounts)
    said = {known.consents[account][1] for account in accounts if account in known.consents}
    policies = {
        postbox.policies["shopify" if account.split(":")[1] == "shopify" else "woocommerce"] for account in writers
    }
    broken = []
    if not (_left_lying(postbox.baskets_of(accounts), sales) if flow == CART else _lapsed(sales, at)):
        broken.append(BOUGHT)
    if "unsubscribed" in said or address in postbox.gone:
        broken.append(WITHDREW)
    if "subscribed" not in said and not (sales and "soft_opt_in" in policies):
        broken.append(NEVER)
    return broken


def _left_lying(baskets: list[Basket], sales: list[Sale]) -> bool:
    """Whether the person has left something since the last order."""
    last = max((sale.placed_at for sale in sales), default=None)
    return any(b.items and not b.completed and (last is None or last < b.changed_at) for b in baskets)


def _lapsed(sales: list[Sale], at: datetime) -> bool:
    """Whether the person bought, and not within the month."""
    return bool(sales) and max(sale.placed_at for sale in sales) <= at - DELAYS[LAPSE][0]
