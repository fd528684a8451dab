"""When a store's silence is worth a look."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.silence import HISTORY, LEAST, silence

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR, MINUTE, WEEK = timedelta(hours=1), timedelta(minutes=1), timedelta(weeks=1)
FULL = (1 << 60) - 1


def heard(*moments: datetime) -> dict[datetime, int]:
    """The hours in which these came."""
    hours: Counter[datetime] = Counter()
    for moment in moments:
        hour = moment.replace(minute=0, second=0, microsecond=0)
        hours[hour] |= 1 << moment.minute
    return dict(hours)


def steadily(every: timedelta, *, weeks: int = 4, until: datetime = MONDAY) -> dict[datetime, int]:
    """One each so long, by day and night."""
    return heard(*(until - n * every for n in range(1, weeks * WEEK // every + 1)))


def open_by_day(zone_hours: range, per_hour: int, *, until: datetime) -> dict[datetime, int]:
    """`per_hour` minutes in each of these hours, UTC, in four weeks."""
    minutes = sum(1 << n * (60 // per_hour) for n in range(per_hour))
    hours = (until - n * HOUR for n in range(1, 28 * 24 + 1))
    return {hour: minutes for hour in hours if hour.hour in zone_hours}


def test_a_store_that_nothing_ever_came_of_has_no_silence() -> None:
    assert silence({}, "UTC", MONDAY) is None
    assert silence({MONDAY: 0}, "UTC", MONDAY + WEEK) is None


def test_less_than_a_week_says_nothing() -> None:
    first = MONDAY - WEEK
    assert silence(heard(first, MONDAY - MINUTE), "UTC", MONDAY + WEEK) is None
    assert silence(heard(first, MONDAY), "UTC", MONDAY + WEEK) is not None


def test_since_the_last_minute_and_what_was_usual() -> None:
    found = silence(steadily(6 * MINUTE), "UTC", MONDAY + HOUR)
    assert found is not None
    assert found.since == MONDAY - 6 * MINUTE
    # Ten an hour, since the end of the last minute.
    assert found.expected == pytest.approx(10 * 65 / 60, abs=0.1)


def test_a_silence_becomes_unusual_once() -> None:
    hours = steadily(10 * MINUTE)
    told = [silence(hours, "UTC", MONDAY + n * MINUTE) for n in range(240)]
    unusual = [each is not None and each.unusual for each in told]
    assert unusual[0] is False
    assert unusual[-1] is True
    assert sorted(unusual) == unusual


def test_however_busy_a_store_some_minutes_are_no_silence() -> None:
    hours = {MONDAY - n * HOUR: FULL for n in range(1, 28 * 24 + 1)}
    last = MONDAY - MINUTE
    almost = silence(hours, "UTC", last + LEAST - timedelta(seconds=1))
    enough = silence(hours, "UTC", last + 2 * LEAST)
    assert almost is not None
    assert enough is not None
    assert (almost.unusual, enough.unusual) == (False, True)


def test_nobody_expects_anything_by_night() -> None:
    evening = MONDAY.replace(hour=18)
    hours = open_by_day(range(8, 18), 6, until=evening)
    night, noon = (silence(hours, "UTC", evening + n * HOUR) for n in (13, 20))
    assert night is not None
    assert night.expected < 1
    assert not night.unusual
    assert noon is not None
    assert noon.unusual


def test_a_shop_keeps_its_hours_when_the_clocks_change() -> None:
    # Berlin, 29 March 2026: from UTC+1 to UTC+2. Open from 8 to 18 local time: 7 to 17 UTC before.
    saturday = datetime(2026, 3, 28, 17, tzinfo=UTC)
    hours = open_by_day(range(7, 17), 6, until=saturday)
    morning = datetime(2026, 3, 29, 7, tzinfo=UTC)
    there, elsewhere = silence(hours, "Europe/Berlin", morning), silence(hours, "UTC", morning)
    assert there is not None
    assert elsewhere is not None
    assert there.expected - elsewhere.expected == pytest.approx(6, abs=0.1)


def test_what_comes_in_bursts_is_not_taken_for_so_many() -> None:
    """Four minutes of each order: in the mean as busy as a store with one, and silent for longer."""
    noise = random.Random(7)
    minutes = [MONDAY - n * MINUTE for n in range(1, 28 * 24 * 60)]
    single = heard(*(m for m in minutes if noise.random() < 0.1))
    burst = heard(*(m - n * MINUTE for m in minutes if noise.random() < 0.025 for n in range(4)))

    def unusual_after(hours: dict[datetime, int]) -> int:
        found = (silence(hours, "UTC", MONDAY + n * MINUTE) for n in range(2000))
        return next(n for n, each in enumerate(found) if each is not None and each.unusual)

    assert 2 * unusual_after(single) < unusual_after(burst) < 8 * unusual_after(single)


@pytest.mark.parametrize("minutes_of_an_order", [(0,), (0, 2, 5)], ids=["one", "made, paid and sent"])
def test_a_shop_that_is_well_is_hardly_ever_told_of(minutes_of_an_order: tuple[int, ...]) -> None:
    """Eight weeks of a random shop, looked at each half an hour of the last four."""
    noise = random.Random(23)
    begin = MONDAY - 8 * WEEK
    moments = [
        begin + (minute + after) * MINUTE
        for minute in range(8 * 7 * 24 * 60)
        if noise.random() < (0.15 if 8 <= minute // 60 % 24 < 20 else 0.01)
        for after in minutes_of_an_order
    ]
    hours = heard(*moments)
    alarms = looks = 0
    for n in range(0, 28 * 24 * 60, 30):
        now = MONDAY - 4 * WEEK + n * MINUTE
        hour = now.replace(minute=0)
        recent = {each: minutes for each, minutes in hours.items() if hour - HISTORY <= each < hour}
        recent[hour] = hours.get(hour, 0) & ((1 << now.minute) - 1)
        found = silence(recent, "UTC", now)
        looks += 1
        alarms += found is not None and found.unusual
    assert looks == 1344
    assert alarms <= 4


HISTORIES = st.dictionaries(
    st.integers(1, 28 * 24).map(lambda n: MONDAY - n * HOUR), st.integers(0, FULL), min_size=1, max_size=60
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia"])


@given(HISTORIES, ZONES, st.integers(0, 40 * 24 * 60), st.integers(0, 40 * 24 * 60))
def test_it_only_grows_as_time_goes_by(hours: dict[datetime, int], zone: str, early: int, later: int) -> None:
    early, later = sorted((early, later))
    before, after = (silence(hours, zone, MONDAY + n * MINUTE) for n in (early, later))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert before.since == after.since
        assert 0 <= before.expected <= after.expected
        assert before.unusual <= after.unusual


@given(HISTORIES, ZONES, st.integers(1, 40 * 24 * 60))
def test_what_has_just_come_ends_it(hours: dict[datetime, int], zone: str, n: int) -> None:
    now = MONDAY + n * MINUTE
    ended = silence(hours | {now.replace(minute=0): 1 << now.minute}, zone, now)
    assert ended is None or (ended.since, ended.expected, ended.unusual) == (now, 0.0, False)


@given(HISTORIES, ZONES, st.integers(0, 40 * 24 * 60))
def test_hours_without_anything_may_be_left_out(hours: dict[datetime, int], zone: str, n: int) -> None:
    now = MONDAY + n * MINUTE
    empty = {MONDAY + m * HOUR: 0 for m in range(-700, 100)}
    assert silence(empty | hours, zone, now) == silence(hours, zone, now)
