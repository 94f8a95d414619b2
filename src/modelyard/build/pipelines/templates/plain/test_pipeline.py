"""Steps are plain functions: outside a pipeline they just run."""

import pipeline
from modelyard import steps


def test_the_table_keeps_its_contract():
    steps.validate(steps.read(pipeline.DATA), "contract.toml")


def test_the_rows_that_judge_are_not_learnt_from():
    rows = steps.read(pipeline.DATA)
    learn, test = steps.split(rows.assign(row=range(len(rows))), test=0.25)
    assert not set(learn["row"]) & set(test["row"])


def test_a_model_answers_without_the_target():
    rows = steps.read(pipeline.DATA)
    model = steps.train(rows, target=pipeline.TARGET, estimator="linear", drop=pipeline.DROP)
    inputs = rows.drop(columns=[pipeline.TARGET, *pipeline.DROP]).head(3)
    assert len(steps.predict(model, inputs)["prediction"]) == 3
