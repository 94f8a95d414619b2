"""modelyard: the whole life of a model in one package.

    import modelyard as yard

    @yard.step
    def fit(rows: pd.DataFrame) -> LogisticRegression: ...

    @yard.pipeline
    def train(): ...

Names are loaded on first use, so that `import modelyard` costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from modelyard.build.pipelines.evaluation import Evaluation as Evaluation
    from modelyard.build.pipelines.evaluation import evaluate as evaluate
    from modelyard.build.pipelines.evaluation import evaluate_binary as evaluate_binary
    from modelyard.build.pipelines.graph import Resources as Resources
    from modelyard.build.pipelines.graph import pipeline as pipeline
    from modelyard.build.pipelines.graph import register as register
    from modelyard.build.pipelines.graph import step as step
    from modelyard.build.pipelines.graph import when as when
    from modelyard.build.pipelines.recorder import log_metric as log_metric
    from modelyard.build.pipelines.recorder import log_param as log_param
    from modelyard.build.pipelines.serializers import register_serializer as register_serializer

    choose_window: Any
    compare_data: Any
    """Not imported even for types: the workflows import this module, and must not reach each other through it."""

_HOME = {
    "Evaluation": "build.pipelines.evaluation",
    "Resources": "build.pipelines.graph",
    "choose_window": "deliver.monitoring.challenger",
    "compare_data": "deliver.monitoring.comparison",
    "evaluate": "build.pipelines.evaluation",
    "evaluate_binary": "build.pipelines.evaluation",
    "log_metric": "build.pipelines.recorder",
    "log_param": "build.pipelines.recorder",
    "pipeline": "build.pipelines.graph",
    "register": "build.pipelines.graph",
    "register_serializer": "build.pipelines.serializers",
    "step": "build.pipelines.graph",
    "when": "build.pipelines.graph",
}
"""The module of modelyard that each public name lives in."""

__all__ = [
    "Evaluation",
    "Resources",
    "__version__",
    "choose_window",
    "compare_data",
    "evaluate",
    "evaluate_binary",
    "log_metric",
    "log_param",
    "pipeline",
    "register",
    "register_serializer",
    "step",
    "when",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'modelyard' has no attribute {name!r}")
    return getattr(import_module(f"modelyard.{home}"), name)
