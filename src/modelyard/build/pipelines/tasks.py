"""What a model predicts and how that is judged, by task: binary, multiclass, regression, ranking, forecasting."""

from typing import Any

from modelyard.domain.errors import Invalid
from modelyard.kit.scores import Measured, binary, multiclass, regression

TASKS = ("binary", "multiclass", "regression", "ranking", "forecasting")


def task_of(model: Any) -> str:
    """Binary or multiclass for a classifier by its classes, else regression."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        return "regression"
    return "binary" if len(classes) == 2 else "multiclass"


def check(task: str) -> None:
    """Raises Invalid for a task that there is not."""
    if task not in TASKS:
        raise Invalid(f"There is no task {task!r}.", remedy=f"Tasks: {', '.join(TASKS)}.")


def truth_of(task: str, model: Any, labels: Any) -> Any:
    """Labels as the task compares them, shape (rows,): 1 for the model's second class, classes, or floats.

    labels: a pandas series. Raises Invalid for a missing label, and for one that a classifier of two classes does not
    know.
    """
    import numpy as np  # late: importing modelyard must not load it

    missing = int(labels.isna().sum())
    if missing:
        raise Invalid(f"{missing} of the labels are missing.", remedy="Leave those rows out: rows.dropna(subset=...)")
    if task == "multiclass":
        return np.asarray(labels)
    if task != "binary":
        return np.asarray(labels, dtype=float)
    classes = list(getattr(model, "classes_", (0, 1)))
    unknown = labels[~labels.isin(classes)]
    if len(unknown):
        raise Invalid(
            f"The label {str(unknown.iloc[0])!r} is no class of the model.",
            remedy=f"Its classes: {', '.join(map(str, classes))}.",
        )
    return np.asarray(labels == classes[1]).astype(int)


def predicted(task: str, model: Any, features: Any) -> Any:
    """What is kept as the prediction, shape (rows,): the second class's probability, the class, or the number.

    Of a classifier that ranks it is the mean of its classes, weighed by their probabilities.
    """
    import numpy as np  # late: see above

    if task == "binary":
        return np.asarray(model.predict_proba(features)[:, 1])
    if task == "multiclass":
        return np.asarray(model.predict(features))
    if task == "ranking" and hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(features) @ np.asarray(model.classes_, dtype=float))
    return np.asarray(model.predict(features), dtype=float)


def asked(task: str, model: Any) -> Any:
    """The model's function that serving calls."""
    return model.predict_proba if task == "binary" else model.predict


def measure(task: str, truth: Any, prediction: Any) -> Measured:
    """The metrics of rows that need nothing beside truth and prediction."""
    return {"binary": binary, "multiclass": multiclass}.get(task, regression)(truth, prediction)
