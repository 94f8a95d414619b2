"""Fitting a model: features and estimator as one, on the training rows alone."""

from typing import TYPE_CHECKING, Any

from modelyard.build.pipelines.recorder import log_param
from modelyard.domain.errors import Invalid
from modelyard.steps import estimators
from modelyard.steps.library import library_step

if TYPE_CHECKING:
    import pandas as pd


def described(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments with estimator and features as descriptions."""
    both = {name: estimators.describe(given[name]) for name in ("estimator", "features") if name in given}
    return {**given, **both}


@library_step(described)
def train(
    rows: "pd.DataFrame",
    target: str,
    estimator: Any = "boosting",
    params: dict[str, Any] | None = None,
    features: Any = None,
    drop: list[str] | None = None,
    seed: int = 0,
    task: str | None = None,
) -> Any:
    """A model fitted on the rows: a scikit-learn estimator that takes the frame's columns as they are.

    estimator: `baseline`, `linear`, `boosting` or `forest` with the features that suit it; or an unfitted estimator,
    its class or its dotted name. params: of the estimator. features: an unfitted transformer, `plain` or `scaled`;
    it becomes part of the model. drop: columns that the model must not see. seed: for every `random_state` that is
    not set. task: told by the target where it is not given; `ranking` and `forecasting` are learnt as numbers. Rows
    without a target teach nothing and are left out. Raises Invalid for what does not fit together.
    """
    inputs, labels = learnable(rows, target, drop or [])
    model, columns = assemble(inputs, labels, estimator, params or {}, features, seed, task)
    for name, value in (params or {}).items():
        log_param(name, value)
    log_param("estimator", type(last_of(model)).__name__)
    return model.fit(inputs[columns], labels)


def learnable(rows: "pd.DataFrame", target: str, drop: list[str]) -> "tuple[pd.DataFrame, Any]":
    """(input columns, labels) of the rows that have a label. Raises Invalid."""
    missing = [name for name in (target, *drop) if name not in rows.columns]
    if missing:
        known = ", ".join(map(str, list(rows.columns)[:30]))
        raise Invalid(f"There is no column {missing[0]!r}.", remedy=f"Columns: {known}.")
    held = rows[rows[target].notna()]
    if held[target].nunique() < 2:
        raise Invalid(f"{target!r} holds one value only.", remedy="Name a target that varies, or give more rows.")
    return held.drop(columns=[target, *drop]), held[target].to_numpy()


def assemble(
    inputs: "pd.DataFrame",
    labels: Any,
    estimator: Any,
    params: dict[str, Any],
    features: Any,
    seed: int,
    task: str | None = None,
) -> tuple[Any, list[str]]:
    """(unfitted model, the columns that it takes): a named one leaves out identifiers, texts and times, any other
    takes all. Raises Invalid for a param that the estimator does not have.
    """
    import pandas as pd  # late: importing steps must not load it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from modelyard.build.explore import candidates, profile

    named = isinstance(estimator, str) and estimator in estimators.NAMED
    taken = candidates.usable(inputs, "")
    if named:
        learnt = "regression" if task in ("ranking", "forecasting") else task or profile.task_of(pd.Series(labels))
        model = candidates.combined(estimator, learnt, inputs[taken], seed)
        model = model if features is None else last_of(model)
    else:
        model = estimators.build(estimator)
    if isinstance(features, str):
        if features not in estimators.FEATURES:
            raise Invalid(f"There is no feature set {features!r}.", remedy=f"Sets: {', '.join(estimators.FEATURES)}.")
        model = make_pipeline(candidates.feature_set(features, inputs[taken]), model)
    elif features is not None:
        # the front passes all on, and notes the columns: transformers of one's own seldom do
        model = make_pipeline(FunctionTransformer(), estimators.build(features), model)
    _seeded(model, seed)
    try:
        last_of(model).set_params(**params)
    except ValueError as error:
        known = ", ".join(sorted(last_of(model).get_params(deep=False)))
        raise Invalid(
            f"{type(last_of(model)).__name__} does not take {', '.join(sorted(params))}.",
            remedy=f"It takes: {known}.",
        ) from error
    return model, taken if named or isinstance(features, str) else list(inputs.columns)


def last_of(model: Any) -> Any:
    """The estimator at the end of a pipeline; a plain estimator itself."""
    return model.steps[-1][1] if hasattr(model, "steps") else model


def _seeded(model: Any, seed: int) -> None:
    held = model.get_params()
    unset = [name for name, value in held.items() if name.endswith("random_state") and value is None]
    model.set_params(**dict.fromkeys(unset, seed))
