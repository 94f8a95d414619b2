"""Searching for an estimator's params: every trial is a step, so it is cached, tracked and run on the cluster."""

from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.graph import step
from modelyard.build.pipelines.recorder import log_metric, log_param
from modelyard.domain.errors import Invalid, MissingExtra
from modelyard.domain.metrics import PRIMARY, lower_is_better
from modelyard.steps import training

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 3
STARTUP = 4
"""Trials that finish before a worse one is pruned."""


def tune(
    rows: "pd.DataFrame",
    target: str,
    estimator: Any = "boosting",
    space: dict[str, Any] | None = None,
    trials: int = 20,
    parallel: int = 2,
    metric: str | None = None,
    features: Any = None,
    drop: list[str] | None = None,
    group: str | None = None,
    time: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The best params of `trials` trials, each cross-validated over FOLDS folds, `parallel` at once.

    space: by param `(low, high)` of numbers, `(low, high, "log")`, or a list of choices. metric: by the task where it
    is not given. group, time: columns by which folds are kept apart, as of `split`. A trial whose first folds are
    worse than the median of those before is pruned. Optuna's TPE sampler proposes each round from all rounds before.
    """
    if not space:
        raise Invalid("There is nothing to search.", remedy='Give space={"learning_rate": (0.01, 0.5, "log")}.')
    _check(space, trials, parallel)
    asked = training.described({"estimator": estimator, "features": features})
    fixed = {"target": target, "metric": metric, "drop": drop or [], "group": group, "time": time, "seed": seed}
    history: Any = []
    low = lowest(rows, target, metric)
    for start in range(0, trials, parallel):
        points = propose(space, history, min(parallel, trials - start), seed, low)
        made = trial.map(points, rows=rows, history=history, **fixed, **asked)
        history = note(history, made)
    return best(history)


@step
def lowest(rows: "pd.DataFrame", target: str, metric: str | None) -> bool:
    """Whether the lowest score is the best."""
    return lower_is_better(metric or _metric(rows, target))


@step
def propose(
    space: dict[str, Any], history: list[dict[str, Any]], count: int, seed: int, lowest: bool
) -> list[dict[str, Any]]:
    """The next params to try, by what was tried before; the same for the same history."""
    study = _study(space, history, seed, lowest)
    asked = [study.ask(_distributions(space)) for _ in range(count)]
    return [each.params for each in asked]


@step
def trial(
    point: dict[str, Any],
    rows: "pd.DataFrame",
    history: list[dict[str, Any]],
    target: str,
    estimator: Any,
    features: Any,
    metric: str | None,
    drop: list[str],
    group: str | None,
    time: str | None,
    seed: int,
) -> dict[str, Any]:
    """{params, scores by fold, score, pruned} of one point."""
    metric = metric or _metric(rows, target)
    scores: list[float] = []
    pruned = False
    for name, value in point.items():
        log_param(name, value)
    for learn, test in _folds(rows, target, group, time, seed):
        columns = [*drop, *(name for name in (group, time) if name and name not in drop)]
        inputs, labels = training.learnable(learn, target, columns)
        model, taken = training.assemble(inputs, labels, estimator, point, features, seed)
        scores.append(_score(model.fit(inputs[taken], labels), test, target, metric))
        pruned = len(scores) < FOLDS and _worse(scores, history, lower_is_better(metric))
        if pruned:
            break
    score = sum(scores) / len(scores)
    log_metric(metric, score)
    log_metric("folds", len(scores))
    return {"params": point, "scores": scores, "score": score, "pruned": pruned, "metric": metric}


@step
def note(history: list[dict[str, Any]], made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history with the trials of a round."""
    return [*history, *made]


@step
def best(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The params of the best trial that was not pruned."""
    whole = [each for each in history if not each["pruned"]]
    metric = whole[0]["metric"]
    ordered = sorted(whole, key=lambda each: each["score"], reverse=not lower_is_better(metric))
    log_metric(f"best_{metric}", ordered[0]["score"])
    log_metric("pruned_trials", len(history) - len(whole))
    return ordered[0]["params"]


def _check(space: dict[str, Any], trials: int, parallel: int) -> None:
    if trials < 1 or parallel < 1:
        raise Invalid("A search needs trials.", remedy="Give trials and parallel of 1 or more.")
    for name, held in space.items():
        numbers = isinstance(held, tuple) and all(isinstance(value, int | float) for value in held[:2])  # pyright: ignore[reportUnknownVariableType]
        log = isinstance(held, tuple) and held[2:] in ((), ("log",))
        if not (isinstance(held, list) and held) and not (numbers and log and held[0] <= held[1]):
            raise Invalid(
                f"space[{name!r}] is {held!r}.",
                remedy='Give (low, high) or (low, high, "log") of numbers, or a list of choices.',
            )


def _distributions(space: dict[str, Any]) -> dict[str, Any]:
    from optuna import distributions as of  # late: an extra; `_study` says how to install it

    found: dict[str, Any] = {}
    for name, held in space.items():
        if isinstance(held, list):
            found[name] = of.CategoricalDistribution(held)
        else:
            whole = isinstance(held[0], int) and isinstance(held[1], int)
            kind = of.IntDistribution if whole else of.FloatDistribution
            found[name] = kind(held[0], held[1], log=len(held) > 2)
    return found


def _study(space: dict[str, Any], history: list[dict[str, Any]], seed: int, lowest: bool) -> Any:
    try:
        import optuna  # late: an extra
    except ImportError as error:
        raise MissingExtra("optuna", "tune", "Tuning") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed + len(history), n_startup_trials=min(10, 2 + 2 * len(space)))
    study = optuna.create_study(sampler=sampler, direction="minimize" if lowest else "maximize")
    state = optuna.trial.TrialState
    for each in history:
        study.add_trial(
            optuna.trial.create_trial(
                state=state.PRUNED if each["pruned"] else state.COMPLETE,
                params=each["params"],
                distributions=_distributions(space),
                value=each["score"],
                intermediate_values=dict(enumerate(each["scores"])),
            )
        )
    return study


def _worse(scores: list[float], history: list[dict[str, Any]], lowest: bool) -> bool:
    """Whether the mean so far is worse than the median of what finished trials had after as many folds.

    The rule of Optuna's MedianPruner (Golovin et al. 2017, Google Vizier, 3.2.1).
    """
    so_far = [sum(each["scores"][: len(scores)]) / len(scores) for each in history if not each["pruned"]]
    if len(so_far) < STARTUP:
        return False
    middle, mean = sorted(so_far)[len(so_far) // 2], sum(scores) / len(scores)
    return mean > middle if lowest else mean < middle


def _metric(rows: "pd.DataFrame", target: str) -> str:
    from modelyard.build.explore import profile  # late: importing steps must stay light

    return PRIMARY[profile.task_of(rows[target].dropna())]


def _folds(
    rows: "pd.DataFrame", target: str, group: str | None, time: str | None, seed: int
) -> "list[tuple[pd.DataFrame, pd.DataFrame]]":
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit  # late: see above

    from modelyard.build.explore import profile

    held = rows[rows[target].notna()]
    if time:
        held = held.sort_values(time, kind="stable")
        places = TimeSeriesSplit(FOLDS).split(held)
    elif group:
        places = GroupKFold(FOLDS, shuffle=True, random_state=seed).split(held, groups=held[group])
    elif profile.task_of(held[target]) == "regression":
        places = KFold(FOLDS, shuffle=True, random_state=seed).split(held)
    else:
        places = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(held, held[target].astype(str))
    return [(held.iloc[learn], held.iloc[test]) for learn, test in places]


def _score(model: Any, test: "pd.DataFrame", target: str, metric: str) -> float:
    from modelyard.build.pipelines import evaluation, tasks  # late: see above

    task = tasks.task_of(model)
    truth = tasks.truth_of(task, model, test[target])
    columns = evaluation.inputs_of(model, test, target, None)
    found = tasks.measure(task, truth, tasks.predicted(task, model, test[columns])).metrics
    if metric not in found:
        raise Invalid(f"There is no metric {metric!r} of {task}.", remedy=f"Metrics: {', '.join(sorted(found))}.")
    return found[metric]
