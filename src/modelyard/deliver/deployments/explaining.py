"""Why what runs is not what is wanted: sentences for the person who looks at an endpoint."""

import asyncio
import json
from pathlib import Path
from typing import Any

from modelyard.deliver.deployments import measuring, offline, places, running
from modelyard.deliver.deployments.agents import AWAY_MS
from modelyard.deliver.serving import certificates, probe, scaling
from modelyard.deliver.serving.starts import TRIES
from modelyard.domain import freezes
from modelyard.domain.project import Project, seconds
from modelyard.kit.clock import iso, now_ms


async def differences(home: Path, project: Project, shown: dict[str, Any], stats: dict[str, Any] | None) -> list[str]:
    """Sentences, most urgent first; empty when what runs is what is wanted.

    shown: an endpoint with its `deployments` by role, its `rollout`, its far machines as `agents`; stats: what its
    gateway says, if it answers.
    """
    environment, found = shown["environment"], list[str]()
    if not stats:
        log = f"gateway-{environment}.log"
        words = measuring.last_error(home / "logs" / log)
        found.append(f"the gateway does not answer: requests fail (logs/{log}{f': {words}' if words else ''})")
    else:
        found += _routing(home, environment, stats)
        found += certificates.warnings(stats.get("tls"), now_ms())
        found += of_data(shown["name"], stats)
    folder = places.serving(home, environment)
    told, specs, counts = running.observed(folder), running.wanted(folder) or {}, scaling.wanted(folder)
    for role, deployment in shown["deployments"].items():
        if counts.get(deployment["id"]) != 0:  # one that sleeps is as it is wanted
            count = sum(spec["deployment"] == deployment["id"] for spec in specs.values())
            named = f"the {role} v{deployment['version']}'s worker"
            found += await _workers(home, named, deployment["id"], max(1, count), told)
    if offline.pending(home, environment):
        found.append("a rollback made without the server is not recorded yet")
    for agent in shown["agents"]:
        found += _far(agent, shown["deployments"])
        counted = agent["report"].get("stats") or {}
        said = [*certificates.warnings(counted.get("tls"), now_ms()), *of_data(shown["name"], counted)]
        found += [f"{agent['name']}: {sentence}" for sentence in said]
    if shown["rollout"] is not None:
        found += _rollout(project, shown, shown["rollout"], stats)
        found += _shadow(shown, shown["rollout"], stats)
    return found


def _asleep(deployment: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether a far machine's gateway keeps no worker for it, since nobody asks."""
    held = (told.get("stats") or {}).get("workers", {}).get(deployment["id"])
    return held is not None and held["wanted"] == 0


def of_data(endpoint: str, stats: dict[str, Any]) -> list[str]:
    """What is wrong with an endpoint's log and with its asynchronous requests."""
    error = stats.get("endpoints", {}).get(endpoint, {}).get("queue_error")
    return [*of_log(endpoint, stats), *([f"asynchronous requests wait: {error}"] if error else [])]


def of_log(endpoint: str, stats: dict[str, Any]) -> list[str]:
    """What is missing in the prediction log, and why."""
    held = stats.get("endpoints", {}).get(endpoint, {})
    dropped, error = held.get("dropped_log_rows", 0), held.get("log_error")
    lacks = f"{dropped} answer{'s are' if dropped > 1 else ' is'} not in it"
    if error:
        return [f"the prediction log cannot be written: {error}; {lacks}"]
    return [f"the prediction log is not whole: since the gateway started {lacks}"] if dropped else []


def _far(agent: dict[str, Any], deployments: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong at a machine that only serves."""
    name, told = agent["name"], agent["report"]
    silent_s = (now_ms() - agent["seen_at"]) / 1000
    if silent_s * 1000 > AWAY_MS:
        return [f"{name} was last heard of {silent_s:.0f} s ago; it serves on with what it has"]
    found: list[str] = []
    live = deployments.get("live")
    unready = told.get("unready", {})
    for deployment in deployments.values():
        if deployment["digest"] in unready:
            found.append(f"{name} cannot prepare v{deployment['version']}: {unready[deployment['digest']]}")
    seen = told["workers"].get(places.worker_id(live["id"])) if live else None
    if live and seen is None and not _asleep(live, told):
        found.append(f"{name} does not run the live v{live['version']} yet")
    elif live and seen and seen["restarts"]:
        words = f": {seen['words']}" if seen.get("words") else ""
        found.append(f"{name}: the live v{live['version']}'s worker ended {seen['deaths']} time(s){words}")
    if dropped := told.get("log", {}).get("dropped"):
        found.append(f"{name} had no room for {dropped} segment(s) of its prediction log")
    return found


def _routing(home: Path, environment: str, stats: dict[str, Any]) -> list[str]:
    if stats.get("error"):
        return [f"the gateway has trouble: {stats['error']}"]
    try:
        written = json.loads((places.serving(home, environment) / "routing.json").read_text())["revision"]
    except (OSError, ValueError, KeyError):
        return ["no routing was written yet"]
    behind = stats.get("revision") != written
    return [f"the gateway follows routing {stats.get('revision')}, {written} is newer"] if behind else []


async def _workers(home: Path, named: str, deployment: str, count: int, told: dict[str, Any]) -> list[str]:
    """What is to be known of the workers that a deployment is to have; told: what is said of those that run."""
    sockets = [str(places.worker_socket(home, deployment, number)) for number in range(count)]
    answers = await asyncio.gather(*map(probe.ask, sockets))
    silent = [number for number in range(count) if answers[number] is None]
    if len(silent) == count:  # the first stands for all
        instead = "versions beside it have its traffic, or callers are answered 503"
        return [_silent(named, places.worker_id(deployment), told, instead)]
    instead = "the others have its requests"
    found = [
        _silent(f"{named} {number + 1} of {count}", places.worker_id(deployment, number), told, instead)
        for number in silent
    ]
    return found + _replaced(named, deployment, told)


def _silent(named: str, worker: str, told: dict[str, Any], instead: str) -> str:
    """Why a worker does not answer; instead: what becomes of its requests where it cannot start."""
    seen = told.get(worker)
    if seen is None:
        return f"{named} is not started yet (is modelyard up running?)"
    if seen.get("problem"):
        return f"{named}: {seen['problem']}"
    if not seen["deaths"]:
        return f"{named} is loading its model"
    ended = f"ended {seen['deaths']} time(s), last with {seen['last_exit']}; see logs/worker-{worker}.log"
    if not seen["restarts"]:
        return f"{named} is loading its model again: it {ended}"
    if seen["restarts"] < TRIES:
        return f"{named} {ended}"
    return f"{named} cannot start, so {instead}: it {ended}"


def _replaced(named: str, deployment: str, told: dict[str, Any]) -> list[str]:
    """What is to be known of a deployment whose workers run otherwise than they are wanted by now."""
    for name, seen in told.items():
        if "changes" in seen and places.is_worker_of(name, deployment):
            said, coming = f"{named} serves until another takes its place: {'; '.join(seen['changes'])}", seen["next"]
            said += f"; {coming['problem']}" if "problem" in coming else ""
            ended = f"; that one ended {coming['deaths']} time(s), last with {coming['last_exit']}"
            return [said + (f"{ended}: logs/worker-{name}.log" if coming["deaths"] else "")]
    return []


def _rollout(
    project: Project, shown: dict[str, Any], rollout: dict[str, Any], stats: dict[str, Any] | None
) -> list[str]:
    if rollout["reason"]:
        return [f"the rollout is {rollout['state']}: {rollout['reason']}"]
    declared = project.environments.get(shown["environment"])
    frozen = freezes.frozen_until(declared.freeze, now_ms()) if declared else None
    if frozen is not None:
        return [f"the rollout does not widen until {iso(int(frozen.timestamp() * 1000))} (freeze)"]
    if rollout["state"] != "shifting":
        return [f"a rollout is {rollout['state']}"]
    bake = rollout["policy"]["bake"]
    left = (rollout["step_started_at"] or 0) / 1000 + seconds(bake) - now_ms() / 1000
    share = (
        f"a rollout has {rollout['share']:.0%} of the traffic"
        if rollout["share"]
        else "a rollout mirrors the traffic"
    )
    if left > 0:
        return [f"{share}, watched for another {left:.0f} s at least"]
    return [f"{share}; its {bake} are over, and it goes on once it can be judged{_seen(shown, rollout, stats)}"]


def _shadow(shown: dict[str, Any], rollout: dict[str, Any], stats: dict[str, Any] | None) -> list[str]:
    """What a shadow was asked and answered, since the gateways started."""
    if rollout["policy"]["strategy"] != "shadow" or rollout["share"]:
        return []
    gateways = [stats, *(agent["report"].get("stats") for agent in shown["agents"])]
    endpoints = [told["endpoints"].get(shown["name"], {}) for told in gateways if told]
    counted = [held["deployments"].get(rollout["to_deployment"], {}) for held in endpoints if held]

    def total(key: str) -> int:
        return sum(held.get(f"shadow_{key}", 0) for held in counted)

    said = f"{total('requests')} requests mirrored, {total('errors')} failed, {total('declined')} declined"
    equal = f"{total('equal')} of {total('compared')} answers equal to the live version's"
    return [f"the shadow v{shown['deployments']['next']['version']}: {said}, {equal}"] if total("requests") else []


def _seen(shown: dict[str, Any], rollout: dict[str, Any], stats: dict[str, Any] | None) -> str:
    """How many requests a step has to be judged by, and needs; nothing of a shadow, which counts otherwise."""
    if not stats or not rollout["share"]:
        return ""
    far = {agent["name"]: agent["report"]["stats"] for agent in shown["agents"] if agent["report"].get("stats")}
    traffic = measuring.Traffic(stats, far=far)
    seen = traffic.since(rollout["baseline"], "target", shown["name"], rollout["to_deployment"])
    return f": {seen.requests} requests so far, {rollout['policy']['min_requests']} are needed"
