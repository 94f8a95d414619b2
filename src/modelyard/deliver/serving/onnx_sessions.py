"""ONNX Runtime, held to one thread: a worker serves one call at a time, and other workers need the cores."""

from pathlib import Path
from typing import Any

from modelyard.domain.errors import MissingExtra


def opened(file: Path) -> Any:
    """A session of the graph in a file. Raises MissingExtra, and what ONNX Runtime raises."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx", "Serving an ONNX model") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
