"""LitServe as its quick start shows it. python lit.py MODEL.pkl PORT."""

import pickle
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np


class Api(litserve.LitAPI):
    def setup(self, device: Any) -> None:
        self.model = pickle.loads(Path(sys.argv[1]).read_bytes())

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads an annotation as a schema
        return np.array(request["dataframe_split"]["data"])

    def predict(self, x: Any) -> Any:
        return self.model.predict_proba(x)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
