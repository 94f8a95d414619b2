"""Is a tumour malignant? From measurements of cell nuclei."""

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import modelyard as yard

LABEL = "malignant"


@yard.step
def load() -> pd.DataFrame:
    """One row a tumour; the label is 1 for a malignant one."""
    data = load_breast_cancer(as_frame=True).frame
    data[LABEL] = 1 - data.pop("target")
    return data.rename(columns=lambda name: name.replace(" ", "_"))


@yard.step
def split(data: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, test): a quarter is held out."""
    test = data.sample(frac=0.25)
    return data.drop(test.index), test


@yard.step
def fit(train: pd.DataFrame, c: float) -> Pipeline:
    """The scaling is part of the model, so that serving computes the same."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c))
    return model.fit(train.drop(columns=LABEL), train[LABEL])


@yard.step
def evaluate(model: Pipeline, test: pd.DataFrame) -> yard.Evaluation:
    return yard.evaluate_binary(model, test, label=LABEL)


@yard.pipeline
def train(c: float = 0.5):
    learn, test = split(load())
    model = fit(learn, c)
    yard.register("tumour", model=model, evaluation=evaluate(model, test), reference=test)
