"""Models as people log them, with stock MLflow, one of each flavor that is served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROWS = 4000
NUMBERS = [f"n{index}" for index in range(8)]
CITIES = [f"city {index:03}" for index in range(200)]
WORDS = [f"word{index}" for index in range(3000)]
Saved = tuple[pd.DataFrame, str]
"""Rows to ask for, and what the model's own libraries are imported by."""


def mixed() -> tuple[pd.DataFrame, pd.Series]:
    """Eight columns of numbers with holes, four of text: (rows, labels)."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(ROWS, 8)), columns=NUMBERS)
    texts = {"carrier": ["AA", "B6", "DL", "UA", "WN"], "origin": ["EWR", "JFK", "LGA"], "day": list("MTWFS")}
    for name, values in {**texts, "city": CITIES}.items():
        rows[name] = random.choice(values, ROWS)
    labels = (rows["n0"] + (rows["carrier"] == "AA") + rows["n1"] ** 2 > 1).astype(int)
    return rows.mask(random.random(rows.shape) < 0.02), labels


def numbers() -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(random.normal(size=(ROWS, 20)), columns=[f"feature_{index}" for index in range(20)])
    return rows, (rows["feature_0"] + rows["feature_1"] ** 2 > 1).astype(int)


def prepared(final: Any, encoder: Any) -> Any:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    text = make_column_selector(dtype_exclude="number")
    number = make_column_selector(dtype_include="number")
    whole = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_pipeline(make_column_transformer((whole, number), (encoder, text)), final)


def one_hot(**options: Any) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    filling = SimpleImputer(strategy="constant", fill_value="missing", missing_values=np.nan)
    return make_pipeline(filling, OneHotEncoder(handle_unknown="ignore", **options))


def sklearn(folder: Path, estimator: Any, data: tuple[Any, Any], function: str = "predict_proba") -> Saved:
    import mlflow

    rows, labels = data
    estimator.fit(rows, labels)
    signature = mlflow.models.infer_signature(rows, getattr(estimator, function)(rows))
    mlflow.sklearn.save_model(
        estimator, str(folder), signature=signature, pip_requirements=["scikit-learn"], pyfunc_predict_fn=function,
        serialization_format="cloudpickle",
    )  # fmt: skip
    return rows, "sklearn.ensemble" + (", pandas" if "carrier" in rows else "")


def logistic_mixed(folder: Path) -> Saved:
    from sklearn.linear_model import LogisticRegression

    return sklearn(folder, prepared(LogisticRegression(max_iter=500), one_hot()), mixed())


def boosting_mixed(folder: Path) -> Saved:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return sklearn(folder, prepared(HistGradientBoostingClassifier(), one_hot(sparse_output=False)), mixed())


def forest_mixed(folder: Path) -> Saved:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import OrdinalEncoder

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    return sklearn(folder, prepared(RandomForestClassifier(random_state=0), encoder), mixed())


def forest(folder: Path) -> Saved:
    from sklearn.ensemble import RandomForestClassifier

    return sklearn(folder, RandomForestClassifier(random_state=0), numbers())


def lightgbm(folder: Path) -> Saved:
    import lightgbm
    import mlflow

    rows, labels = numbers()
    model = lightgbm.LGBMClassifier(verbose=-1).fit(rows, labels)
    signature = mlflow.models.infer_signature(rows, model.predict(rows))
    mlflow.lightgbm.save_model(model, str(folder), signature=signature, pip_requirements=["lightgbm"])
    return rows, "lightgbm, skops.io"


def _as_categories(rows: pd.DataFrame) -> pd.DataFrame:
    text = rows.select_dtypes(exclude="number").columns
    return rows.astype(dict.fromkeys(text, "category"))


def lightgbm_categories(folder: Path) -> Saved:
    import lightgbm
    import mlflow

    rows, labels = mixed()
    model = lightgbm.LGBMClassifier(verbose=-1).fit(_as_categories(rows), labels)
    signature = mlflow.models.infer_signature(rows, labels.to_numpy())
    mlflow.lightgbm.save_model(model, str(folder), signature=signature, pip_requirements=["lightgbm"])
    return rows, "lightgbm, skops.io, pandas"


def xgboost(folder: Path) -> Saved:
    import mlflow
    import xgboost

    rows, labels = numbers()
    model = xgboost.XGBClassifier().fit(rows, labels)
    signature = mlflow.models.infer_signature(rows, model.predict(rows))
    mlflow.xgboost.save_model(model, str(folder), signature=signature, pip_requirements=["xgboost"])
    return rows, "xgboost"


def xgboost_categories(folder: Path) -> Saved:
    import mlflow
    import xgboost

    rows, labels = mixed()
    model = xgboost.XGBClassifier(enable_categorical=True).fit(_as_categories(rows), labels)
    signature = mlflow.models.infer_signature(rows, labels.to_numpy())
    mlflow.xgboost.save_model(model, str(folder), signature=signature, pip_requirements=["xgboost"])
    return rows, "xgboost, pandas"


def catboost(folder: Path) -> Saved:
    import catboost
    import mlflow

    rows, labels = mixed()
    rows = rows.fillna({name: "missing" for name in rows.select_dtypes(exclude="number")})
    text = list(rows.select_dtypes(exclude="number"))
    model = catboost.CatBoostClassifier(iterations=100, cat_features=text, verbose=False, allow_writing_files=False)
    model.fit(rows, labels)
    signature = mlflow.models.infer_signature(rows, labels.to_numpy())
    mlflow.catboost.save_model(model, str(folder), signature=signature, pip_requirements=["catboost"])
    return rows, "catboost, pandas"


def texts(folder: Path) -> Saved:
    from sklearn.compose import make_column_transformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    random = np.random.default_rng(0)
    rows = pd.DataFrame({"text": [" ".join(random.choice(WORDS, 40)) for _ in range(ROWS)]})
    labels = rows["text"].str.contains("word11").astype(int)
    model = make_pipeline(make_column_transformer((TfidfVectorizer(), "text")), LogisticRegression())
    rows_, _ = sklearn(folder, model, (rows, labels))
    return rows_, "sklearn.ensemble, pandas"


def onnx(folder: Path) -> Saved:
    import mlflow
    import onnx
    from sklearn.ensemble import HistGradientBoostingClassifier

    from modelyard.build.pipelines import onnx_graphs

    rows, labels = numbers()
    model = HistGradientBoostingClassifier().fit(rows, labels)
    graph = onnx.load_from_string(onnx_graphs.convert(model, "predict_proba"))
    signature = mlflow.models.infer_signature(rows, model.predict_proba(rows))
    mlflow.onnx.save_model(graph, str(folder), signature=signature, pip_requirements=["onnxruntime"])
    return rows, "onnxruntime"


def _network(width: int) -> Any:
    import torch

    torch.manual_seed(0)
    layers = (torch.nn.Linear(width, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2), torch.nn.Softmax(dim=1))
    return torch.nn.Sequential(*layers).eval()


def pytorch(folder: Path) -> Saved:
    """A module as MLflow pickles it."""
    return _torch(folder, lambda network, rows: network, serialization_format="pickle")


def exported_program(folder: Path) -> Saved:
    """A module as MLflow exports it by default."""
    return _torch(folder, lambda network, rows: network, input_example=np.zeros((2, 20), dtype=np.float32))


def torchscript(folder: Path) -> Saved:
    import torch

    return _torch(folder, torch.jit.trace, serialization_format="pickle")


def _torch(folder: Path, made: Callable[[Any, Any], Any], **options: Any) -> Saved:
    import mlflow
    import torch

    rows, _ = numbers()
    given = rows.to_numpy(dtype=np.float32)
    network = _network(given.shape[1])
    signature = mlflow.models.infer_signature(given, network(torch.from_numpy(given)).detach().numpy())
    model = made(network, torch.from_numpy(given[:2]))
    mlflow.pytorch.save_model(model, str(folder), signature=signature, pip_requirements=["torch"], **options)
    return rows.astype(np.float32), "torch"


def custom(folder: Path) -> Saved:
    """A model of MLflow's pyfunc that computes on a frame."""
    import mlflow

    class Sum(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input.sum(axis=1).to_numpy()

    rows, _ = numbers()
    signature = mlflow.models.infer_signature(rows, rows.sum(axis=1).to_numpy())
    mlflow.pyfunc.save_model(str(folder), python_model=Sum(), signature=signature, pip_requirements=["pandas"])
    return rows, "mlflow.pyfunc, pandas"


MODELS: dict[str, Callable[[Path], Saved]] = {
    "columns of text and numbers, logistic regression": logistic_mixed,
    "columns of text and numbers, histogram boosting": boosting_mixed,
    "columns of text and numbers, random forest": forest_mixed,
    "random forest": forest,
    "LightGBM": lightgbm,
    "LightGBM, categories": lightgbm_categories,
    "XGBoost": xgboost,
    "XGBoost, categories": xgboost_categories,
    "CatBoost, categories": catboost,
    "TF-IDF, logistic regression": texts,
    "PyTorch": pytorch,
    "PyTorch, exported": exported_program,
    "TorchScript": torchscript,
    "ONNX": onnx,
    "custom pyfunc": custom,
}
