"""The floor: a bare ASGI handler on uvicorn, predicting each request alone or what one loop turn brought.

python bare.py MODEL.pkl|MODEL.onnx PORT alone|batched
"""

import asyncio
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn

HEADERS = [(b"content-type", b"application/json")]
waiting: list[tuple[Any, asyncio.Future[Any]]] = []


def opened(file: Path) -> Callable[[Any], Any]:
    """The function from rows to probabilities."""
    if file.suffix != ".onnx":
        return pickle.loads(file.read_bytes()).predict_proba
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    (given,) = session.get_inputs()
    kind = "float32" if given.type == "tensor(float)" else "float64"
    return lambda rows: session.run(None, {given.name: rows.astype(kind)})[0]


predict = opened(Path(sys.argv[1]))


def predict_waiting() -> None:
    batch, waiting[:] = [*waiting], []
    found = predict(np.concatenate([matrix for matrix, _ in batch]))
    start = 0
    for matrix, future in batch:
        future.set_result(found[start : start + len(matrix)])
        start += len(matrix)


async def predicted(matrix: Any) -> Any:
    if sys.argv[3] == "alone":
        return predict(matrix)
    loop = asyncio.get_running_loop()
    if not waiting:
        loop.call_soon(predict_waiting)
    future: asyncio.Future[Any] = loop.create_future()
    waiting.append((matrix, future))
    return await future


async def app(scope: Any, receive: Any, send: Any) -> None:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message["body"])
        more = message["more_body"]
    rows = msgspec.json.decode(b"".join(parts))["dataframe_split"]["data"]
    found = await predicted(np.array(rows))
    body = msgspec.json.encode({"predictions": found.tolist()})
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, length]})
    await send({"type": "http.response.body", "body": body})


uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False, log_level="warning",
            lifespan="off")  # fmt: skip
