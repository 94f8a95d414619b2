"""What is judged beyond counters, at its own pace: prediction drift, rewards, a Prometheus query."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from modelyard.deliver.deployments import comparison, judgement, measuring, places, records
from modelyard.deliver.deployments.comparison import Sample
from modelyard.deliver.deployments.judgement import LEAST_REWARDS, Outcome, Verdict
from modelyard.deliver.deployments.measuring import Unmeasured
from modelyard.deliver.deployments.records import Deployment, Endpoint, Rollout
from modelyard.deliver.deployments.remembered import Remembered
from modelyard.domain.environments import AbortIf, RolloutPolicy
from modelyard.domain.project import seconds

LEAST_PAUSE_S = 2.0
LEAST_SHARE = 0.05
"""A bandit always asks the arm that seems worse for so much of the traffic, or it could never learn better."""
SURE = 0.99


@dataclass(frozen=True)
class Looked:
    """One look: when, what it said, and the probability that the challenger's reward is the better one; None with too
    few rewards to tell.
    """

    at: float
    verdicts: list[Verdict]
    better: float | None = None


@dataclass(frozen=True)
class Missed:
    """A look that failed."""

    at: float
    error: Unmeasured


class Extra:
    """Remembers each rollout's last look and takes the next beside the turns: what reads the log is slow."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._looks = Remembered[Looked | Missed]()
        self._running = Remembered[asyncio.Task[Looked | Missed]]()
        self._told = Remembered[float]()

    def judge(
        self,
        first: Verdict,
        endpoint: Endpoint,
        rollout: Rollout,
        target: Deployment,
        bounds: AbortIf,
        *,
        final: bool,
    ) -> Verdict:
        """The counters' verdict joined with these. Raises Unmeasured when one cannot be measured."""
        policy = records.policy_of(rollout)
        tests = policy.strategy in ("ab-test", "bandit")
        if not beyond_counters(policy, bounds):
            return first
        running = self._running.get(rollout, rollout.step)
        if running is not None and running.done():
            self._running.forget(rollout)
            self._looks.put(rollout, running.result(), rollout.step)
            running = None
        held = self._looks.get(rollout, rollout.step)
        pause = max(LEAST_PAUSE_S, seconds(policy.bake) / 20)
        if running is None and (held is None or time.monotonic() - held.at > pause):
            look = self._look(endpoint, rollout, target, bounds, final=final)
            self._running.put(rollout, asyncio.ensure_future(look), rollout.step)
        if held is None:
            return Verdict(Outcome.INCONCLUSIVE, "predictions and rewards are being read")
        if isinstance(held, Missed):
            raise held.error  # until a look succeeds again
        failed = [item for item in held.verdicts if item.outcome is Outcome.FAILED]
        doubts = [item for item in (first, *held.verdicts) if item.outcome is Outcome.INCONCLUSIVE]
        if failed:
            return failed[0]
        if doubts:
            return Verdict(Outcome.INCONCLUSIVE, "; ".join(item.reason for item in doubts))
        return held.verdicts[-1] if tests else first

    def share(self, rollout: Rollout) -> float | None:
        """The share that a bandit's challenger should have by now; None when it has about that."""
        held = self._looks.get(rollout, rollout.step)
        if not isinstance(held, Looked) or held.better is None or self._told.get(rollout) == held.at:
            return None
        self._told.put(rollout, held.at)
        wanted = min(1 - LEAST_SHARE, max(LEAST_SHARE, round(held.better, 2)))
        return wanted if abs(wanted - rollout.share) >= 0.02 else None

    async def _look(
        self, endpoint: Endpoint, rollout: Rollout, target: Deployment, bounds: AbortIf, *, final: bool
    ) -> Looked | Missed:
        try:
            return await self._seen(endpoint, rollout, target, bounds, final=final)
        except Unmeasured as error:
            return Missed(time.monotonic(), error)

    async def _seen(
        self, endpoint: Endpoint, rollout: Rollout, target: Deployment, bounds: AbortIf, *, final: bool
    ) -> Looked:
        policy, found = records.policy_of(rollout), list[Verdict]()
        if bounds.prometheus is not None:
            found.append(await _prometheus(bounds, endpoint, target))
        better = None
        if bounds.prediction_drift is not None or policy.reward is not None:
            model_file = places.models(self._home, target.environment) / target.digest / "MLmodel"
            since = rollout.step_started_at or rollout.started_at
            read = await measuring.read_predictions(
                self._home, endpoint.environment, endpoint.name, model_file, since, policy.reward
            )
            empty: dict[str, list[float]] = {"predictions": [], "rewards": []}
            ours, theirs = read.get(target.id, empty), read.get(endpoint.live or "", empty)
            if bounds.prediction_drift is not None:
                told = (ours["predictions"], theirs["predictions"], policy.min_requests)
                found.append(judgement.judge_predictions(bounds.prediction_drift, *told))
            arms = Sample.of(ours["rewards"]), Sample.of(theirs["rewards"])
            enough = min(arm.count for arm in arms) >= LEAST_REWARDS
            if policy.strategy == "bandit":
                better = comparison.probability_better(*arms) if enough else None
                found.append(_bandit(*arms, better))
            elif policy.strategy == "ab-test":
                found.append(judgement.judge_rewards(*arms, 0.0, final=final))
            elif bounds.reward_below_champion is not None and policy.reward is not None:
                verdict = judgement.judge_rewards(*arms, bounds.reward_below_champion, final=final)
                if verdict.outcome is Outcome.INCONCLUSIVE and enough:  # not worse beyond chance: good enough
                    verdict = Verdict(Outcome.SUCCEEDED, verdict.reason)
                found.append(verdict)
        return Looked(time.monotonic(), found, better)


def beyond_counters(policy: RolloutPolicy, bounds: AbortIf) -> bool:
    """Whether a rollout is judged by more than the gateway's counters, which takes looks of some seconds."""
    return bounds.prediction_drift is not None or bounds.prometheus is not None or policy.reward is not None


async def _prometheus(bounds: AbortIf, endpoint: Endpoint, target: Deployment) -> Verdict:
    assert bounds.prometheus is not None, "asked where one is declared"
    named = {"endpoint": endpoint.name, "version": str(target.version), "deployment": target.id}
    value, limit = await measuring.ask_prometheus(bounds.prometheus, **named), bounds.prometheus.max
    if value is None:
        return Verdict(Outcome.INCONCLUSIVE, "the Prometheus query matches nothing yet")
    outcome = Outcome.FAILED if value > limit else Outcome.SUCCEEDED
    return Verdict(outcome, f"the Prometheus query gives {value:g}, the limit is {limit:g}")


def _bandit(ours: Sample, theirs: Sample, better: float | None) -> Verdict:
    if better is None:
        return Verdict(Outcome.INCONCLUSIVE, judgement.too_few("rewards", ours.count, theirs.count, LEAST_REWARDS))
    counts = f"rewards {ours.mean:.4g} ({ours.count}) and the champion's {theirs.mean:.4g} ({theirs.count})"
    if 1 - SURE < better < SURE:
        return Verdict(Outcome.INCONCLUSIVE, f"{counts}: better with probability {better:.2f}")
    outcome = Outcome.SUCCEEDED if better >= SURE else Outcome.FAILED
    return Verdict(outcome, f"{counts}: better with probability {better:.3f}")
