"""Models to start from: feature sets and estimators by name, and their usual combinations."""

from typing import Any

from modelyard.build.explore.profile import kind_of

SEED = 0


def usable(frame: Any, target: str) -> list[str]:
    """Columns that a first model can take: numbers, truths and categories that are no identifiers."""
    found: list[str] = []
    for name in frame.columns:
        kind, distinct = kind_of(frame[name]), frame[name].astype(str).nunique()
        identifier = distinct == len(frame) and not str(frame[name].dtype).startswith("float")
        if name != target and kind in ("number", "truth", "category") and distinct > 1 and not identifier:
            found.append(str(name))
    return found


def feature_set(name: str, features: Any, keep_missing: bool = False) -> Any:
    """An unfitted transformer of a frame's columns.

    `plain`: categories as codes, missing numbers as the median, or as they are with keep_missing. `scaled`: numbers
    standardized, categories one-hot. A category that is new later is taken for none of those known.
    """
    from sklearn.compose import make_column_transformer  # late: importing explore must not load it
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    names = [name for name in features.columns if kind_of(features[name]) == "number"]
    others = [name for name in features.columns if name not in names]
    if name == "scaled":
        return make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), names),
            (OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=30), others),
        )
    numbers = "passthrough" if keep_missing else SimpleImputer(strategy="median")
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return make_column_transformer((codes, others), (numbers, names))


def estimator(name: str, task: str, seed: int = SEED) -> Any:
    """An unfitted estimator by name: baseline (looks at nothing), linear, boosting or forest."""
    from sklearn.dummy import DummyClassifier, DummyRegressor  # late: see above
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.linear_model import LogisticRegression, Ridge

    regression = task == "regression"
    if name == "baseline":
        return DummyRegressor() if regression else DummyClassifier(strategy="prior")
    if name == "linear":
        return Ridge() if regression else LogisticRegression(max_iter=1000)
    if name == "boosting":
        return (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(random_state=seed)
    forest = RandomForestRegressor if regression else RandomForestClassifier
    return forest(n_estimators=100, min_samples_leaf=5, random_state=seed)


def combined(name: str, task: str, features: Any, seed: int = SEED) -> Any:
    """An unfitted pipeline: the named estimator behind the feature set that suits it."""
    from sklearn.pipeline import make_pipeline  # late: see above

    model = estimator(name, task, seed)
    if name == "baseline":
        return model
    chosen = feature_set("scaled" if name == "linear" else "plain", features, keep_missing=name == "boosting")
    return make_pipeline(chosen, model)


def candidates(task: str, features: Any) -> dict[str, Any]:
    """Unfitted models by name, the cheapest first; a baseline that looks at nothing leads."""
    return {name: combined(name, task, features) for name in ("baseline", "linear", "boosting", "forest")}
