"""A dry run: what alerts and retrains a policy would have led to over results that are known."""

from typing import Any

from modelyard.deliver.monitoring import policy
from modelyard.deliver.monitoring.kinds import ALERT, DATA, ESTIMATE, OK, QUALITY
from modelyard.deliver.monitoring.policy import Situation
from modelyard.domain.monitors import Monitor


def replay(declared: Monitor, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What would have happened: [{at, kind, version, did, title}], oldest first. at: the window's end.

    results: as the API lists them, in any order. Time is the windows' own; a retrain is assumed to end at once and to
    help, so cool-down, budget and quiet hours are what holds one back.
    """
    steps: list[dict[str, Any]] = []
    streaks: dict[tuple[str, int], list[str]] = {}
    open_kinds: set[tuple[str, int]] = set()
    retrained: list[int] = []
    newest: dict[str, dict[str, Any]] = {}
    for item in sorted(results, key=lambda result: (result["window_end"], result["kind"] == QUALITY)):
        key = (item["kind"], item["version"])
        newest[item["kind"]] = item
        verdicts = streaks.setdefault(key, [])
        verdicts.append(item["verdict"])
        step = {"at": item["window_end"], "kind": item["kind"], "version": item["version"]}
        step["title"] = item["result"]["title"]
        if verdicts[-2:] == [OK, OK] and key in open_kinds:
            open_kinds.discard(key)
            steps.append({**step, "did": "the alert resolves"})
        persisted = verdicts[-declared.persistence :] == [ALERT] * declared.persistence
        if persisted and key not in open_kinds:
            open_kinds.add(key)
            steps.append({**step, "did": _alerted(declared, newest, item, retrained)})
    return steps


def _alerted(declared: Monitor, newest: dict[str, dict[str, Any]], item: dict[str, Any], retrained: list[int]) -> str:
    """What an alert that opens leads to; notes the retrain."""
    if "retrain" not in declared.on_alert:
        return "an alert opens"
    data = newest.get(DATA)
    reason = policy.why_not(
        declared.retrain,
        Situation(
            now=item["window_end"],
            kind=item["kind"],
            past=tuple(reversed(retrained)),
            measured=QUALITY in newest and newest[QUALITY]["result"].get("value") is not None,
            estimated=ESTIMATE in newest,
            broken=data["result"]["title"] if data and data["verdict"] == ALERT else "",
        ),
    )
    if reason is not None:
        return f"an alert opens; no retrain: {reason}"
    retrained.append(item["window_end"])
    return "an alert opens; a retrain starts"
