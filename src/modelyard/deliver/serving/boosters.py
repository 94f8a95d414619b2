"""XGBoost's and LightGBM's own boosters without the checks of their scikit-learn classes; their categories by name.

A model that was trained on pandas' categories is asked for text: the signature cannot say more. Here each category is
given to the booster as the number that it stands for; the libraries themselves take nothing but a frame that somebody
has cast to categories.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelyard.deliver.serving.bits import Array, Function
from modelyard.deliver.serving.parts import Categories, Numbers, Parts, unknown_category
from modelyard.deliver.serving.signature import NUMERIC, Signature

Named = dict[str, list[Any]]
"""Categories by column, in the order of their numbers."""


def short(model: Any, function: str) -> Function | None:
    """The function by the booster, of the scikit-learn classes of both libraries; None for others."""
    known = {"lightgbm": _lightgbm, "xgboost": _xgboost}.get(type(model).__module__.partition(".")[0])
    return None if known is None else known(model, function)


def _lightgbm(model: Any, function: str) -> Function | None:
    """None where the objective is somebody's own."""
    if callable(model.objective_):
        return None
    booster = model.booster_

    def raw(rows: Array) -> Array:
        return booster.predict(rows, num_threads=1)

    classes = getattr(model, "classes_", None)
    if classes is None:
        return raw if function == "predict" else None
    chances = _chances(raw, several=model.n_classes_ > 2)
    if function == "predict_proba":
        return chances
    return lambda rows: model.classes_.take(chances(rows).argmax(axis=1), axis=0)


def _xgboost(model: Any, function: str) -> Function | None:
    """None for objectives that are not known."""
    booster, rounds = model.get_booster(), model._get_iteration_range(None)

    def raw(rows: Array) -> Array:
        return booster.inplace_predict(rows, iteration_range=rounds, missing=model.missing, validate_features=False)

    if type(model).__name__ == "XGBRegressor":
        return raw if function == "predict" else None
    if type(model).__name__ != "XGBClassifier" or model.objective not in ("binary:logistic", "multi:softprob"):
        return None
    several = model.objective == "multi:softprob"
    if function == "predict_proba":
        return _chances(raw, several=several)
    if several:
        return lambda rows: raw(rows).argmax(axis=1)
    return lambda rows: (raw(rows) > 0.5).astype(int)


def _chances(raw: Function, *, several: bool) -> Function:
    """A column for each class, as both libraries make them; of two classes the booster tells the second's alone."""

    def chances(rows: Array) -> Array:
        found = raw(rows)
        return found if several else np.vstack((1.0 - found, found)).transpose()

    return chances


def lightgbm_categories(booster: Any, signature: Signature) -> Named:
    """The categories of each column of text; none where they are not those that the booster was trained with."""
    known = booster.pandas_categorical or []
    found = re.search(r"^\[categorical_feature: ([0-9,]*)\]$", booster.model_to_string(num_iteration=1), re.MULTILINE)
    places = [int(place) for place in found[1].split(",") if place] if found else []
    if len(places) != len(known):
        return {}
    names = booster.feature_name()
    return _of_text({names[place]: list(values) for place, values in zip(places, known, strict=True)}, signature)


def xgboost_categories(booster: Any, signature: Signature) -> Named:
    """See `lightgbm_categories`; XGBoost keeps them from 3.1 on."""
    if "c" not in (booster.feature_types or []) or not hasattr(booster, "get_categories"):
        return {}
    held = booster.get_categories(export_to_arrow=True).to_arrow()
    return _of_text({name: values.to_pylist() for name, values in held if values is not None}, signature)


def _of_text(named: Named, signature: Signature) -> Named:
    text = {column.name for column in signature.columns if column.type == "string"}
    fit = set(named) == text and all(type(value) is str for values in named.values() for value in values)
    return named if fit else {}


def with_categories(predict: Function, named: Named, *, unknown: bool) -> Function:
    """The function of a frame whose columns of text are cast to the categories that the model was trained with.

    unknown: whether another category is taken as a missing one; else it raises BadInput.
    """

    def cast(frame: Any) -> Array:
        import pandas as pd  # late: a frame came

        made = {name: pd.Categorical(frame[name], categories=values) for name, values in named.items()}
        for name, values in made.items():
            strange = np.flatnonzero(values.isna() & frame[name].notna())
            if len(strange) and not unknown:
                raise unknown_category(name, int(strange[0]), frame[name].iloc[strange[0]], named[name])
        return predict(frame.assign(**made))

    return cast


def by_columns(
    short: Function, own: Function, names: Sequence[str], named: Named, signature: Signature, *, unknown: bool
) -> Callable[[dict[str, Any]], Array] | None:
    """The short function of columns by name; None unless it gives `own`'s bits.

    names: the booster's columns in order; unknown: whether an unknown category is taken, as a missing one.
    """
    of = {column.name: column for column in signature.columns}
    if not named or not set(names) <= set(of):
        return None
    made = Parts(len(names))
    for place, name in enumerate(names):
        if name in named:
            count = len(named[name])
            values = np.array([*range(count), np.nan])[:, None]
            at: dict[Any, int] = {value: index for index, value in enumerate(named[name])}
            at[None] = count
            places = np.full((count + 1, 1), place, dtype=np.intp)
            made.parts.append(Categories(name, at, count if unknown else None, places, values))
        elif of[name].type in NUMERIC:
            made.parts.append(Numbers((of[name],), [], place))
        else:
            return None

    def answer(given: dict[str, Any]) -> Array:
        return short(made.dense(given))

    return answer if made.agree(answer, own, signature) else None
