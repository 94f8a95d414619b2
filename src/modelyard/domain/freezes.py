"""Freeze windows: times, in UTC, in which no rollout starts or widens."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from modelyard.domain.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WEEKLY = re.compile(r"^([A-Za-z]{3}) (\d\d):(\d\d) - ([A-Za-z]{3}) (\d\d):(\d\d)$")
DATED = re.compile(r"^(\d{4}-\d\d-\d\d)(?: (\d\d:\d\d))? - (\d{4}-\d\d-\d\d)(?: (\d\d:\d\d))?$")
WEEK_MINUTES = 7 * 24 * 60


@dataclass(frozen=True)
class Weekly:
    """From one minute of the week to another; may pass over Sunday night."""

    start: int
    end: int

    def until(self, now: datetime) -> datetime | None:
        """When the window that holds `now` ends; None outside of it."""
        minute = now.weekday() * 1440 + now.hour * 60 + now.minute
        length = (self.end - self.start) % WEEK_MINUTES
        passed = (minute - self.start) % WEEK_MINUTES
        if passed >= length:
            return None
        return now.replace(second=0, microsecond=0) + timedelta(minutes=length - passed)


@dataclass(frozen=True)
class Dated:
    start: datetime
    end: datetime

    def until(self, now: datetime) -> datetime | None:
        """When the window that holds `now` ends; None outside of it."""
        return self.end if self.start <= now < self.end else None


def parse(text: str) -> Weekly | Dated:
    """The window that `Fri 16:00 - Mon 08:00` or `2026-12-20 - 2027-01-02` names; an end date counts whole.

    Raises ConfigError.
    """
    weekly, dated = WEEKLY.match(text.strip()), DATED.match(text.strip())
    try:
        if weekly:
            found = Weekly(_minute(*weekly.group(1, 2, 3)), _minute(*weekly.group(4, 5, 6)))
            if found.start != found.end:
                return found
        elif dated:
            start, end = _moment(dated[1], dated[2]), _moment(dated[3], dated[4])
            end = end if dated[4] else end + timedelta(days=1)
            if start < end:
                return Dated(start, end)
    except ValueError:
        pass
    raise ConfigError(
        f"{text!r} is not a freeze window.",
        remedy="Write 'Fri 16:00 - Mon 08:00' or '2026-12-20 - 2027-01-02' (UTC).",
    )


def frozen_until(windows: list[str], now_ms: int) -> datetime | None:
    """The end of the freeze at a moment; None when there is none."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    ends = [end for text in windows if (end := parse(text).until(now)) is not None]
    return max(ends, default=None)


def _minute(day: str, hour: str, minute: str) -> int:
    if not (int(hour) < 24 and int(minute) < 60):
        raise ValueError("no such time")
    return DAYS.index(day.lower()) * 1440 + int(hour) * 60 + int(minute)


def _moment(date: str, time: str | None) -> datetime:
    return datetime.fromisoformat(f"{date}T{time or '00:00'}:00+00:00")
