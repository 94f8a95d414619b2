"""An inference request and its answer, between gRPC's messages and the JSON with raw tensors that workers take."""

import math
from typing import Any

import msgspec

from modelyard.deliver.serving.errors import BadInput

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
PARAMETERS = ("bool_param", "int64_param", "string_param", "double_param", "uint64_param")


def request(message: Any) -> tuple[bytes, int]:
    """(body, how many bytes of it are JSON). Raises BadInput."""
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise BadInput(f"{len(message.inputs)} inputs and {len(raw)} raw_input_contents; one for each is expected.")
    parameters = _parameters(message.parameters)
    content: dict[str, Any] = {
        "inputs": [_input(tensor, raw[place] if raw else None) for place, tensor in enumerate(message.inputs)]
    }
    if raw:
        parameters["binary_data_output"] = True
    if message.outputs:
        content["outputs"] = [{"name": output.name} for output in message.outputs]
    if message.id:
        content["id"] = message.id
    head = msgspec.json.encode({**content, "parameters": parameters})
    return b"".join([head, *raw]), len(head)


def _input(tensor: Any, raw: bytes | None) -> dict[str, Any]:
    given = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
    if raw is not None:
        if tensor.HasField("contents"):
            raise BadInput(f"Tensor {tensor.name!r} has contents beside raw_input_contents.")
        return {**given, "parameters": {"binary_data_size": len(raw)}}
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise BadInput(f"Tensor {tensor.name!r}: {tensor.datatype[:40]!r} has no contents; send raw_input_contents.")
    data: list[Any] = list(getattr(tensor.contents, field))
    if tensor.datatype == "BYTES":
        data = [_text(tensor.name, value) for value in data]
    return {**given, "data": data}


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadInput(f"Tensor {name!r}: a text is not UTF-8.") from None


def _parameters(entries: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        for field in PARAMETERS:
            if entry.value.HasField(field):
                found[entry.key] = getattr(entry.value, field)
    return found


def response(body: bytes, json_length: int | None, answer: Any) -> Any:
    """The answer message, filled from a worker's answer."""
    content = msgspec.json.decode(body if json_length is None else body[:json_length])
    answer.model_name, answer.model_version = content["model_name"], str(content.get("model_version") or "")
    answer.id = content.get("id") or ""
    raw = memoryview(body)[json_length:] if json_length is not None else memoryview(b"")
    for output in content["outputs"]:
        tensor = answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is not None:
            answer.raw_output_contents.append(bytes(raw[:size]))
            raw = raw[size:]
            continue
        data = output["data"]
        if output["datatype"] == "BYTES":
            data = [b"" if value is None else str(value).encode() for value in data]
        if output["datatype"].startswith("FP"):
            data = [math.nan if value is None else value for value in data]
        getattr(tensor.contents, CONTENTS[output["datatype"]]).extend(data)
    return answer
