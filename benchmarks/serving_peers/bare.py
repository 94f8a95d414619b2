"""The floor: a bare ASGI handler on uvicorn, predicting each request alone or what one loop turn brought.

python bare.py MODEL.pkl PORT alone|batched
"""

import asyncio
import pickle
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvicorn

MODEL = pickle.loads(Path(sys.argv[1]).read_bytes())
HEADERS = [(b"content-type", b"application/json")]
waiting: list[tuple[Any, asyncio.Future[Any]]] = []


def predict_waiting() -> None:
    batch, waiting[:] = [*waiting], []
    found = MODEL.predict_proba(np.concatenate([matrix for matrix, _ in batch]))
    start = 0
    for matrix, future in batch:
        future.set_result(found[start : start + len(matrix)])
        start += len(matrix)


async def predicted(matrix: Any) -> Any:
    if sys.argv[3] == "alone":
        return MODEL.predict_proba(matrix)
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
