"""Pipelines: plain typed functions, cached, resumable, parallel.

@yard.step
def features(flights: pd.DataFrame) -> pd.DataFrame: ...

@yard.pipeline
def train(until: str = "2013-03-01"):
    rows = features(load(until))
    ...
"""

from modelyard.build.pipelines.evaluation import Evaluation, evaluate_binary
from modelyard.build.pipelines.graph import Pipeline, Resources, Step, pipeline, register, step
from modelyard.build.pipelines.recorder import log_metric, log_param

__all__ = [
    "Evaluation",
    "Pipeline",
    "Resources",
    "Step",
    "evaluate_binary",
    "log_metric",
    "log_param",
    "pipeline",
    "register",
    "step",
]
