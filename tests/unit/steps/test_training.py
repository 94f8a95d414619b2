"""Training: one model of features and estimator, from the training rows alone, however the estimator is given."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelyard import steps
from modelyard.build.pipelines.cache import Cache
from modelyard.build.pipelines.fingerprint import Fingerprints
from modelyard.build.pipelines.keys import Keys
from modelyard.domain.errors import Invalid
from modelyard.steps import estimators


def people(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"p{number}" for number in range(rows)],
            "age": np.where(random.random(rows) < 0.1, np.nan, random.integers(18, 80, rows)),
            "plan": random.choice(["basic", "plus"], rows),
            "member": random.random(rows) < 0.5,
        }
    )
    score = frame["age"].fillna(40) / 20 + (frame["plan"] == "plus") * 2 + random.normal(size=rows)
    return frame.assign(
        late=np.where(score > score.median(), "yes", "no"),
        band=pd.cut(score, 3, labels=["low", "mid", "high"]).astype(str),
        spent=score * 10,
    )


OTHERS = {"late": ["band", "spent"], "band": ["late", "spent"], "spent": ["late", "band"]}


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("name", estimators.NAMED)
def test_named_estimators_take_a_table_as_it_is(name: str, target: str):
    rows = people()
    learn, test = steps.split(rows, test=0.3)
    model = steps.train(learn, target=target, estimator=name, drop=OTHERS[target])
    evaluation = steps.evaluate(model, test, target=target)
    assert "id" not in evaluation.how["features"]
    assert evaluation.how["task"] == {"late": "binary", "band": "multiclass", "spent": "regression"}[target]
    better = {"binary": ("roc_auc", 0.7), "multiclass": ("balanced_accuracy", 0.4), "regression": ("r2", 0.3)}
    metric, least = better[evaluation.how["task"]]
    assert (evaluation.metrics[metric] > least) == (name != "baseline")
    assert len(steps.predict(model, test.drop(columns=target))) == len(test)


def test_an_estimator_is_the_same_by_object_class_and_name():
    rows = people()[["age", "spent"]].dropna()
    forms: list[Any] = [Ridge(), Ridge, "sklearn.linear_model.Ridge"]
    models = [steps.train(rows, target="spent", estimator=form, params={"alpha": 2.0}) for form in forms]
    answers = [steps.predict(model, rows)["prediction"].to_numpy() for model in models]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    given = Ridge()
    steps.train(rows, target="spent", estimator=given, params={"alpha": 2.0})
    assert given.alpha == 1.0 and not hasattr(given, "coef_")


class Remembers(TransformerMixin, BaseEstimator):
    """A transformer that knows which rows it was fitted on."""

    def fit(self, rows: Any, labels: Any = None) -> "Remembers":
        self.fitted_ = set(rows["age"])
        return self

    def transform(self, rows: Any) -> Any:
        return rows[["age"]].fillna(0.0)


def test_features_are_fitted_on_the_training_rows_alone():
    rows = people().assign(age=lambda frame: np.arange(len(frame)) + 0.5)
    learn, test = steps.split(rows)
    model = steps.train(learn, target="late", estimator=LogisticRegression, features=Remembers())
    fitted = model.named_steps["remembers"].fitted_
    assert fitted == set(learn["age"]) and not fitted & set(test["age"])
    assert "late" not in model.feature_names_in_ and "age" in model.feature_names_in_


def test_seeds_are_set_where_none_is_and_decide_the_model():
    rows = people(200)
    forest = "sklearn.ensemble.RandomForestClassifier"
    how: dict[str, Any] = {
        "target": "late",
        "features": "plain",
        "drop": OTHERS["late"],
        "params": {"n_estimators": 5},
    }

    def answer(seed: int) -> Any:
        model = steps.train(rows, estimator=forest, seed=seed, **how)
        return steps.predict(model, rows)["prediction"].to_numpy()

    np.testing.assert_array_equal(answer(1), answer(1))
    assert (answer(1) != answer(2)).any()
    kept = steps.train(
        rows, estimator=HistGradientBoostingRegressor(random_state=7), target="spent", features="plain"
    )
    assert kept.steps[-1][1].random_state == 7


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"target": "churned"}, "no column 'churned'"),
        ({"estimator": "boost"}, "baseline, linear, boosting, forest"),
        ({"estimator": "sklearn.linear_model.Nothing"}, "has no 'Nothing'"),
        ({"estimator": "no_such_library.Model"}, "not installed"),
        ({"params": {"depth": 3}}, "does not take depth"),
        ({"features": "fancy"}, "plain, scaled"),
    ],
)
def test_what_does_not_fit_together_is_said(how: dict[str, Any], says: str):
    with pytest.raises(Invalid) as told:
        steps.train(people(), **{"target": "late", **how})
    assert says in str(told.value)


def test_equal_estimators_have_equal_keys_and_others_not(tmp_path: Any):
    keys = Keys(Fingerprints(tmp_path, lambda name: name), Cache(tmp_path), {})

    def identity(estimator: Any) -> Any:
        return keys._identity(estimators.describe(estimator), "train")

    def model(c: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c))

    assert identity(model(0.5)) == identity(model(0.5))
    assert identity(model(0.5)) != identity(model(0.6))
    assert identity(Ridge) != identity(LogisticRegression)
    assert identity(Ridge) == identity(Ridge)
    rebuilt = estimators.build(estimators.describe(model(0.5)))
    assert repr(rebuilt) == repr(model(0.5))
