"""Which webhooks are ours, and how it is with them."""

import pytest

from services.ingest import shopify, woocommerce
from services.ingest.platforms.port import Subscription
from services.ingest.wanted import WANTED, known_as, ours, path_of, seen, unreachable

PATH = path_of("woocommerce", "st_1")
HERE = f"https://regulars.example{PATH}"


def hook(id_: str, topic: str = "order.created", address: str = HERE, *, active: bool = True) -> Subscription:
    return Subscription(id_, topic, address, active)


def test_only_what_comes_to_this_store_is_ours() -> None:
    mine = [hook("1"), hook("2", address=f"http://before.example:8080{PATH}/")]
    others = [
        hook("3", address="https://erp.example/hook"),
        hook("4", address=f"{HERE}2"),
        hook("5", address=f"https://erp.example/?to={PATH}&x=1"),
        hook("6", address=path_of("shopify", "st_1")),
        hook("7", address=""),
    ]
    assert ours([*mine, *others], PATH) == mine


@pytest.mark.parametrize(
    ("mine", "state", "id_"),
    [
        ([], "missing", None),
        ([hook("1", "order.updated")], "missing", None),
        ([hook("1", active=False)], "disabled", "1"),
        ([hook("1", active=False), hook("2")], "active", "2"),
        ([hook("1", address=f"https://before.example{PATH}"), hook("2", active=False)], "disabled", "2"),
        ([hook("1", address=f"https://before.example{PATH}")], "elsewhere", "1"),
        ([hook("1"), hook("2")], "active", "1"),
    ],
)
def test_of_several_of_one_topic_the_best_counts(mine: list[Subscription], state: str, id_: str | None) -> None:
    [one] = seen(mine, ["order.created"], HERE)
    assert (one.state, one.subscription and one.subscription.id) == (state, id_)


def test_what_is_missing_may_have_been_there() -> None:
    assert [known_as("missing", before) for before in (None, "missing", "active", "disabled", "gone", "unwanted")] == [
        "missing", "missing", "gone", "gone", "gone", "unwanted"
    ]  # fmt: skip
    assert known_as("active", "gone") == "active"
    assert known_as("disabled", "unwanted") == "disabled"


def test_all_that_is_read_is_wanted_but_for_what_says_nothing() -> None:
    assert set(shopify.TOPICS) - set(WANTED["shopify"]) == {
        "orders/edited",
        "customers/data_request",
        "customers/redact",
        "shop/redact",
    }
    assert set(woocommerce.TOPICS) == set(WANTED["woocommerce"])


@pytest.mark.parametrize(
    ("url", "platform", "reached"),
    [
        ("https://regulars.example", "shopify", True),
        ("http://regulars.example", "shopify", False),
        ("http://regulars.example", "woocommerce", True),
        ("https://8.8.8.8", "woocommerce", True),
        ("https://192.168.0.4", "woocommerce", False),
        ("https://[::1]:8080", "woocommerce", False),
        ("https://localhost:8443", "shopify", False),
    ],
)
def test_which_addresses_a_shop_reaches(url: str, platform: str, reached: bool) -> None:  # noqa: FBT001
    assert (unreachable(url, platform, inside=False) is None) == reached
    assert unreachable(url, platform, inside=True) is None
