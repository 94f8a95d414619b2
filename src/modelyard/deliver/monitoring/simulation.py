"""The whole policy (monitor, trigger, retrain, gates) over a historical table, window by window, beside a champion
that is left alone and one that is always retrained.
"""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.deliver.monitoring import challenger, metrics, monitor, policy
from modelyard.deliver.monitoring import watch as watches
from modelyard.deliver.monitoring.cells import Cell
from modelyard.deliver.monitoring.challenger import Fit
from modelyard.deliver.monitoring.kinds import ALERT, DATA, DRIFT, ESTIMATE, QUALITY
from modelyard.deliver.monitoring.monitor import Result
from modelyard.deliver.monitoring.policy import GROWTH, WEEK_MS, Situation
from modelyard.deliver.monitoring.reference import sketch_table
from modelyard.deliver.monitoring.tables import MemoryTable
from modelyard.deliver.monitoring.watch import LABEL, PREDICTION, Watch
from modelyard.domain.errors import Invalid
from modelyard.domain.monitors import Monitor

STRATEGIES = ("never", "always", "policy")
LEAST_WINDOWS = 4


@dataclass(frozen=True)
class Plan:
    """What is simulated. window_rows: rows a window; train_windows: windows before the first version serves;
    delay: windows until labels come; most_rows: rows a training uses at most.
    """

    label: str
    task: str
    declared: Monitor
    window_rows: int
    train_windows: int = 8
    delay: int = 0
    most_rows: int = 40_000
    primary: str = ""
    refit: bool = True
    """Whether an accepted challenger is fitted once more with the newest window, on it was judged."""

    @property
    def metric(self) -> str:
        return self.primary or metrics.PRIMARY[self.task]


@dataclass
class Step:
    """One window: quality by strategy, what alarmed, what was done."""

    window: int
    at: str
    rows: int
    quality: dict[str, float | None] = field(default_factory=dict[str, float | None])
    alarms: list[str] = field(default_factory=list[str])
    did: str = ""


@dataclass
class Outcome:
    """The simulation's result; cost counts rows trained on and CPU seconds, by strategy."""

    plan: Plan
    steps: list[Step]
    retrains: dict[str, int]
    accepted: int
    alarms: dict[str, int]
    rows_trained: dict[str, int]
    cpu_s: dict[str, float]

    def mean(self, strategy: str) -> float | None:
        values = [value for step in self.steps if (value := step.quality.get(strategy)) is not None]
        return float(np.mean(values)) if values else None

    def as_json(self) -> dict[str, Any]:
        return {
            "metric": self.plan.metric,
            "windows": len(self.steps),
            "window_rows": self.plan.window_rows,
            "mean": {strategy: self.mean(strategy) for strategy in STRATEGIES},
            "retrains": self.retrains,
            "accepted": self.accepted,
            "alarms": self.alarms,
            "rows_trained": self.rows_trained,
            "cpu_s": self.cpu_s,
            "steps": [asdict(step) for step in self.steps],
        }


def coded(frame: Any, plan: Plan) -> Any:
    """The frame with classes that have names as numbers, in the order of the names; of two the second is 1."""
    if plan.task not in ("binary", "multiclass") or frame[plan.label].dtype.kind in "biuf":
        return frame
    names = np.unique(frame[plan.label].astype(str).to_numpy())
    if plan.task == "binary" and len(names) != 2:
        raise Invalid(
            f"{plan.label} has {len(names)} classes, not two.", remedy="Simulate it with --task multiclass."
        )
    return frame.assign(**{plan.label: np.searchsorted(names, frame[plan.label].astype(str)).astype(float)})


class Simulation:
    """Lives through the windows of a pandas frame that is in the order of time; `run` gives the outcome."""

    def __init__(self, frame: Any, times: Any, plan: Plan, fit: Fit) -> None:
        self._frame, self._plan, self._fit = coded(frame, plan).reset_index(drop=True), plan, fit
        self._times = np.asarray(times, dtype=np.int64)
        self._count = len(frame) // plan.window_rows
        if self._count < plan.train_windows + LEAST_WINDOWS or plan.train_windows < 2:
            raise Invalid(
                f"{len(frame)} rows are {self._count} windows of {plan.window_rows}; too few to simulate.",
                remedy=f"Take windows of at most {len(frame) // (plan.train_windows + LEAST_WINDOWS)} rows.",
            )
        self._retrains: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._cpu: dict[str, float] = {strategy: 0.0 for strategy in STRATEGIES}
        self._alarms: Counter[str] = Counter()
        self._accepted = 0
        self._past_retrains: list[int] = []
        self._unhelpful: list[int] = []
        self._streaks: dict[str, int] = {}
        self._results: list[dict[str, Any]] = []
        self._known: challenger.Known = {}
        self._learnt = plan.train_windows
        """How many labelled windows there were when a training was last tried."""

    def run(self) -> Outcome:
        plan = self._plan
        first = plan.train_windows
        never = self._train("never", (first - 1) * plan.window_rows, "all")
        self._rows |= Counter(dict.fromkeys(STRATEGIES, self._rows["never"]))
        always: Any = never
        self._champion = never
        self._watch = self._watch_over(first - 1, 1)
        steps: list[Step] = []
        for window in range(first, self._count):
            step = Step(window, _day(self._times[window * plan.window_rows]), plan.window_rows)
            models = {"never": never, "always": always, "policy": self._champion}
            step.quality = {name: self._quality(model, window) for name, model in models.items()}
            labelled = window - plan.delay
            self._monitor(window, labelled, step)
            if labelled > first:
                always = self._train("always", (labelled + 1) * plan.window_rows, "all")
                self._retrains["always"] += 1
            steps.append(step)
        return Outcome(
            plan,
            steps,
            {name: self._retrains[name] for name in STRATEGIES},
            self._accepted,
            dict(self._alarms),
            {name: self._rows[name] for name in STRATEGIES},
            {name: round(self._cpu[name], 2) for name in STRATEGIES},
        )

    def _window(self, number: int) -> Any:
        return self._frame.iloc[number * self._plan.window_rows : (number + 1) * self._plan.window_rows]

    def _train(self, strategy: str, until: int, chosen: str) -> Any:
        plan, past = self._plan, self._frame.iloc[:until]
        window = challenger.training_windows(len(past), plan.window_rows).get(chosen, (0, None))
        started = time.process_time()
        model = challenger.train(self._fit, past, plan.label, window, plan.most_rows)
        self._cpu[strategy] += time.process_time() - started
        self._rows[strategy] += min(len(past) - window[0], plan.most_rows)
        return model

    def _quality(self, model: Any, number: int) -> float | None:
        rows, plan = self._window(number), self._plan
        said = challenger.predictions(model, rows.drop(columns=plan.label), plan.task)
        return metrics.measure(plan.task, rows[plan.label].to_numpy().astype(float), said).metrics.get(plan.metric)

    def _log(self, number: int, version: int) -> Any:
        """A window as the prediction log would have it, answered by the champion of the policy."""
        plan, rows = self._plan, self._window(number)
        said = challenger.predictions(self._champion, rows.drop(columns=plan.label), plan.task)
        start = number * plan.window_rows
        columns: dict[str, Any] = {
            "time_ms": pa.array(self._times[start : start + len(rows)]),
            "version": pa.array(np.full(len(rows), version)),
            PREDICTION: pa.array(said),
            LABEL: pa.array(rows[plan.label].to_numpy().astype(float)),
        }
        for name in rows.columns:
            if name != plan.label:
                columns[f"input.{name}"] = pa.array(rows[name], from_pandas=True)
        return pa.table(columns)

    def _watch_over(self, number: int, version: int) -> Watch:
        """The watch over the champion, whose reference is a window that it was not trained on."""
        plan, table = self._plan, self._log(number, version)
        labels, said = table.column(LABEL).to_numpy(), table.column(PREDICTION).to_numpy()
        measured = metrics.measure(plan.task, labels, said)
        names = [name.removeprefix("input.") for name in table.column_names]
        reference = table.rename_columns(names).drop_columns(["time_ms", "version"])
        baseline = {"metrics": measured.metrics, "standard_errors": measured.errors}
        return watches.prepare(plan.declared, version, reference, baseline, task=plan.task, primary=plan.metric)

    def _monitor(self, number: int, labelled: int, step: Step) -> None:
        """What the monitor says of the newest window and of the newest one with labels, and what follows."""
        found = self._judge_window(number)
        if labelled >= self._plan.train_windows:
            self._watch.past = self._results
            judged = monitor.judge_labelled(self._watch, self._log(labelled, self._watch.version))
            found += [result for result in judged if result.kind == QUALITY]
        self._results = [_kept(result) for result in found] + self._results
        for result in found:
            self._streaks[result.kind] = self._streaks.get(result.kind, 0) + 1 if result.verdict == ALERT else 0
            if result.verdict == ALERT:
                self._alarms[result.kind] += 1
                step.alarms.append(f"{result.kind}: {result.title}")
        now = int(self._times[(number + 1) * self._plan.window_rows - 1])
        for kind in (QUALITY, ESTIMATE, DRIFT):
            if self._streaks.get(kind, 0) >= self._plan.declared.persistence:
                step.did = self._act(kind, found, now, labelled)
                break
        growth = self._plan.declared.retrain.growth
        if growth is not None and "retrained" not in step.did and labelled + 1 >= self._learnt * (1 + growth):
            step.did = self._act(GROWTH, found, now, labelled)

    def _judge_window(self, number: int) -> list[Result]:
        table = self._log(number, self._watch.version)
        times = table.column("time_ms").to_numpy()
        layout = self._watch.reference.layout
        cell = Cell.empty(self._watch.version, int(times[0]), layout)
        cell.end, cell.rows = int(times[-1]), len(times)
        inputs = {name.removeprefix("input."): table.column(name) for name in table.column_names}
        cell.sketch = sketch_table(self._watch.reference, MemoryTable(inputs))
        return monitor.judge_window(self._watch, cell, [])

    def _act(self, kind: str, found: list[Result], now: int, labelled: int) -> str:
        by_kind = {result.kind: result for result in found}
        data = by_kind.get(DATA)
        situation = Situation(
            now=now,
            kind=kind,
            past=tuple(reversed(self._past_retrains)),
            measured=QUALITY in by_kind and by_kind[QUALITY].detail["value"] is not None,
            estimated=ESTIMATE in by_kind,
            unhelpful=sum(now - at < WEEK_MS for at in self._unhelpful),
            broken=data.title if data is not None and data.verdict == ALERT else "",
        )
        reason = policy.why_not(self._plan.declared.retrain, situation)
        if reason is not None:
            return f"no retrain: {reason}"
        if labelled < self._plan.train_windows:
            return "no retrain: no new labels yet"
        self._past_retrains.append(now)
        return self._challenge(kind, labelled, now)

    def _challenge(self, kind: str, newest: int, now: int) -> str:
        """Train challengers on what came before the newest labelled window; the first that is better there serves."""
        plan = self._plan
        past = self._frame.iloc[: newest * plan.window_rows]
        started = time.process_time()
        data = plan.label, plan.task, plan.metric, plan.window_rows, plan.most_rows
        order = challenger.rank(self._fit, past, *data, self._known)
        self._cpu["policy"] += time.process_time() - started
        self._retrains["policy"] += 1
        self._learnt = newest + 1
        refused: list[str] = []
        for chosen in order:
            model = self._train("policy", newest * plan.window_rows, chosen)
            windows = self._window(newest), self._window(plan.train_windows - 1)
            about = plan.label, plan.task, plan.metric, chosen
            beyond = kind != GROWTH
            verdict = challenger.compare(model, self._champion, *windows, *about, beyond_noise=beyond)
            if verdict.passed:
                self._accept(model, newest, chosen)
                why = f"{verdict.why}; forgot {verdict.forgotten:+.4f}"
                return f"{kind.replace('_', ' ')}: retrained on {chosen}, accepted: {why}"
            refused.append(f"{chosen}: {verdict.why}")
        if kind != GROWTH:
            self._unhelpful.append(now)
        return f"{kind.replace('_', ' ')}: retrained, refused: {'. '.join(refused)}"

    def _accept(self, model: Any, newest: int, chosen: str) -> None:
        self._unhelpful = []
        self._accepted += 1
        self._champion = model
        self._watch = self._watch_over(newest, self._watch.version + 1)
        self._streaks = {}
        if self._plan.refit:
            self._champion = self._train("policy", (newest + 1) * self._plan.window_rows, chosen)


def _kept(result: Result) -> dict[str, Any]:
    """A result as the API lists it."""
    wire = result.as_wire()
    return {**{key: wire[key] for key in wire if key != "detail"}, "result": {"title": result.title, **result.detail}}


def _day(ms: int) -> str:
    return str(np.datetime64(int(ms), "ms").astype("datetime64[m]"))
