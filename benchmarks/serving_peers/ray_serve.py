"""Ray Serve as its quick start shows it. python ray_serve.py MODEL.pkl PORT."""

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Model:
    def __init__(self, file: str) -> None:
        self.model = pickle.loads(Path(file).read_bytes())

    async def __call__(self, request: Request) -> dict[str, Any]:
        content = await request.json()
        return {"predictions": self.model.predict_proba(np.array(content["dataframe_split"]["data"])).tolist()}


ray.init(num_cpus=2, include_dashboard=False, logging_level="warning", log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(Model.bind(sys.argv[1]), route_prefix="/invocations")
threading.Event().wait()
