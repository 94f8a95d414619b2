"""Library steps: the stages of a model's life, to compose in a pipeline or to call as plain functions.

    from modelyard import steps

    learn, test = steps.split(steps.read("flights.csv"), stratify="late")

Importing this module loads no library; a step loads what it needs when it runs.
"""

from modelyard.steps.comparing import compare as compare
from modelyard.steps.contracts import quarantine as quarantine
from modelyard.steps.contracts import suggest_contract as suggest_contract
from modelyard.steps.contracts import validate as validate
from modelyard.steps.contracts import write_contract as write_contract
from modelyard.steps.evaluating import evaluate as evaluate
from modelyard.steps.evaluating import plots as plots
from modelyard.steps.predicting import predict as predict
from modelyard.steps.predicting import predict_files as predict_files
from modelyard.steps.querying import query as query
from modelyard.steps.reading import read as read
from modelyard.steps.splitting import split as split
from modelyard.steps.training import train as train
from modelyard.steps.tuning import tune as tune

__all__ = [
    "compare",
    "evaluate",
    "plots",
    "predict",
    "predict_files",
    "quarantine",
    "query",
    "read",
    "split",
    "suggest_contract",
    "train",
    "tune",
    "validate",
    "write_contract",
]
