"""The messages of the Open Inference Protocol's gRPC form, made from a table: nothing to compile, nothing generated.

Each field is `name:number:type`, with `*` where it repeats. Maps are repeated entries on the wire, and are so here.
Source: the protocol's open_inference_grpc.proto, version 2.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
TENSOR = "name:1:string datatype:2:string shape:3:int64* parameters:4:ParameterEntry* contents:5:InferTensorContents"
TABLE = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1:bool",
    "ModelReadyRequest": "name:1:string version:2:string",
    "ModelReadyResponse": "ready:1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1:string version:2:string extensions:3:string*",
    "ModelMetadataRequest": "name:1:string version:2:string",
    "TensorMetadata": "name:1:string datatype:2:string shape:3:int64*",
    "ModelMetadataResponse": "name:1:string versions:2:string* platform:3:string "
    "inputs:4:TensorMetadata* outputs:5:TensorMetadata*",
    "InferParameter": "bool_param:1:bool int64_param:2:int64 string_param:3:string double_param:4:double "
    "uint64_param:5:uint64",
    "ParameterEntry": "key:1:string value:2:InferParameter",
    "InferTensorContents": "bool_contents:1:bool* int_contents:2:int32* int64_contents:3:int64* "
    "uint_contents:4:uint32* uint64_contents:5:uint64* fp32_contents:6:float* fp64_contents:7:double* "
    "bytes_contents:8:bytes*",
    "InferTensor": TENSOR,
    "RequestedOutput": "name:1:string parameters:2:ParameterEntry*",
    "ModelInferRequest": "model_name:1:string model_version:2:string id:3:string parameters:4:ParameterEntry* "
    "inputs:5:InferTensor* outputs:6:RequestedOutput* raw_input_contents:7:bytes*",
    "ModelInferResponse": "model_name:1:string model_version:2:string id:3:string parameters:4:ParameterEntry* "
    "outputs:5:InferTensor* raw_output_contents:6:bytes*",
}


def classes() -> dict[str, Any]:
    """The message classes by name, in a pool of their own: a client's in this process stay apart."""
    file = descriptor_pb2.FileDescriptorProto(name="modelyard/open_inference.proto", package=PACKAGE)
    for name, fields in TABLE.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            _add(message, *field.split(":"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in TABLE}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


def _add(message: Any, name: str, number: str, kind: str) -> None:
    field_type = descriptor_pb2.FieldDescriptorProto
    plain = kind.rstrip("*")
    field = message.field.add(name=name, number=int(number))
    field.label = field_type.LABEL_REPEATED if kind.endswith("*") else field_type.LABEL_OPTIONAL
    if plain in TABLE:
        field.type, field.type_name = field_type.TYPE_MESSAGE, f".{PACKAGE}.{plain}"
        return
    field.type = field_type.Type.Value(f"TYPE_{plain.upper()}")
    if kind.endswith("*") and plain not in ("string", "bytes"):
        field.options.packed = True
