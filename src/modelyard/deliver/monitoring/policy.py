"""When a retrain may start by itself: one pure function for triggers, `monitor replay` and `simulate`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from modelyard.deliver.monitoring.kinds import BIAS, DRIFT, ESTIMATE, QUALITY
from modelyard.domain.monitors import HOURS, Retrain
from modelyard.domain.sections import seconds

WEEK_MS = 7 * 86_400_000
SCHEDULE, LABELS, GROWTH = "schedule", "new_labels", "growth"


@dataclass(frozen=True)
class Situation:
    """What is known when a trigger fires. now and past retrains in milliseconds, the newest first.

    kind: the alert's kind, or what else fired (SCHEDULE, LABELS, GROWTH). unhelpful: retrains in a row
    within a week that gave no better version. broken: what is wrong with the newest data, empty when nothing is.
    """

    now: int
    kind: str
    past: tuple[int, ...] = ()
    measured: bool = False
    estimated: bool = False
    waiting: bool = False
    unhelpful: int = 0
    broken: str = ""


def why_not(retrain: Retrain, situation: Situation) -> str | None:
    """The reason why no retrain starts now; None when one may. Labelled quality decides, drift alone explains."""
    said = _why_not_this(retrain, situation)
    if said is not None:
        return said
    if situation.broken:
        return f"broken data is not trained on: {situation.broken}"
    if situation.waiting:
        return "a version of an earlier retrain waits for a decision"
    if situation.unhelpful >= retrain.most_unhelpful:
        return f"{situation.unhelpful} retrains in a row gave no better version: a person has to look"
    if situation.past and situation.now - situation.past[0] < seconds(retrain.cool_down) * 1000:
        return f"the last retrain was less than {retrain.cool_down} ago"
    if sum(situation.now - at < WEEK_MS for at in situation.past) >= retrain.budget_per_week:
        return f"the budget of {retrain.budget_per_week} retrains a week is used up"
    if retrain.quiet_hours is not None and is_quiet(retrain.quiet_hours, situation.now):
        return f"it is within the quiet hours {retrain.quiet_hours} UTC"
    return None


def _why_not_this(retrain: Retrain, situation: Situation) -> str | None:
    """Why an alert of this kind starts nothing, whatever the time is."""
    kind = situation.kind
    if kind in (DRIFT, ESTIMATE, QUALITY, BIAS) and kind not in retrain.on:
        return f"alerts about {kind.replace('_', ' ')} do not retrain by policy"
    if kind == DRIFT and situation.measured:
        return "drift alone does not retrain while labels arrive: measured quality decides"
    if kind == DRIFT and situation.estimated:
        return "drift alone does not retrain while quality is estimated: the estimate decides"
    if kind == ESTIMATE and situation.measured:
        return "an estimate does not retrain while labels arrive: measured quality decides"
    if kind not in (DRIFT, ESTIMATE, QUALITY, BIAS, SCHEDULE, LABELS, GROWTH):
        return f"alerts about {kind.replace('_', ' ')} do not retrain"
    return None


def is_quiet(hours: str, now: int) -> bool:
    """Whether a moment lies in hours such as `22:00-06:00` (UTC); they may go over midnight."""
    found = HOURS.match(hours)
    assert found is not None, "checked when the project file was read"
    start, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4]))
    moment = datetime.fromtimestamp(now / 1000, UTC)
    minute = moment.hour * 60 + moment.minute
    return start <= minute < end if start <= end else minute >= start or minute < end
