"""What an app of the simulated Shopify has besides the shop's objects: its webhooks, and tokens that last for a day."""

import hmac
from itertools import count
from urllib.parse import parse_qs

from regulars.shop.shopify_parts import Json

CLIENT_ID = "8f14e45fceea167a5a36dedd4bea2543"
CLIENT_SECRET = "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"  # noqa: S105 - a simulated app's
_RIGHTS = {"ORDERS": "orders", "REFUNDS": "orders", "CARTS": "orders", "CHECKOUTS": "orders", "CUSTOMERS": "customers"}
"""Beginning of a topic -> what has to be read for it; the others are products."""
_KNOWN = {*_RIGHTS, "PRODUCTS", "INVENTORY", "FULFILLMENTS", "CUSTOMER", "APP"}


class AppWebhooks:
    """The subscriptions of one app: nobody else's are shown to it."""

    def __init__(self) -> None:
        self.there: dict[str, Json] = {}
        """By id: topic and uri."""
        self._numbers = count(1)

    def add(self, topic: str, uri: str) -> Json:
        """A new one; nobody is asked whether it may be."""
        id_ = f"gid://shopify/WebhookSubscription/{next(self._numbers)}"
        self.there[id_] = {"id": id_, "topic": topic, "uri": uri}
        return self.there[id_]

    def page(self, first: int, after: str | None) -> Json:
        """As it is listed; places are numbers."""
        begin = int(after or 0)
        nodes = [*self.there.values()][begin : begin + first]
        end = begin + len(nodes)
        return {"nodes": nodes, "pageInfo": {"hasNextPage": end < len(self.there), "endCursor": str(end)}}

    def subscribe(self, topic: str, uri: str, scopes: set[str]) -> Json | None:
        """None: there is no such topic."""
        family = topic.partition("_")[0]
        if family not in _KNOWN:
            return None
        if f"read_{_RIGHTS.get(family, 'products')}" not in scopes:
            return _refused(f"You do not have permission to create or update webhooks with {topic} topic.")
        if any((each["topic"], each["uri"]) == (topic, uri) for each in self.there.values()):
            return _refused("Address for this topic has already been taken")
        return {"webhookSubscription": self.add(topic, uri), "userErrors": []}

    def move(self, id_: str, uri: str) -> Json:
        """To another address."""
        if id_ not in self.there:
            return _refused("Webhook subscription does not exist")
        self.there[id_]["uri"] = uri
        return {"webhookSubscription": self.there[id_], "userErrors": []}


class AppGrant:
    """What it gives to an app that shows its id and secret."""

    def __init__(self) -> None:
        self.seconds = 86399
        self.granted: list[str] = []
        """All tokens, the last one last."""
        self.good: set[str] = set()

    def token(self, form: bytes) -> tuple[int, Json]:
        """Status and body."""
        asked = {name: values[0] for name, values in parse_qs(form.decode()).items()}
        if asked.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        known = f"{CLIENT_ID}:{CLIENT_SECRET}".encode()
        if not hmac.compare_digest(f"{asked.get('client_id')}:{asked.get('client_secret')}".encode(), known):
            return 400, {"error": "application_cannot_be_found"}
        self.granted.append(f"shpat_{len(self.granted):032x}")
        self.good.add(self.granted[-1])
        return 200, {"access_token": self.granted[-1], "scope": "read_orders", "expires_in": self.seconds}


def _refused(message: str) -> Json:
    return {"webhookSubscription": None, "userErrors": [{"message": message}]}
