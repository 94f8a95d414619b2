"""What a model looks at: exact where it is known, quiet while nothing changes, heard when it leans elsewhere."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from modelyard.deliver.monitoring import explanations

ROWS, TARGET = (np.asarray(part) for part in load_diabetes(return_X_y=True))
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


def columns(rows: Any) -> dict[str, list[Any]]:
    return {name: rows[:, place].tolist() for place, name in enumerate(NAMES)}


def asked(function: Any, calls: list[int] | None = None) -> explanations.Predict:
    def predict(held: dict[str, list[Any]]) -> Any:
        rows = np.column_stack([held[name] for name in held])
        if calls is not None:
            calls.append(len(rows))
        return function(rows).tolist()

    return predict


def test_of_a_linear_model_they_are_the_weights_times_the_distance() -> None:
    model = LinearRegression().fit(ROWS, TARGET)
    found = explanations.shapley(asked(model.predict), columns(ROWS[:60]), columns(ROWS), walks=80)
    exact = model.coef_ * (ROWS[:60] - ROWS.mean(axis=0))
    assert np.abs(found - exact).mean() < 0.2 * np.abs(exact).mean()
    answers = model.predict(ROWS[:60])
    assert found.sum(axis=1) == pytest.approx(answers - TARGET.mean(), abs=30)  # they add up to the answer


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(1e-3)])
def test_unchanged_windows_are_quiet_and_another_mixture_is_not(model: Any) -> None:
    predict = asked(model.fit(ROWS, TARGET).predict)
    reference = columns(ROWS[:300])
    known = explanations.explain_reference(predict, reference, 100)
    random = np.random.default_rng(1)
    for _ in range(6):
        window = ROWS[random.integers(0, 442, 100)]
        assert not explanations.compare(predict, reference, known, columns(window), 100, 0.9).drifted
    changed = ROWS[300:].copy()
    changed[:, [2, 4, 5, 8]] = ROWS[:, [2, 4, 5, 8]].mean(axis=0)  # no longer tells people apart
    found = explanations.compare(predict, reference, known, columns(changed), 100, 0.9)
    assert found.drifted and "rose from place" in found.title


def test_classes_are_explained_by_name_or_by_probability() -> None:
    rows, target = (np.asarray(part) for part in load_breast_cancer(return_X_y=True))
    chosen = [0, 1, 20, 24]
    rows = rows[:, chosen] / rows[:, chosen].std(axis=0)
    model = LogisticRegression().fit(rows, np.array(["malignant", "benign"])[target])
    held = {str(place): rows[:60, place].tolist() for place in range(4)}
    background = {str(place): rows[:, place].tolist() for place in range(4)}
    probable = np.abs(explanations.shapley(asked(model.predict_proba), held, background)).mean(axis=0)
    named = np.abs(explanations.shapley(asked(model.predict), held, background)).mean(axis=0)
    assert probable.argmax() == named.argmax() == np.abs(model.coef_[0]).argmax()


def test_the_cost_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations, "MOST_PREDICTIONS", 2000)
    calls: list[int] = []
    predict = asked(lambda rows: rows.sum(axis=1), calls)
    known = explanations.explain_reference(predict, columns(ROWS), 200)
    assert sum(calls) <= 2000 + 442 and known.rows <= 90
