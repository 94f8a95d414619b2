"""FastAPI as its tutorial shows it: a typed body, a plain function. python fast.py MODEL.pkl PORT."""

import pickle
import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = pickle.loads(Path(sys.argv[1]).read_bytes())
app = FastAPI()


class Split(BaseModel):
    columns: list[str]
    data: list[list[float]]


class Body(BaseModel):
    dataframe_split: Split


@app.post("/invocations")
async def predict(body: Body) -> dict[str, list[list[float]]]:
    return {"predictions": MODEL.predict_proba(np.array(body.dataframe_split.data)).tolist()}


uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="warning")
