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
    from modelyard.build.pipelines import Evaluation, Resources, pipeline, register, step
    from modelyard.build.pipelines import evaluate_binary as evaluate_binary

_HOME = {
    "Evaluation": "modelyard.build.pipelines",
    "Resources": "modelyard.build.pipelines",
    "evaluate_binary": "modelyard.build.pipelines",
    "pipeline": "modelyard.build.pipelines",
    "register": "modelyard.build.pipelines",
    "step": "modelyard.build.pipelines",
}

__all__ = ["Evaluation", "Resources", "__version__", "evaluate_binary", "pipeline", "register", "step"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'modelyard' has no attribute {name!r}")
    return getattr(import_module(home), name)
