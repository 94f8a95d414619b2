"""The policy over a past that is known: what it trains on, when it retrains, and what that keeps of the quality."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import modelyard
from modelyard.deliver.monitoring import challenger, simulation
from modelyard.deliver.monitoring.simulation import Outcome, Plan, Simulation
from modelyard.domain.errors import Invalid
from modelyard.domain.monitors import Monitor, QualityLimits, Retrain, Window

ROWS, DAY_MS = 400, 86_400_000


def fit(frame: Any, labels: Any, weights: Any) -> Any:
    return LogisticRegression().fit(frame, labels, sample_weight=weights)


def past(windows: int, turns_at: int = 0) -> pd.DataFrame:
    """Windows of ROWS rows; from window `turns_at` on the relation between `x` and the label is another."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(random.normal(size=(windows * ROWS, 2)), columns=["x", "z"])
    sign = np.where(np.arange(len(frame)) < turns_at * ROWS, -1.0, 1.0)
    chance = 1 / (1 + np.exp(-2 * sign * frame["x"]))
    return frame.assign(label=(random.random(len(frame)) < chance).astype(int))


def test_after_a_turn_the_recent_windows_are_preferred() -> None:
    order = challenger.rank(fit, past(20, turns_at=14), "label", "binary", "roc_auc", ROWS, 40_000)
    assert order[0] in ("recent", "weighted") and set(order) == {"all", "recent", "weighted"}


def test_without_a_change_everything_is_trained_on_although_another_window_was_luckier() -> None:
    assert challenger.rank(fit, past(20), "label", "binary", "roc_auc", ROWS, 40_000)[0] == "all"


def test_what_was_measured_is_not_measured_again() -> None:
    known: challenger.Known = {}
    data = past(12), "label", "binary", "roc_auc", ROWS, 40_000
    first = challenger.rank(fit, *data, known)

    def refuses(frame: Any, labels: Any, weights: Any) -> Any:
        raise AssertionError("trained again")

    assert challenger.rank(refuses, *data, known) == first and len(known) == challenger.FOLDS


def test_a_pipeline_gets_the_rows_of_the_window_that_was_chosen() -> None:
    frame = past(20, turns_at=14)
    chosen = modelyard.choose_window(frame, label="label", task="binary", window_rows=ROWS, fit=fit)
    features, labels, weights = chosen.training(frame)
    assert chosen.name in ("recent", "weighted") and len(features) == len(labels)
    assert weights is not None or len(features) == challenger.RECENT_WINDOWS * ROWS
    assert list(features.columns) == ["x", "z"]


def lived(turns_at: int, growth: float | None = None, **retrain: Any) -> Outcome:
    frame = past(24, turns_at)
    declared = Monitor(
        window=Window(rows=ROWS),
        model_quality=QualityLimits(max_regression=0.05),
        retrain=Retrain(cool_down="1d", growth=growth, **retrain),
    )
    times = np.arange(len(frame)) * (7 * DAY_MS // ROWS)
    return Simulation(frame, times, Plan("label", "binary", declared, ROWS, train_windows=6), fit).run()


def test_a_lost_relation_is_learnt_anew_with_few_retrains() -> None:
    outcome = lived(turns_at=12)
    never, always, kept = (outcome.mean(name) for name in simulation.STRATEGIES)
    assert never is not None and always is not None and kept is not None
    assert kept > never + 0.1 and kept > always - 0.02
    assert 1 <= outcome.retrains["policy"] < outcome.retrains["always"] / 2


def test_an_unchanged_world_is_left_alone() -> None:
    outcome = lived(turns_at=0)
    assert outcome.retrains["policy"] == 0 and "model_quality" not in outcome.alarms


def test_more_to_learn_from_retrains_by_itself_where_asked() -> None:
    outcome = lived(turns_at=0, growth=0.5)
    assert [step.window for step in outcome.steps if step.did.startswith("growth")] == [8, 13, 20]


def test_too_few_rows_say_which_window_would_do() -> None:
    with pytest.raises(Invalid, match="at most"):
        Simulation(past(3), np.arange(3 * ROWS), Plan("label", "binary", Monitor(), ROWS), fit)


def test_classes_with_names_are_simulated() -> None:
    data, target = (np.asarray(part) for part in load_digits(return_X_y=True))
    held = target < 5
    names = np.array(["zero", "one", "two", "three", "four"])
    frame = pd.DataFrame(data[held][:, 17:47:2], columns=[f"p{number}" for number in range(15)])
    frame = frame.assign(digit=names[target[held]])

    def fit(rows: Any, labels: Any, weights: Any) -> Any:
        return GaussianNB().fit(rows, labels)

    plan = Plan("digit", "multiclass", Monitor(window=Window(rows=120)), 120, 2)
    outcome = Simulation(frame, np.arange(len(frame)) * 60_000, plan, fit).run()
    mean = outcome.mean("never")
    assert mean is not None and 0.5 < mean <= 1
    two = Plan("digit", "binary", Monitor(window=Window(rows=120)), 120, 2)
    with pytest.raises(Invalid, match="5 classes, not two"):
        Simulation(frame, np.arange(len(frame)), two, fit)
