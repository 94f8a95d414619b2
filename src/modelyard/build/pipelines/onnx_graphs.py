"""A fitted model of numbers as an ONNX graph that computes in double precision, as scikit-learn does.

Known: linear models, scalers, imputing and their pipelines, decision trees, forests, gradient boosting (histogram
boosting and XGBoost too). Whatever is not known raises NotConverted. A converter is not trusted: who uses a graph
compares its answers with the model's own.
"""

from typing import Any

import numpy as np

from modelyard.build.pipelines.onnx_trees import NotConverted as NotConverted
from modelyard.build.pipelines.onnx_trees import Trees, forest_of, histogram_trees, xgboost_trees
from modelyard.domain.errors import MissingExtra

INPUT, OUTPUT = "rows", "answers"
OPSET, ML_OPSET, IR_VERSION = 18, 5, 10
"""ONNX Runtime 1.20 and later read these."""
REGRESSORS = ("LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV")
CLASSIFIERS = ("LogisticRegression", "LogisticRegressionCV")
FORESTS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")
HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def convert(model: Any, function: str) -> bytes:
    """The graph from `rows` (double, rows x columns) to what the model's function answers, serialized.

    function: `predict_proba`, or `predict`; a classifier's `predict` becomes each row's place among its classes.
    Raises NotConverted, MissingExtra.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise MissingExtra("onnx", "onnx", "Writing a model as ONNX") from error
    graph = Graph()
    found = _model(graph, model, function)
    graph.nodes.append(helper.make_node("Identity", [found], [OUTPUT]))
    kind = TensorProto.INT64 if function == "predict" and hasattr(model, "classes_") else TensorProto.DOUBLE
    rows = helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, int(model.n_features_in_)])
    shape = [None, len(model.classes_)] if function == "predict_proba" else [None]
    answers = helper.make_tensor_value_info(OUTPUT, kind, shape)
    made = helper.make_model(
        helper.make_graph(graph.nodes, "model", [rows], [answers], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="modelyard",
    )
    checker.check_model(made)
    return made.SerializeToString()


class Graph:
    """Nodes and constants as they are added; a value is the name of what makes it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """The output of a new node; inputs are values, or arrays that become constants."""
        from onnx import helper  # late: only a model that is converted needs it

        given = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, given, [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any) -> str:
        from onnx import numpy_helper  # late: see above

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _model(graph: Graph, model: Any, function: str) -> str:
    steps = [step for _, step in model.steps] if _is(model, "Pipeline") else [model]
    value = INPUT
    for step in steps[:-1]:
        value = _transformed(graph, step, value)
    last = steps[-1]
    if hasattr(last, "classes_"):
        chances = _probabilities(graph, last, value)
        return chances if function == "predict_proba" else graph.add("ArgMax", chances, axis=1, keepdims=0)
    if function != "predict":
        raise NotConverted(f"{type(last).__name__}.{function}")
    return _numbers(graph, last, value)


def _is(model: Any, *names: str, library: str = "sklearn") -> bool:
    return type(model).__name__ in names and type(model).__module__.startswith(f"{library}.")


def _transformed(graph: Graph, step: Any, value: str) -> str:
    if step is None or step == "passthrough":
        return value
    if _is(step, "StandardScaler"):
        centred = graph.add("Sub", value, step.mean_) if step.with_mean else value
        return graph.add("Div", centred, step.scale_) if step.with_std else centred
    if _is(step, "MinMaxScaler") and not step.clip:
        return graph.add("Add", graph.add("Mul", value, step.scale_), step.min_)
    if _is(step, "SimpleImputer") and not step.add_indicator and np.issubdtype(step.statistics_.dtype, np.floating):
        if not np.isnan(step.statistics_).any() and step.missing_values is np.nan:
            return graph.add("Where", graph.add("IsNaN", value), step.statistics_, value)
    raise NotConverted(type(step).__name__)


def _numbers(graph: Graph, model: Any, value: str) -> str:
    """A regressor's answers, one a row."""
    if _is(model, *REGRESSORS) and np.ndim(model.coef_) == 1:
        return _flat(graph, _linear(graph, model.coef_.reshape(1, -1), np.atleast_1d(model.intercept_), value))
    if _is(model, *HISTOGRAM, *BOOSTED) or _is(model, "XGBRegressor", library="xgboost"):
        return _flat(graph, _link(graph, model, _raw(graph, model, value)))
    if _is(model, *TREES, *FORESTS):
        return _flat(graph, _forest(graph, forest_of(model), value))
    raise NotConverted(type(model).__name__)


def _probabilities(graph: Graph, model: Any, value: str) -> str:
    """A classifier's probabilities, shape (rows, classes)."""
    if _is(model, *CLASSIFIERS):
        raw = _linear(graph, model.coef_, model.intercept_, value)
        return _chances(graph, raw, len(model.coef_))
    if _is(model, *TREES, *FORESTS):
        trees = forest_of(model)
        found = _forest(graph, trees, value)
        return _with_other(graph, found) if trees.targets == 1 else found
    if _is(model, *HISTOGRAM, *BOOSTED) or _is(model, "XGBClassifier", library="xgboost"):
        raw = _raw(graph, model, value)
        return _chances(graph, raw, 1 if len(model.classes_) == 2 else len(model.classes_))
    raise NotConverted(type(model).__name__)


def _linear(graph: Graph, coefficients: Any, intercepts: Any, value: str) -> str:
    weights = np.asarray(coefficients, dtype=np.float64)
    return graph.add("Add", graph.add("MatMul", value, weights.T.copy()), np.asarray(intercepts, dtype=np.float64))


def _chances(graph: Graph, raw: str, columns: int) -> str:
    """Probabilities of raw scores: of the second class for one column, of each class for several."""
    if columns == 1:
        return _with_other(graph, graph.add("Sigmoid", raw))
    return graph.add("Softmax", raw, axis=1)


def _with_other(graph: Graph, second: str) -> str:
    """Both classes' probabilities from the second's."""
    return graph.add("Concat", graph.add("Sub", np.float64(1.0), second), second, axis=1)


def _flat(graph: Graph, value: str) -> str:
    return graph.add("Squeeze", value, np.array([1], dtype=np.int64))


def _raw(graph: Graph, model: Any, value: str) -> str:
    """A boosted model's sum of baseline and trees, shape (rows, 1 or classes)."""
    if _is(model, *HISTOGRAM):
        return _forest(graph, histogram_trees(model), value)
    if _is(model, *BOOSTED):
        return _forest(graph, forest_of(model), value)
    return _forest(graph, xgboost_trees(model), value)


def _link(graph: Graph, model: Any, raw: str) -> str:
    """A regressor's answer from the sum."""
    if _is(model, "HistGradientBoostingRegressor") and type(model._loss.link).__name__ == "LogLink":
        return graph.add("Exp", raw)
    return raw


def _forest(graph: Graph, trees: Trees, value: str) -> str:
    """Each row's baseline and sum of leaves; a mean where the trees are asked for one."""
    if trees.single:  # the trees compare values in single precision
        value = graph.add("Cast", graph.add("Cast", value, to=1), to=11)
    found = graph.add("TreeEnsemble", value, domain="ai.onnx.ml", **_attributes(trees))
    if trees.divisor != 1:
        found = graph.add("Div", found, np.float64(trees.divisor))
    return graph.add("Add", found, np.asarray(trees.baseline, dtype=np.float64)) if np.any(trees.baseline) else found


def _attributes(trees: Trees) -> dict[str, Any]:
    from onnx import TensorProto, helper  # late: see above

    def doubles(values: list[float], name: str) -> Any:
        return helper.make_tensor(name, TensorProto.DOUBLE, (len(values),), values)

    modes = np.full(len(trees.features), 1 if trees.strict else 0, dtype=np.uint8)  # <, or <=
    return {
        "aggregate_function": 1,  # a sum
        "n_targets": trees.targets,
        "post_transform": 0,
        "tree_roots": trees.roots,
        "nodes_featureids": trees.features,
        "nodes_splits": doubles(trees.thresholds, "nodes_splits"),
        "nodes_modes": helper.make_tensor("nodes_modes", TensorProto.UINT8, (len(modes),), modes.tobytes(), raw=True),
        "nodes_truenodeids": trees.left,
        "nodes_trueleafs": trees.left_is_leaf,
        "nodes_falsenodeids": trees.right,
        "nodes_falseleafs": trees.right_is_leaf,
        "nodes_missing_value_tracks_true": trees.missing_left,
        "leaf_targetids": trees.leaf_targets,
        "leaf_weights": doubles(trees.leaves, "leaf_weights"),
    }
