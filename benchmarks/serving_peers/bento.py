"""BentoML as its quick start shows it; the model's file is in $MODEL."""

import os
import pickle
from pathlib import Path

import bentoml
import numpy as np


@bentoml.service(workers=1)
class Model:
    def __init__(self) -> None:
        self.model = pickle.loads(Path(os.environ["MODEL"]).read_bytes())

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        return self.model.predict_proba(np.array(rows)).tolist()
