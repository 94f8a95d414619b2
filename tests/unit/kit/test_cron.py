"""Moments of cron expressions: on the wall clock of a zone, also where the clock is changed."""

from datetime import datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from modelyard.kit.cron import parse, to_ms

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = (datetime(2026, 3, 28, 12, tzinfo=BERLIN), datetime(2026, 3, 30, 12, tzinfo=BERLIN))
AUTUMN = (datetime(2026, 10, 24, 12, tzinfo=BERLIN), datetime(2026, 10, 26, 12, tzinfo=BERLIN))


def shown(expression: str, ends: tuple[datetime, datetime]) -> list[str]:
    after, until = map(to_ms, ends)
    found = list(takewhile(lambda at: at <= until, parse(expression, "Europe/Berlin").moments(after)))
    assert parse(expression, "Europe/Berlin").between(after, until, 1000) == found
    return [datetime.fromtimestamp(at / 1000, BERLIN).strftime("%d %H:%M %z") for at in found]


def test_a_time_that_spring_skips_comes_right_after_the_gap() -> None:
    assert shown("30 2 * * *", SPRING) == ["29 03:00 +0200", "30 02:30 +0200"]


def test_a_time_that_autumn_repeats_comes_once() -> None:
    assert shown("30 2 * * *", AUTUMN) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_hours_follow_real_time() -> None:
    assert len(shown("0 * * * *", SPRING)) == 47
    assert len(shown("0 * * * *", AUTUMN)) == 49


def test_the_newest_of_many_are_found_from_their_end() -> None:
    cron, until = parse("* * * * *", "Europe/Berlin"), to_ms(AUTUMN[1])
    assert cron.between(0, until, 3) == [until - 120_000, until - 60_000, until]
    assert cron.after(until) == until + 60_000


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("x", "UTC", "not a cron expression"),
        ("61 * * * *", "UTC", "bad minute"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Mars/Olympus", "not an IANA time zone"),
        ("0 0 * * *", "../etc/passwd", "not an IANA time zone"),
    ],
)
def test_what_is_wrong_is_said(expression: str, zone: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(expression, zone)
