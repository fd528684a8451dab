"""Whose request it is, and how many he may make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.callers import Throttle, caller, networks

PROXIES = networks("10.0.0.0/8, 192.168.1.1,fd00::/8")
MINUTE = 60.0


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        # Nobody is asked whom he speaks for who is not trusted.
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        # What the caller himself put in front is behind the word of who heard him.
        ("10.1.2.3", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["6.6.6.6", "198.51.100.1, 192.168.1.1"], "198.51.100.1"),
        ("10.1.2.3", ["nonsense, 192.168.1.1"], "192.168.1.1"),
        ("10.1.2.3", ["nonsense"], "10.1.2.3"),
        ("10.1.2.3", [""], "10.1.2.3"),
        ("10.1.2.3", ["192.168.1.1"], "192.168.1.1"),
        ("10.1.2.3", ["6.6.6.6," + "10.0.0.1," * 1000 + "10.0.0.2"], "10.0.0.1"),
        # Of an IPv6 network whoever has it may take any address.
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["[2001:db8:1:2::9]:4711"], "2001:db8:1:2::/64"),
        ("fd00::1", ["[2001:db8:1:2::9]"], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8:1:2::443"], "2001:db8:1:2::/64"),
        # Azure says the port as well.
        ("10.1.2.3", ["203.0.113.9:443"], "203.0.113.9"),
        ("10.1.2.3", ["6.6.6.6, 203.0.113.9:50123, 192.168.1.1:443"], "203.0.113.9"),
        ("10.1.2.3", ["[::ffff:203.0.113.9]:443"], "203.0.113.9"),
        *(
            ("10.1.2.3", [bad], "10.1.2.3")
            for bad in ("1.2.3:443", "1.2.3.4:", "1.2.3.4:x", "[1.2.3.4", "[::1]443", ":443", "[]")
        ),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], ""),
        ("", [], ""),
    ],
)
def test_the_caller_is_whom_a_trusted_proxy_heard(peer: str | None, forwarded: list[str], found: str) -> None:
    assert caller(peer, forwarded, PROXIES) == found


def test_what_is_no_network_is_no_proxy() -> None:
    assert networks("") == ()
    for wrong in ("proxy.example", "10.0.0.1/8", "300.1.1.1"):
        with pytest.raises(ValueError, match=r".+"):
            networks(wrong)


def test_a_minutes_worth_at_once_and_then_as_fast_as_it_comes() -> None:
    throttle = Throttle(60)
    assert throttle.take("a", 50, 0.0) == 0.0
    assert throttle.take("a", 10, 0.0) == 0.0
    assert throttle.take("a", 3, 0.0) == pytest.approx(3.0)
    # What was refused took nothing.
    assert throttle.take("a", 3, 3.0) == 0.0
    assert throttle.take("b", 60, 3.0) == 0.0
    assert throttle.take("a", 1, 3.0) > 0.0
    assert throttle.take("a", 60, 3.0 + MINUTE) == 0.0


def test_no_limit_remembers_nobody() -> None:
    throttle = Throttle(0)
    assert throttle.take("a", 10**9, 0.0) == 0.0
    assert len(throttle) == 0


def test_a_flood_of_names_is_not_remembered() -> None:
    throttle = Throttle(10, most=100)
    for n in range(1000):
        throttle.take("busy", 1, 0.0)
        throttle.take(f"name {n}", 1, 0.0)
    assert len(throttle) == 100
    assert throttle.take("busy", 1, 0.0) > 0.0


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 80)), max_size=60))
def test_never_more_than_a_minutes_worth_and_what_has_come_since(asked: list[tuple[float, int]]) -> None:
    throttle = Throttle(60)
    now, taken = 0.0, 0
    for later, n in asked:
        now += later
        wait = throttle.take("a", n, now)
        if not wait:
            taken += min(n, 60)
        else:
            assert throttle.take("a", n, now + wait + 1e-6) == 0.0
            now, taken = now + wait + 1e-6, taken + min(n, 60)
        assert taken <= 60 + now + 1e-3
