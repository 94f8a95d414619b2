"""Predicts `TARGET_COLUMN`: read, check, split, train, evaluate, register."""

import modelyard as yard
from modelyard import steps

DATA = "DATA_FILE"
TARGET = "TARGET_COLUMN"
DROP: list[str] = []  # columns that the model must not see, such as what is known only afterwards


@yard.pipeline
def train(estimator: str = "boosting", seed: int = 0):
    """Train on the table as it is now, and register the result.

    estimator: baseline, linear, boosting, forest, or a dotted name such as sklearn.neighbors.KNeighborsClassifier.
    """
    rows = steps.validate(steps.read(DATA), "contract.toml")
    learn, test = steps.split(rows, test=0.25, STRATIFYseed=seed)
    model = steps.train(learn, target=TARGET, estimator=estimator, drop=DROP, seed=seed)
    evaluation = steps.evaluate(model, test, target=TARGET)
    yard.register("MODEL", model=model, evaluation=evaluation, reference=test)
