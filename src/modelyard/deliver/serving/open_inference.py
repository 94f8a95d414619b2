"""Open Inference Protocol v2: tensors in JSON or raw after it, into columns; predictions into tensors."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from modelyard.deliver.serving import raw_tensors
from modelyard.deliver.serving.bodies import decode_object
from modelyard.deliver.serving.columns import MOST_FLOAT, found, listed
from modelyard.deliver.serving.errors import BadInput, Declined
from modelyard.deliver.serving.mlflow_scoring import of_items
from modelyard.deliver.serving.parsed import Answer, Parsed, array_of, by_name, encode
from modelyard.deliver.serving.raw_tensors import DTYPES
from modelyard.deliver.serving.signature import Signature

DATATYPES = {str(np.dtype(dtype)): name for name, dtype in DTYPES.items() if name != "BYTES"}
SIGNATURE_DATATYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
INPUT, OUTPUT = "input", "predict"
MOST_DIMENSIONS, MOST_ROWS = 32, 2**40


def parse_v2(body: bytes, signature: Signature, model: str, version: str, json_length: int | None = None) -> Parsed:
    """An inference request; `json_length` bytes of JSON are followed by raw tensors. Raises BadInput."""
    if json_length is not None and json_length > len(body):
        raise BadInput(f"Inference-Header-Content-Length is {json_length}; the body has {len(body)} bytes.")
    value = decode_object(body if json_length is None else body[:json_length])
    tensors = value.get("inputs")
    if not isinstance(tensors, list) or not tensors or not all(isinstance(item, dict) for item in tensors):
        raise BadInput("inputs must be a list of tensors, each with name, shape, datatype and data.")
    raw = memoryview(body)[json_length:] if json_length is not None else memoryview(b"")
    arrays: dict[str, Any] = {}
    was_raw = False
    for item in tensors:
        name, size = str(item.get("name")), _raw_size(item)
        if name in arrays:
            raise BadInput(f"Tensor {name!r} is given twice.")
        if size is None:
            arrays[name] = _json_tensor(item)
            continue
        was_raw = True
        arrays[name] = raw_tensors.decode(name, str(item.get("datatype")), _shape(item), raw[:size], size)
        raw = raw[size:]
    if len(raw):
        raise BadInput(f"{len(raw)} bytes follow the last tensor; check binary_data_size.")
    answer = _answering(value, signature, model, version)
    if signature.item is not None and len(arrays) == 1:
        return of_items(next(iter(arrays.values())).reshape(-1).tolist(), signature.item, answer)
    if signature.tensors:
        return _tensors(arrays, signature, answer)
    return _columns(arrays, signature, answer, was_raw)


def _columns(arrays: dict[str, Any], signature: Signature, answer: Callable[[Any], Answer], was_raw: bool) -> Parsed:
    """One tensor of all columns, or a tensor for each."""
    columns: dict[str, list[Any]] = {}
    name, first = next(iter(arrays.items()))
    width = len(signature.columns)
    whole = first.ndim == 2 and width in (0, first.shape[1])
    if len(arrays) == 1 and (whole or (width != 1 and name not in signature.names)):
        if not whole:
            raise Declined(f"Tensor {name!r} has shape {list(first.shape)}; expected [rows, {width or 'columns'}].")
        floats = all(column.type in ("double", "float") for column in signature.columns)
        if floats and first.dtype.kind in "fiu" and (was_raw or not width):
            matrix = first.astype(signature.matrix_dtype) if width else first
            return Parsed({}, len(matrix), answer, signature.rounded(matrix) if width else matrix)
        names = signature.names or [str(index) for index in range(first.shape[1])]
        columns = {name: first[:, index].tolist() for index, name in enumerate(names)}
    else:
        for name, array in arrays.items():
            if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
                raise Declined(f"Tensor {name!r} has shape {list(array.shape)}; expected [rows] or [rows, 1].")
            columns[name] = array.reshape(-1).tolist()
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise BadInput(f"The tensors have different numbers of rows: {sorted(lengths)}.")
    rows = lengths.pop()
    return Parsed(signature.take(columns, rows), rows, answer)


def _tensors(arrays: dict[str, Any], signature: Signature, answer: Callable[[Any], Answer]) -> Parsed:
    one = signature.one_tensor
    if one is not None:
        if len(arrays) != 1:
            raise Declined(f"The model takes one tensor; found {', '.join(arrays)}.")
        matrix = one.array(next(iter(arrays.values())))
        return Parsed({}, len(matrix), answer, matrix)
    missing = [tensor.name for tensor in signature.tensors if tensor.name not in arrays]
    if missing:
        raise Declined(f"Missing tensor(s): {', '.join(missing)}.")
    taken = {tensor.name: tensor.array(arrays[tensor.name]) for tensor in signature.tensors}
    return Parsed(taken, len(next(iter(taken.values()))), answer)


def _shape(item: dict[str, Any]) -> list[int]:
    shape = item.get("shape")
    if not isinstance(shape, list):
        raise BadInput(f"Tensor {item.get('name')!r} needs a shape and data.")
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < MOST_ROWS for size in shape):
        raise BadInput(f"Tensor {item.get('name')!r}: {str(shape)[:40]} is no shape; expected sizes from 0 on.")
    return shape


def _raw_size(item: dict[str, Any]) -> int | None:
    parameters = item.get("parameters")
    if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0 or item.get("data") is not None:
        raise BadInput(f"Tensor {item.get('name')!r}: binary_data_size must be a count of bytes, without data.")
    return size


def _json_tensor(item: dict[str, Any]) -> Any:
    name, shape, data, datatype = item.get("name"), _shape(item), item.get("data"), item.get("datatype")
    if data is None:
        raise BadInput(f"Tensor {name!r} needs a shape and data.")
    if not isinstance(datatype, str) or datatype not in DTYPES or datatype == "FP16":
        known = ", ".join(kind for kind in DTYPES if kind != "FP16")
        raise BadInput(f"Tensor {name!r}: the datatype {str(datatype)[:40]!r} is not known in JSON; one of {known}.")
    flat = _flat(data, len(shape))
    if len(flat) != math.prod(shape):
        raise BadInput(f"Tensor {name!r}: its data does not fill the shape {shape}.")
    dtype = np.dtype(DTYPES[datatype])
    for place, value in enumerate(flat):
        if not _is_of(dtype, value):
            raise BadInput(f"Tensor {name!r}, value {place}: expected {datatype}, found {found(value)}.")
    with np.errstate(over="ignore"):  # too large for single precision is infinite, as in a column
        return np.array(flat, dtype=dtype).reshape(shape)


def _flat(data: Any, dimensions: int) -> list[Any]:
    """The values in row-major order, of data that is flat or nested as deep as the tensor has dimensions."""
    if not isinstance(data, list):
        return [data]
    for _ in range(dimensions - 1):
        if not any(isinstance(item, list) for item in data):
            break
        data = [value for item in data for value in (item if isinstance(item, list) else [item])]
    return data


def _is_of(dtype: "np.dtype[Any]", value: Any) -> bool:
    if dtype.kind == "b":
        return type(value) is bool
    if dtype.kind == "f":
        return value is None or type(value) is float or (type(value) is int and abs(value) <= MOST_FLOAT)
    if dtype.kind in "iu":
        return type(value) is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    return value is None or type(value) is str


def _wanted(value: dict[str, Any]) -> dict[str, bool]:
    """The outputs that a request asks for, and whether raw; none for all. Raises BadInput."""
    asked = value.get("outputs")
    if asked is None:
        return {}
    if not isinstance(asked, list) or not all(
        isinstance(one, dict) and type(one.get("name")) is str for one in asked
    ):
        raise BadInput("outputs must be a list of objects, each with a name.")
    parameters = {one["name"]: one.get("parameters") for one in asked}
    raw = {name: given.get("binary_data") if isinstance(given, dict) else None for name, given in parameters.items()}
    return {name: _raw_all(value) if flag is None else flag is True for name, flag in raw.items()}


def _raw_all(value: dict[str, Any]) -> bool:
    parameters = value.get("parameters")
    return isinstance(parameters, dict) and parameters.get("binary_data_output") is True


def _answering(value: dict[str, Any], signature: Signature, model: str, version: str) -> Callable[[Any], Answer]:
    """The function that writes the predictions as the request asked for them; it raises BadInput. Raises BadInput."""
    identity, wanted, raw_all = value.get("id"), _wanted(value), _raw_all(value)

    def answer(predictions: Any) -> Answer:
        outputs: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for name, array in _chosen(_outputs(predictions, signature), wanted).items():
            output: dict[str, Any] = {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES.get(str(array.dtype), "BYTES"),
            }
            if wanted.get(name, raw_all):
                tail.append(raw_tensors.encode(array))
                output["parameters"] = {"binary_data_size": len(tail[-1])}
            else:
                output["data"] = array.reshape(-1).tolist()
            outputs.append(output)
        answered: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
        if identity is not None:
            answered["id"] = identity
        head = encode(answered)
        if not tail:
            return Answer(head)
        return Answer(b"".join([head, *tail]), "application/octet-stream", len(head))

    return answer


def _chosen(arrays: dict[str, Any], wanted: dict[str, bool]) -> dict[str, Any]:
    """The outputs that are wanted, in the model's order. Raises Declined for one that is not there."""
    if not wanted:
        return arrays
    if list(wanted) == [OUTPUT] and len(arrays) == 1:  # what a sole output is called where it has no name
        return {OUTPUT: next(iter(arrays.values()))}
    if all(len(array) == 0 for array in arrays.values()):  # the model was not asked for no rows
        return {name: next(iter(arrays.values())) for name in wanted}
    unknown = next((name for name in wanted if name not in arrays), None)
    if unknown is not None:
        raise Declined(f"The model has no output {unknown[:40]!r}; its outputs: {listed(list(arrays))}.")
    return {name: array for name, array in arrays.items() if name in wanted}


def _outputs(predictions: Any, signature: Signature) -> dict[str, Any]:
    """Arrays of the protocol's types by name; what has none of them is text: a time's, or JSON.

    An array without names is called what the signature calls it, as in the metadata.
    """
    arrays = {name: _typed(array_of(values)) for name, values in by_name(predictions).items()}
    if "" not in arrays:
        return arrays
    names, array = [str(output["name"]) for output in signature.outputs if output.get("name")], arrays[""]
    if len(names) > 1 and array.ndim == 2 and array.shape[1] == len(names):
        return dict(zip(names, array.T, strict=True))
    return {names[0] if len(names) == 1 else OUTPUT: array}


def _typed(array: Any) -> Any:
    if array.dtype.kind in "biufU":
        return array
    if array.dtype.kind in "mM":
        array = array.astype(f"{array.dtype.kind}8[us]")  # finer ones would become numbers
    values = array.reshape(-1).tolist()
    if {type(value) for value in values} <= {int, float, type(None)}:
        return np.array(values, dtype=float).reshape(array.shape)
    texts = np.empty(len(values), dtype=object)
    texts[:] = [_as_text(value) for value in values]
    return texts.reshape(array.shape)


def _as_text(value: Any) -> str | None:
    written = msgspec.json.decode(encode(value))
    return written if written is None or isinstance(written, str) else msgspec.json.encode(written).decode()


def describe_v2(model: str, version: str, signature: Signature) -> bytes:
    """The v2 metadata of the model."""
    inputs = [
        {"name": column.name, "datatype": SIGNATURE_DATATYPES.get(column.type, "BYTES"), "shape": [-1]}
        for column in signature.columns
    ]
    inputs += [
        {
            "name": tensor.name or INPUT,
            "datatype": DATATYPES.get(tensor.dtype, "BYTES"),
            "shape": list(tensor.shape),
        }
        for tensor in signature.tensors
    ]
    if signature.item is not None:
        inputs = [{"name": INPUT, "datatype": SIGNATURE_DATATYPES.get(signature.item.type, "BYTES"), "shape": [-1]}]
    outputs = [_described(item) for item in signature.outputs] or [
        {"name": OUTPUT, "datatype": "FP64", "shape": [-1]}
    ]
    described = {"name": model, "versions": [version], "platform": "mlflow", "inputs": inputs, "outputs": outputs}
    return msgspec.json.encode(described)


def example_tensors(signature: Signature, row: Any) -> list[dict[str, Any]]:
    """One row as an inference request's tensors."""
    if signature.one_tensor is not None:
        data = np.array([row])
        shown = {"name": signature.one_tensor.name or INPUT, "shape": list(data.shape)}
        datatype = DATATYPES.get(signature.one_tensor.dtype, "BYTES")
        return [{**shown, "datatype": datatype, "data": data.reshape(-1).tolist()}]
    if signature.item is not None:
        datatype = SIGNATURE_DATATYPES.get(signature.item.type, "BYTES")
        return [{"name": INPUT, "shape": [1], "datatype": datatype, "data": [row]}]
    return [
        {
            "name": column.name,
            "shape": [1],
            "datatype": SIGNATURE_DATATYPES.get(column.type, "BYTES"),
            "data": [row.get(column.name)],
        }
        for column in signature.columns
    ]


def _described(output: dict[str, Any]) -> dict[str, Any]:
    name = output.get("name") or OUTPUT
    if output.get("type") == "tensor":
        spec = output["tensor-spec"]
        return {"name": name, "datatype": DATATYPES.get(spec["dtype"], "BYTES"), "shape": spec["shape"]}
    return {"name": name, "datatype": SIGNATURE_DATATYPES.get(output.get("type", ""), "BYTES"), "shape": [-1]}
